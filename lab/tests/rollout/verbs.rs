//! What people do to a run: wait for it, approve it, change it, look before they leap.

use liveupdate_crds::IntOrPercent;
use liveupdate_crds::update::{Approval, Bundle};
use liveupdate_lab::testbed::machines::{NEW, OLD, bundle, digest};

use crate::bed::{is_clean, run, says, step};

#[test]
fn kubectl_wait_sees_the_end_and_the_next_release_follows_at_once() {
    const NEXT: &str = "7.3.6-lu2";
    run(async |bed| {
        let pool = bed.pool("waited", 2, |_, world| world.bundles.push(bundle(NEXT))).await;
        pool.roll(|_| {}).await;
        let said = bed.kubectl("wait --for=condition=Succeeded lu/waited --timeout=90s").await;
        says(&said, &["liveupdate.liveupdate.dev/waited condition met"]);
        bed.bed.apply_update(&pool.update("waited-next", NEXT)).await.unwrap();
        bed.kubectl("wait --for=condition=Succeeded lu/waited-next --timeout=90s").await;
        let table = bed.kubectl("get lu waited waited-next").await;
        says(&table, &["waited 7.3.5-lu2 1/1 all 2 2 0", "waited-next 7.3.6-lu2 1/1 all 2 2 0"]);
        assert_eq!(table.matches("Completed").count(), 2, "{table}");
        for number in [1, 2] {
            assert_eq!(pool.node(number).world().running().unwrap().unwrap().release, NEXT);
        }
    });
}

#[test]
fn a_dry_run_gives_verdicts_and_touches_nothing() {
    run(async |bed| {
        let pool = bed
            .pool("dry", 2, |number, world| {
                if number == 2 {
                    world.devices[0].ceiling = None;
                }
            })
            .await;
        pool.roll(|update| update.spec.strategy.dry_run = true).await;
        let status = bed.update("dry", "a verdict on both", |status| status.counts.blocked == 1).await;
        assert_eq!((status.state.as_str(), status.in_flight.len()), ("DryRun", 0));
        let described = bed.kubectl("describe lu dry").await;
        says(&described, &["dry run: 1 clear or waiting, 1 blocked", "dry-2"]);
        pool.node_update("dry-1", "a verdict", |status| status.verdict == "Preserved 1").await;
        pool.node_update("dry-2", "Blocked", |status| status.state == "Blocked").await;
        says(
            &bed.kubectl("get nlu dry-1 dry-2").await,
            &["Queued WaitingForTurn 1 Preserved 1", "1 Blocked"],
        );
        for number in [1, 2] {
            assert_eq!(pool.node(number).world().running().unwrap().unwrap().release, OLD);
            assert!(is_clean(&bed.bed.node(&pool.name_of(number)).await.unwrap()));
        }
        // The same object, in earnest.
        bed.kubectl(r#"patch lu dry --type=merge -p {"spec":{"strategy":{"dryRun":false}}}"#).await;
        bed.update("dry", "one updated", |status| status.counts.updated == 1).await;
    });
}

#[test]
fn an_edit_of_the_target_is_another_revision_and_begins_again() {
    const GOOD: &str = "7.3.6-lu2";
    run(async |bed| {
        let pool = bed.pool("edited", 3, |_, world| world.bundles.push(bundle(GOOD))).await;
        let canary = |update: &mut liveupdate_crds::LiveUpdate| {
            let mut first = step("canary", IntOrPercent::Int(1));
            first.approval = Approval::Required;
            let rest = step("rest", IntOrPercent::Percent("100%".into()));
            update.spec.strategy.steps = vec![first, rest];
        };
        pool.roll(canary).await;
        let first = bed.update("edited", "approval", |s| s.state == "WaitingForApproval").await;
        assert_eq!(first.counts.updated, 1);
        pool.roll(|update| {
            canary(update);
            update.spec.target.release = GOOD.to_owned();
            update.spec.target.bundle = Some(Bundle { name: GOOD.to_owned(), digest: digest(GOOD) });
        })
        .await;
        let second = bed
            .update("edited", "approval again", |s| {
                s.state == "WaitingForApproval" && s.revision != first.revision
            })
            .await;
        assert_eq!((second.counts.updated, second.observed_generation), (1, 2));
        // An approval that was meant for the first kernel lets nothing through.
        bed.kubectl(&format!("annotate lu edited liveupdate.dev/approve=canary@{}", first.revision)).await;
        bed.plugin(&["approve", "edited"]).await;
        bed.success("edited").await;
        for number in 1..=3 {
            let record = pool.stands(number, "Updated", "Updated").await;
            assert_eq!((record.kernel.as_str(), &record.revision), (GOOD, &second.revision));
        }
    });
}

#[test]
fn a_step_is_approved_by_plugin_or_by_plain_annotation() {
    run(async |bed| {
        let pool = bed.pool("approved", 3, |_, _| {}).await;
        pool.roll(|update| {
            let mut steps = vec![
                step("canary", IntOrPercent::Int(1)),
                step("early", IntOrPercent::Int(2)),
                step("rest", IntOrPercent::Int(3)),
            ];
            for step in &mut steps {
                step.approval = Approval::Required;
            }
            update.spec.strategy.steps = steps;
        })
        .await;
        let waits = async |step: &str, updated: i32| {
            let wanted = |status: &liveupdate_crds::LiveUpdateStatus| {
                let at = status.step.as_ref().map(|step| step.name.as_str());
                status.state == "WaitingForApproval" && at == Some(step)
            };
            let status = bed.update("approved", step, wanted).await;
            assert_eq!(status.counts.updated, updated, "no more than the step allows");
            status.revision
        };
        waits("canary", 1).await;
        let table = bed.kubectl("get lu approved").await;
        says(&table, &["approved 7.3.5-lu2 1/4 canary 1 3 0", "WaitingForApproval"]);
        let described = bed.kubectl("describe lu approved").await;
        says(&described, &["kubectl liveupdate approve approved", "liveupdate.dev/approve: canary@"]);
        bed.plugin(&["approve", "approved"]).await;
        let revision = waits("early", 2).await;
        bed.kubectl(&format!("annotate --overwrite lu approved liveupdate.dev/approve=early@{revision}"))
            .await;
        waits("rest", 3).await;
        bed.plugin(&["approve", "approved", "rest"]).await;
        let status = bed.success("approved").await;
        says(&status.verbs.join(" "), &["rest@"]);
        for number in 1..=3 {
            assert_eq!(pool.node(number).world().running().unwrap().unwrap().release, NEW);
        }
    });
}
