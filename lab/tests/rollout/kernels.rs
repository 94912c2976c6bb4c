//! Kernels that do not come up, or not the right ones.

use liveupdate_crds::update::Bundle;
use liveupdate_crds::{IntOrPercent, LiveUpdate};
use liveupdate_host::simulated::Fault;
use liveupdate_lab::testbed::machines::{NEW, OLD, bundle, digest};

use crate::bed::{is_clean, is_marked, is_ready, run, says, spent, step};

fn canary(update: &mut LiveUpdate) {
    update.spec.strategy.steps =
        vec![step("canary", IntOrPercent::Int(1)), step("rest", IntOrPercent::Percent("100%".into()))];
}

#[test]
fn a_node_that_never_comes_back_stops_the_run_until_somebody_accepts_it() {
    run(async |bed| {
        let pool = bed
            .pool("lost", 3, |number, world| {
                if number == 1 {
                    world.faults = vec![Fault::NeverReturns];
                }
            })
            .await;
        let boots = [2, 3].map(|number| pool.node(number).world().running().unwrap());
        pool.roll(|update| {
            update.spec.deadlines.r#return = "3s".to_owned();
            canary(update);
        })
        .await;
        let status = bed.update("lost", "stopped", spent).await;
        assert_eq!((status.failures, status.counts.failed, status.counts.updated), (1, 1, 0));
        says(&bed.kubectl("get lu lost").await, &["lost 7.3.5-lu2 1/2 canary 0 3 1 FailureBudgetSpent"]);
        says(&bed.kubectl("get nlu lost-1").await, &["lost-1 7.3.4-lu1 Failed DidNotReturn"]);
        let described = bed.kubectl("describe lu lost").await;
        says(
            &described,
            &["The node did not come back in time.", "lost-1", "kubectl liveupdate resume lost"],
        );
        let events = bed.kubectl("get events -A --field-selector involvedObject.name=lost-1").await;
        says(&events, &["Warning DidNotReturn"]);

        // Dead it is found by Kubernetes, too. Nobody else was started meanwhile (invariant 4).
        bed.node("lost-1", "found dead", |node| !is_ready(node)).await;
        for (number, boot) in [2, 3].into_iter().zip(boots) {
            assert_eq!(pool.node(number).world().running().unwrap(), boot, "the same boot");
            let record = pool.stands(number, "Queued", "WaitingForTurn").await;
            assert_eq!(record.attempt, "");
        }
        let revision = bed.update("lost", "still stopped", spent).await.revision;
        bed.kubectl(&format!("annotate lu lost liveupdate.dev/accept-failure={revision}")).await;
        bed.success("lost").await;
        says(&bed.kubectl("get lu lost").await, &["2 3 1", "CompletedWithSkipped"]);
        says(&bed.kubectl("describe lu lost").await, &["left out: lost-1"]);
        // Accepted, and still not to be used: nobody knows what is with it.
        assert!(is_marked(&bed.bed.node("lost-1").await.unwrap()));

        pool.node(1).world().change(|world| world.faults.clear()).unwrap();
        pool.node(1).world().power_cut().unwrap();
        bed.node("lost-1", "back and clean", |node| is_ready(node) && is_clean(node)).await;
        assert_eq!(pool.node(1).world().running().unwrap().unwrap().release, OLD);
    });
}

#[test]
fn a_bundle_that_comes_up_as_another_kernel_is_tried_once() {
    const GOOD: &str = "7.3.6-lu2";
    run(async |bed| {
        let pool = bed
            .pool("wrong", 3, |_, world| {
                for bundle in world.bundles.iter_mut().filter(|bundle| bundle.release == NEW) {
                    bundle.boots_as = Some("7.3.5-lu9".into());
                }
                world.bundles.push(bundle(GOOD));
            })
            .await;
        pool.roll(|update| {
            update.spec.strategy.max_failures = IntOrPercent::Int(2);
            canary(update);
        })
        .await;
        pool.stands(1, "Failed", "WrongKernel").await;
        for number in [2, 3] {
            let record = pool.stands(number, "Blocked", "BadTarget").await;
            assert_eq!(record.attempt, "", "no other node tried it");
        }
        let wanted = |status: &liveupdate_crds::LiveUpdateStatus| status.counts.blocked == 2;
        let status = bed.update("wrong", "two blocked", wanted).await;
        assert_eq!((status.bad_targets, status.failures), (vec![digest(NEW)], 1));
        says(
            &bed.kubectl("get nlu wrong-1 wrong-2").await,
            &["wrong-1 7.3.5-lu9 Failed WrongKernel", "wrong-2 7.3.4-lu1 Blocked BadTarget"],
        );
        let described = bed.kubectl("describe lu wrong").await;
        says(&described, &["Bad Targets:", &digest(NEW), "came up as another kernel"]);
        assert!(is_marked(&bed.bed.node("wrong-1").await.unwrap()));

        // Another target is another revision, and nothing of the bad one stands in its way.
        pool.roll(|update| {
            update.spec.target.release = GOOD.to_owned();
            update.spec.target.bundle = Some(Bundle { name: GOOD.to_owned(), digest: digest(GOOD) });
            canary(update);
        })
        .await;
        let status = bed.success("wrong").await;
        assert_eq!((status.counts.updated, status.failures), (3, 0));
        assert_eq!(status.bad_targets, [digest(NEW)], "it is still not to be tried");
        for number in 1..=3 {
            bed.node(&pool.name_of(number), "clean", is_clean).await;
            assert_eq!(pool.node(number).world().running().unwrap().unwrap().release, GOOD);
        }
    });
}
