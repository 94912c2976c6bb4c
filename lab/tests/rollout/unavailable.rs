//! Nodes that are down for other reasons, and marks of other people.

use k8s_openapi::api::core::v1::Node;
use liveupdate_crds::IntOrPercent;
use liveupdate_host::simulated::Pace;
use liveupdate_lab::testbed::machines::NEW;

use crate::bed::{is_clean, is_ready, run, says};

#[test]
fn invariant_1_a_node_that_is_down_already_takes_a_slot() {
    run(async |bed| {
        let pool = bed.pool("slots", 4, |_, _| {}).await;
        let boots: Vec<_> = (1..=4).map(|n| pool.node(n).world().running().unwrap()).collect();
        pool.node(3).set(|settings| settings.ready = false);
        // A kubelet that is dead, not one that complains.
        pool.node(4).set(|settings| settings.kubelet = false);
        for node in ["slots-3", "slots-4"] {
            bed.node(node, "not Ready", |node| !is_ready(node)).await;
        }
        pool.roll(|update| update.spec.strategy.max_unavailable = IntOrPercent::Int(2)).await;
        for number in [3, 4] {
            pool.stands(number, "Blocked", "NodeNotReady").await;
        }
        let full = "waits for slots (2 of 2 nodes unavailable)";
        let status = bed.update("slots", full, |status| status.summary.contains(full)).await;
        assert_eq!((status.in_flight.len(), status.counts.updated), (0, 0));
        let table = bed.kubectl("get lu slots -o wide").await;
        says(&table, &["slots 7.3.5-lu2 1/1 all 0 4", full]);
        says(&bed.kubectl("describe lu slots").await, &["Reason: NodeNotReady", "slots-3", "slots-4"]);
        for (number, boot) in (1..=4).zip(boots) {
            assert_eq!(pool.node(number).world().running().unwrap(), boot, "nobody was started");
        }

        pool.node(3).set(|settings| settings.ready = true);
        // One is still down: one at a time, and the run waits for the dead one at its end.
        let status = bed.update("slots", "three updated", |status| status.counts.updated == 3).await;
        assert_eq!(status.counts.blocked, 1);
        pool.node(4).set(|settings| settings.kubelet = true);
        assert_eq!(bed.success("slots").await.counts.updated, 4);
    });
}

#[test]
fn a_node_that_is_not_ready_after_its_jump_is_not_updated_before_it_is() {
    run(async |bed| {
        let pool = bed
            .pool("faint", 1, |_, world| {
                world.pace = Pace::Real;
                world.durations.jump = 2_000;
            })
            .await;
        pool.roll(|_| {}).await;
        pool.off(1).await;
        pool.node(1).set(|settings| settings.ready = false);
        bed.node("faint-1", "back and not Ready", |node| {
            let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
            info.is_some_and(|info| info.kernel_version == NEW) && !is_ready(node)
        })
        .await;
        let record = pool.node_update("faint-1", "being verified", |s| s.reason == "Verifying").await;
        says(&record.message, &["the Node object is not Ready yet"]);
        says(&bed.kubectl("get nlu faint-1").await, &["7.3.5-lu2", "Verifying"]);
        assert_eq!(bed.bed.update("faint").await.unwrap().status.unwrap().counts.updated, 0);
        pool.node(1).set(|settings| settings.ready = true);
        bed.success("faint").await;
    });
}

#[test]
fn invariant_7_what_others_put_on_a_node_stays_as_it_is() {
    run(async |bed| {
        let pool = bed.pool("theirs", 2, |_, _| {}).await;
        bed.kubectl("cordon theirs-1").await;
        bed.kubectl("taint nodes theirs-1 theirs-2 example.com/theirs=yes:NoSchedule").await;
        bed.kubectl("label nodes theirs-1 theirs-2 example.com/rack=r7").await;
        bed.kubectl("annotate nodes theirs-1 theirs-2 example.com/owner=somebody").await;
        let of_others = |node: &Node| {
            let spec = node.spec.clone().unwrap();
            (spec, node.metadata.labels.clone(), node.metadata.annotations.clone())
        };
        // The controller manager adds its own for the cordon.
        let cordoned = |node: &Node| node.spec.as_ref().unwrap().taints.iter().flatten().count() == 2;
        bed.node("theirs-1", "cordoned", cordoned).await;
        let mut before = Vec::new();
        for node in ["theirs-1", "theirs-2"] {
            before.push(of_others(&bed.bed.node(node).await.unwrap()));
        }
        pool.roll(|_| {}).await;
        assert_eq!(bed.success("theirs").await.counts.updated, 2);
        for (node, before) in ["theirs-1", "theirs-2"].into_iter().zip(before) {
            let node = bed.node(node, "clean", is_clean).await;
            assert_eq!(of_others(&node), before);
        }
    });
}
