//! What devices and their holders do to a run.

use liveupdate_crds::IntOrPercent;
use liveupdate_crds::update::Bundle;
use liveupdate_host::simulated::Fault;
use liveupdate_host::{Host as _, HostError};
use liveupdate_lab::testbed::machines::{HOLDER, NEW, bundle, digest};

use crate::bed::{Bed, Pool, is_clean, is_marked, run, says, spent, step};

#[test]
fn a_blackout_over_the_budget_is_a_failure() {
    run(async |bed| {
        let pool = bed
            .pool("dark", 2, |number, world| {
                if number == 1 {
                    world.durations.reclaim = 60_000;
                }
            })
            .await;
        pool.roll(|update| {
            update.spec.blackout_budget = Some("30s".to_owned());
            update.spec.strategy.max_unavailable = IntOrPercent::Int(1);
        })
        .await;
        let status = bed.update("dark", "stopped", spent).await;
        assert_eq!((status.counts.failed, status.counts.updated), (1, 0));
        let record = pool.stands(1, "Failed", "BlackoutOverBudget").await;
        assert_eq!(record.kernel, NEW);
        assert!(record.blackout_ms.unwrap() >= 60_000, "{record:?}");
        let table = bed.kubectl("get nlu dark-1").await;
        says(&table, &["dark-1 7.3.5-lu2 Failed BlackoutOverBudget", "(simulated)"]);
        says(&bed.kubectl("describe lu dark").await, &["BlackoutOverBudget", "dark-1"]);
        assert!(is_marked(&bed.bed.node("dark-1").await.unwrap()));
        // Accepted: it runs the target and is Ready, so that its mark goes.
        bed.plugin(&["resume", "dark"]).await;
        bed.success("dark").await;
        bed.node("dark-1", "clean", is_clean).await;
        says(&bed.kubectl("describe lu dark").await, &["left out: dark-1"]);
    });
}

/// Two nodes, of which the first one's holder does not come for its files, and an update of them.
async fn overdue<'a>(bed: &'a Bed, name: &str) -> Pool<'a> {
    let pool = bed
        .pool(name, 2, |number, world| {
            if number == 1 {
                world.faults = vec![Fault::ReclaimOverdue { holder: HOLDER.into() }];
            }
        })
        .await;
    pool.roll(|update| {
        update.spec.deadlines.reclaim = "3s".to_owned();
        let (one, all) = (IntOrPercent::Int(1), IntOrPercent::Percent("100%".into()));
        update.spec.strategy.steps = vec![step("canary", one), step("rest", all)];
    })
    .await;
    pool
}

/// Nothing in custody is dropped while its holder may come for it (invariant 8): the node waits for it.
#[test]
fn invariant_8_a_holder_that_does_not_come_leaves_its_node_quarantined() {
    run(async |bed| {
        let pool = overdue(bed, "overdue").await;
        let record = pool.stands(1, "Failed", "Quarantined").await;
        assert_eq!(record.kernel, NEW);
        assert_eq!(record.devices[0].outcome.as_deref(), Some("Lost"), "{record:?}");
        let status = bed.update("overdue", "stopped", spent).await;
        assert_eq!((status.counts.failed, status.counts.updated), (1, 0));
        says(&bed.kubectl("get nlu overdue-1").await, &["overdue-1 7.3.5-lu2 Failed Quarantined"]);
        let described = bed.kubectl("describe nlu overdue-1").await;
        says(&described, &["is kept", "Outcome: Lost"]);
        says(&bed.kubectl("describe lu overdue").await, &["Quarantined", "overdue-1", "is kept"]);
        assert!(is_marked(&bed.bed.node("overdue-1").await.unwrap()));
    });
}

/// What is given up is given up by an operator's word alone, for good, and is told (invariant 8).
#[test]
fn invariant_8_a_quarantined_node_is_released_by_the_verb_and_stays_failed() {
    run(async |bed| {
        let pool = overdue(bed, "released").await;
        let first = pool.stands(1, "Failed", "Quarantined").await;
        let status = bed.update("released", "stopped", spent).await;
        // The keeper's own word: it finishes nothing while a holder may come.
        let are_kept =
            || matches!(pool.node(1).world().host().unwrap().finish(), Err(HostError::WrongMoment { .. }));
        assert!(are_kept());
        says(
            &bed.plugin(&["explain", "released-1"]).await,
            &["kubectl liveupdate release released released-1"],
        );

        // Of another node there is nothing to release: the plugin says so, and so does the status.
        let refused = bed.bed.plugin(&["release", "released", "released-2"]).await.unwrap();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        says(&refused.stderr, &["only of a node that is Quarantined"]);
        let plain = format!("annotate lu released liveupdate.dev/release=released-2@{}", status.revision);
        bed.kubectl(&plain).await;
        let status = bed
            .update("released", "refused", |s| s.summary.contains("\"released-2\" is not Quarantined"))
            .await;
        assert!(!status.verbs.iter().any(|verb| verb.starts_with("release")), "{:?}", status.verbs);
        assert!(are_kept());

        let said = bed.plugin(&["release", "released", "released-1"]).await;
        says(&said, &["release released-1 taken by the controller", "gone for good", "0000:17:00.0 of vm-a"]);
        let record = pool
            .node_update("released-1", "given up", |s| {
                s.last_failure.contains("an operator gave up the files")
            })
            .await;
        assert!(!are_kept());
        assert_eq!((record.state.as_str(), record.reason.as_str()), ("Failed", "Quarantined"));
        assert_eq!(record.attempt, first.attempt);
        assert_eq!(record.devices[0].outcome.as_deref(), Some("Lost"), "{record:?}");
        let status = bed
            .update("released", "carried out", |s| {
                !s.summary.contains("not given up yet")
                    && !s.verbs.iter().any(|verb| verb.contains("released-1/"))
            })
            .await;
        assert_eq!((status.counts.failed, status.failures), (1, 1), "{status:?}");
        says(&status.verbs.join(" "), &["release: released-1@"]);
        says(&bed.kubectl("get events -A").await, &["FilesReleased"]);
        says(&bed.kubectl("describe lu released").await, &["an operator gave up the files"]);
        // A holder that comes now starts from nothing; the node is free.
        pool.node(1).world().change(|world| world.faults.clear()).unwrap();
        bed.plugin(&["accept-failure", "released"]).await;
        bed.success("released").await;
        let record = pool.stands(1, "Failed", "Quarantined").await;
        assert_eq!(record.devices[0].outcome.as_deref(), Some("Lost"), "{record:?}");
        bed.node("released-1", "clean", is_clean).await;
    });
}

/// What an attempt left keeps the next target away, says so, and is given up there just as well.
#[test]
fn a_node_that_keeps_files_of_a_former_target_says_so_to_the_next_one() {
    const NEXT: &str = "7.3.6-lu2";
    run(async |bed| {
        let pool = bed
            .pool("leftover", 1, |_, world| {
                world.bundles.push(bundle(NEXT));
                world.faults = vec![Fault::ReclaimOverdue { holder: HOLDER.into() }];
            })
            .await;
        pool.roll(|update| update.spec.deadlines.reclaim = "3s".to_owned()).await;
        let first = pool.stands(1, "Failed", "Quarantined").await;
        pool.roll(|update| {
            update.spec.deadlines.reclaim = "3s".to_owned();
            // Nothing begins while this test looks.
            update.spec.paused = true;
            update.spec.target.release = NEXT.to_owned();
            update.spec.target.bundle = Some(Bundle { name: NEXT.to_owned(), digest: digest(NEXT) });
        })
        .await;
        let record = pool.stands(1, "Blocked", "Quarantined").await;
        says(&record.message, &["nothing begins before", first.attempt.as_str()]);
        says(&bed.kubectl("describe lu leftover").await, &["Quarantined", "nothing begins before"]);
        bed.plugin(&["release", "leftover", "leftover-1"]).await;
        pool.stands(1, "Queued", "WaitingForTurn").await;
        pool.node(1).world().change(|world| world.faults.clear()).unwrap();
        bed.kubectl(r#"patch lu leftover --type=merge -p {"spec":{"paused":false}}"#).await;
        bed.success("leftover").await;
        let record = pool.stands(1, "Updated", "Updated").await;
        assert_eq!(record.kernel, NEXT);
        assert_eq!(record.devices[0].outcome.as_deref(), Some("Uninterrupted"), "{record:?}");
    });
}

#[test]
fn a_holder_that_votes_no_has_its_node_undone_three_times_and_blocked() {
    run(async |bed| {
        let pool = bed
            .pool("votes", 1, |_, world| world.faults = vec![Fault::VotesNo { holder: HOLDER.into() }])
            .await;
        let boot = pool.node(1).world().running().unwrap();
        pool.roll(|_| {}).await;
        let record = pool.stands(1, "Blocked", "AbortedRepeatedly").await;
        assert_eq!(record.aborts, 3);
        // In the node's own words, in its record and in what is told.
        assert!(record.last_failure.contains(HOLDER), "{record:?}");
        assert!(record.message.contains("; the last time: "), "{record:?}");
        says(&bed.kubectl("get events -A").await, &[record.last_failure.as_str()]);
        says(&bed.kubectl("get nlu votes-1").await, &["votes-1 7.3.4-lu1 Blocked AbortedRepeatedly"]);
        says(&bed.kubectl("describe lu votes").await, &["undone 3 times before the jump; retry it"]);
        assert_eq!(pool.node(1).world().running().unwrap(), boot, "the same boot");
        bed.node("votes-1", "clean", is_clean).await;
        pool.node(1).world().change(|world| world.faults.clear()).unwrap();
        bed.plugin(&["retry", "votes", "votes-1"]).await;
        bed.success("votes").await;
        let record = pool.stands(1, "Updated", "Updated").await;
        assert_eq!((record.aborts, record.last_failure.as_str()), (0, ""), "{record:?}");
    });
}
