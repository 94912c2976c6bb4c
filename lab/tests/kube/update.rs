//! An update of a real node.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use liveupdate_lab::vm::kube::PATIENCE;
use liveupdate_lab::vm::updates;

use crate::bed::{BYSTANDER, Bed, KEEPER, NODE};

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.clone().unwrap_or_default();
    status.container_statuses.unwrap_or_default().iter().map(|container| container.restart_count).sum()
}

#[tokio::test]
async fn a_node_jumps_when_no_pod_holds_and_a_unit_gets_its_memory_back_and_bystanders_end_with_grace() {
    let bed = Bed::start().await;
    assert_eq!(bed.node.output("systemctl", &["is-enabled", KEEPER]).await.unwrap().trim(), "enabled");
    let before = bed.plane.node(NODE).await.unwrap();
    let pods = bed.pods("default");
    let bystander = pods.get("bystander").await.unwrap();
    let first = bed.node.running().unwrap();

    let mut update = updates::update("real", &bed.target);
    update.spec.node_selector.match_labels = Some([("pool".to_owned(), NODE.to_owned())].into());
    bed.plane.apply_update(&update).await.unwrap();

    // Nobody tells the agent yet whether a pod comes back: what is not known does not pass, and nobody stops.
    let record = bed.await_node("a pod that holds", |status| status.state == "Blocked").await;
    assert!(record.message.contains("HolderReturns(vm-b)"), "{record:#?}");
    pods.delete("vm-b", &DeleteParams::default()).await.unwrap();

    let arrived = bed.node.guest().control().boot(2, PATIENCE).await;
    if let Err(error) = arrived {
        let record = bed.plane.node_update(NODE).await.ok().and_then(|record| record.status);
        panic!("{error}\n{record:#?}\n{}", bed.node.journal(&[KEEPER]).await);
    }
    bed.node.guest().serial().wait_for("liveupdate-hold: vm-a: resumed", PATIENCE).await.unwrap();
    // A keeper that crashes once all is given back takes nothing with it.
    bed.node.output("systemctl", &["kill", "--signal=KILL", KEEPER]).await.unwrap();

    if let Err(error) = bed.plane.await_success("real", PATIENCE).await {
        let record = bed.plane.node_update(NODE).await.ok().and_then(|record| record.status);
        let journal = bed.node.journal(&[KEEPER, "kubelet"]).await;
        panic!("{error}\n{record:#?}\n{journal}\n{}", bed.node.guest().serial().transcript());
    }
    let after = bed.node.running().unwrap();
    assert_eq!((after.number, &after.release), (2, &bed.target.release));
    let info = |node: &k8s_openapi::api::core::v1::Node| node.status.clone().unwrap().node_info.unwrap();
    let node = bed.plane.node(NODE).await.unwrap();
    assert_eq!(node.uid(), before.uid());
    assert_eq!(info(&node).kernel_version, bed.target.release);
    assert_eq!(info(&node).boot_id, after.boot_id);

    let report = bed.unit_report();
    assert!(report.unbroken(bed.unit.seed), "{report:?}\n{}", bed.node.guest().serial().transcript());
    let journal = bed.node.journal(&[KEEPER]).await;
    assert_eq!(
        bed.node.output("systemctl", &["show", "--property=NRestarts", KEEPER]).await.unwrap().trim(),
        "NRestarts=1",
        "{journal}"
    );

    let said = bed.text(BYSTANDER).await;
    let (old, new) = (&first.boot_id, &after.boot_id);
    assert_eq!(said, format!("up {old}\nasked {old}\nended {old}\nup {new}\n"));
    let pod = bed.node.await_pod(&pods, "bystander", liveupdate_lab::vm::kube::is_running).await.unwrap();
    assert_eq!((pod.uid(), restarts(&pod)), (bystander.uid(), restarts(&bystander) + 1));
}
