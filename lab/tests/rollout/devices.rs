//! What devices and their holders do to a run.

use liveupdate_crds::IntOrPercent;
use liveupdate_host::simulated::Fault;
use liveupdate_lab::testbed::machines::{HOLDER, NEW};

use crate::bed::{is_clean, is_marked, run, says, step};

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
        let status = bed.update("dark", "stopped", |s| s.state == "FailureBudgetSpent").await;
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

/// Nothing in custody is dropped while its holder may come for it (invariant 8): the node waits for it.
#[test]
fn invariant_8_a_holder_that_does_not_come_leaves_its_node_quarantined() {
    run(async |bed| {
        let pool = bed
            .pool("overdue", 2, |number, world| {
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
        let record = pool.stands(1, "Failed", "Quarantined").await;
        assert_eq!(record.kernel, NEW);
        assert_eq!(record.devices[0].outcome.as_deref(), Some("Lost"), "{record:?}");
        let status = bed.update("overdue", "stopped", |s| s.state == "FailureBudgetSpent").await;
        assert_eq!((status.counts.failed, status.counts.updated), (1, 0));
        says(&bed.kubectl("get nlu overdue-1").await, &["overdue-1 7.3.5-lu2 Failed Quarantined"]);
        let described = bed.kubectl("describe nlu overdue-1").await;
        says(&described, &["is kept", "Outcome: Lost"]);
        says(&bed.kubectl("describe lu overdue").await, &["Quarantined", "overdue-1", "is kept"]);
        assert!(is_marked(&bed.bed.node("overdue-1").await.unwrap()));
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
