//! A Node that is deleted and made again under its name is another node.

use liveupdate_crds::update::JoinPolicy;
use liveupdate_host::simulated::{Durations, Pace};
use liveupdate_lab::testbed::machines::NEW;

use crate::bed::{is_clean, run, says};

#[test]
fn a_node_made_again_before_its_turn_inherits_nothing() {
    run(async |bed| {
        let pool = bed.pool("reborn", 3, |_, _| {}).await;
        pool.roll(|update| {
            update.spec.join_policy = JoinPolicy::Include;
            update.spec.paused = true;
        })
        .await;
        bed.update("reborn", "all nodes wait", |status| status.counts.waiting == 3).await;
        let before = pool.node(2).uid();
        bed.kubectl("delete node reborn-2").await;
        pool.node(2).register_again(&bed.bed.certificates).await.unwrap();
        let uid = pool.node(2).uid();
        assert_ne!(before, uid);
        pool.node_update("reborn-2", "of the new node", |status| status.node_uid == uid).await;

        bed.kubectl(r#"patch lu reborn --type=merge -p {"spec":{"paused":false}}"#).await;
        let status = bed.success("reborn").await;
        assert_eq!((status.counts.updated, status.failures), (3, 0));
        let record = bed.bed.node_update("reborn-2").await.unwrap();
        let owner = record.metadata.owner_references.unwrap().remove(0);
        assert_eq!(owner.uid, uid, "the record goes with the new Node");
        let attempt = record.status.unwrap().attempt;
        says(&attempt, &[&uid[..8]]);
        says(&bed.kubectl("get lu reborn").await, &["reborn 7.3.5-lu2 1/1 all 3 3 0"]);
    });
}

/// Nobody can say whether the old node had jumped: its attempt counts as failed. The new one begins anew.
#[test]
fn a_node_made_again_in_flight_ends_its_attempt_as_node_gone() {
    run(async |bed| {
        let slow = Durations { preserve: 90_000, ..Durations::default() };
        let pool = bed
            .pool("gone", 2, |number, world| {
                if number == 1 {
                    world.pace = Pace::Real;
                    world.durations = slow;
                }
            })
            .await;
        pool.roll(|update| {
            update.spec.join_policy = JoinPolicy::Include;
            update.spec.strategy.max_unavailable = liveupdate_crds::IntOrPercent::Int(1);
        })
        .await;
        let held = pool.prepares(1).await;
        bed.kubectl("delete node gone-1").await;
        pool.node(1).world().change(|world| world.durations = Durations::default()).unwrap();
        pool.node(1).register_again(&bed.bed.certificates).await.unwrap();

        let status = bed
            .update("gone", "stopped, the new node in it", |s| {
                s.state == "FailureBudgetSpent" && s.counts.total == 2
            })
            .await;
        assert_eq!((status.failures, status.counts.updated, status.in_flight.len()), (1, 0, 0));
        says(&bed.kubectl("get lu gone").await, &["gone 7.3.5-lu2 1/1 all 0 2"]);
        let described = bed.kubectl("describe lu gone").await;
        says(&described, &["NodeGone", "gone-1", "kubectl liveupdate resume gone"]);
        let new = pool.node_update("gone-1", "of the new node", |s| s.node_uid == pool.node(1).uid()).await;
        assert_ne!(new.attempt, held.attempt, "the new node knows nothing of the old one's attempt");
        bed.node("gone-1", "clean", is_clean).await;

        bed.plugin(&["resume", "gone"]).await;
        let status = bed.success("gone").await;
        assert_eq!((status.counts.updated, status.counts.total), (2, 2));
        let record = pool.stands(1, "Updated", "Updated").await;
        assert_eq!(record.kernel, NEW);
        says(&record.attempt, &[&pool.node(1).uid()[..8]]);
    });
}

/// The machine went through its jump; only its Node was another one when it came back.
#[test]
fn a_node_made_again_while_it_jumps_is_found_on_the_target() {
    run(async |bed| {
        let pool = bed
            .pool("halfway", 1, |_, world| {
                world.pace = Pace::Real;
                world.durations.jump = 3_000;
            })
            .await;
        pool.roll(|update| update.spec.join_policy = JoinPolicy::Include).await;
        pool.off(1).await;
        bed.kubectl("delete node halfway-1").await;
        pool.node(1).register_again(&bed.bed.certificates).await.unwrap();
        bed.update("halfway", "the failure", |status| status.failures == 1).await;
        bed.plugin(&["resume", "halfway"]).await;
        bed.success("halfway").await;
        let record = pool.stands(1, "Updated", "AlreadyOnTarget").await;
        assert_eq!(record.kernel, NEW);
        bed.node("halfway-1", "clean", is_clean).await;
    });
}
