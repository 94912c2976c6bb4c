//! An update of a real node.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use liveupdate_lab::vm::kube::PATIENCE;
use liveupdate_lab::vm::updates;

use crate::bed::{BYSTANDER, Bed, KEEPER, NODE};

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.clone().unwrap_or_default();
    status.container_statuses.unwrap_or_default().iter().map(|container| container.restart_count).sum()
}

#[tokio::test]
// It does not pass yet: the node is Blocked, since nobody tells the agent that the pod's restartPolicy is Always, and the
// gate HolderReturns of a pod is Unknown therefore.
#[ignore = "make test-node runs it: it takes minutes, and a pod that holds blocks its node so far"]
async fn a_node_jumps_and_units_and_pods_get_their_memory_back_and_bystanders_end_with_grace() {
    let bed = Bed::start().await;
    assert_eq!(bed.node.output("systemctl", &["is-enabled", KEEPER]).await.unwrap().trim(), "enabled");
    let before = bed.plane.node(NODE).await.unwrap();
    let pods = bed.pods("default");
    let (bystander, holder) = (pods.get("bystander").await.unwrap(), pods.get("vm-b").await.unwrap());
    let first = bed.node.running().unwrap();

    let mut update = updates::update("real", &bed.target);
    update.spec.node_selector.match_labels = Some([("pool".to_owned(), NODE.to_owned())].into());
    bed.plane.apply_update(&update).await.unwrap();

    // On the next kernel, while custody is only half given back, the keeper crashes: systemd has the files.
    let arrived = bed.node.guest().control().boot(2, PATIENCE).await;
    if let Err(error) = arrived {
        let record = bed.plane.node_update(NODE).await.ok().and_then(|record| record.status);
        panic!("{error}\n{record:#?}\n{}", bed.node.journal(&[KEEPER]).await);
    }
    bed.node.guest().serial().wait_for("liveupdate-hold: vm-a: resumed", PATIENCE).await.unwrap();
    let reclaimed = bed.node.log("vm-b").await.unwrap().contains("reclaimed");
    bed.node.output("systemctl", &["kill", "--signal=KILL", KEEPER]).await.unwrap();
    assert!(!reclaimed, "the pod was sooner than the unit: nothing is left for a crash to lose");

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
    let report = bed.pod_report().await;
    assert!(report.unbroken(bed.pod.seed), "{report:?}\n{}", bed.node.log("vm-b").await.unwrap());
    let journal = bed.node.journal(&[KEEPER]).await;
    assert_eq!(
        bed.node.output("systemctl", &["show", "--property=NRestarts", KEEPER]).await.unwrap().trim(),
        "NRestarts=1",
        "{journal}"
    );

    let said = bed.text(BYSTANDER).await;
    let (old, new) = (&first.boot_id, &after.boot_id);
    assert_eq!(said, format!("up {old}\nasked {old}\nended {old}\nup {new}\n"));
    for (name, was) in [("bystander", bystander), ("vm-b", holder)] {
        let pod = bed.node.await_pod(&pods, name, liveupdate_lab::vm::kube::is_running).await.unwrap();
        assert_eq!((pod.uid(), restarts(&pod)), (was.uid(), restarts(&was) + 1), "{name}");
    }
}
