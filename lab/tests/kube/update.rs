//! An update of a real node.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use liveupdate_lab::vm::kube::{PATIENCE, is_running};
use liveupdate_lab::vm::updates;

use crate::bed::{BYSTANDER, Bed, KEEPER, NODE};

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.clone().unwrap_or_default();
    status.container_statuses.unwrap_or_default().iter().map(|container| container.restart_count).sum()
}

#[tokio::test]
async fn a_unit_and_a_pod_get_their_memory_back_and_bystanders_end_with_grace_and_run_again() {
    let bed = Bed::start().await;
    assert_eq!(bed.node.output("systemctl", &["is-enabled", KEEPER]).await.unwrap().trim(), "enabled");
    // The chart's own profile filters its calls: all that follows it does under that, a kernel loaded among it.
    assert_eq!(bed.agents_seccomp().await, "2");
    let before = bed.plane.node(NODE).await.unwrap();
    let pods = bed.pods("default");
    let (bystander, holder) = (pods.get("bystander").await.unwrap(), pods.get("vm-b").await.unwrap());
    let first = bed.node.running().unwrap();

    let mut update = updates::update("real", &bed.target);
    update.spec.node_selector.match_labels = Some([("pool".to_owned(), NODE.to_owned())].into());
    bed.plane.apply_update(&update).await.unwrap();

    // The kubelet says of each pod whether it starts it again. Nobody would start this one.
    let record = bed.await_node("a pod that does not return", |status| status.state == "Blocked").await;
    assert!(record.message.contains("HolderReturns(vm-c)"), "{record:#?}");
    assert!(!record.message.contains("vm-b") && !record.message.contains("vm-a"), "{record:#?}");
    // Its key is in the chart's values: the pod's first container has put it on the node.
    let trusted = record.gates.iter().find(|gate| gate.id == "TargetTrusted").unwrap();
    let evidence = trusted.evidence.as_deref().unwrap_or_default();
    assert!(trusted.result == "Pass" && evidence.contains("signed by lab (key "), "{trusted:?}");
    pods.delete("vm-c", &DeleteParams::default()).await.unwrap();

    let arrived = bed.node.guest().control().boot(2, PATIENCE).await;
    if let Err(error) = arrived {
        let record = bed.plane.node_update(NODE).await.ok().and_then(|record| record.status);
        panic!("{error}\n{record:#?}\n{}", bed.node.journal(&[KEEPER]).await);
    }
    bed.node.guest().serial().wait_for("liveupdate-hold: vm-a: resumed", PATIENCE).await.unwrap();
    // After a jump that was no shutdown systemd has kept nothing: sessions were asked for by name.
    assert_eq!(bed.keeper_variable("LISTEN_FDS").await, None);
    // A keeper that crashes with the pod's memory in custody gets it back from systemd, and the pod from it: our own
    // session and the pod's, once the unit's is finished.
    bed.node.await_property(KEEPER, "NFileDescriptorStore=2").await.unwrap();
    bed.node.output("systemctl", &["kill", "--signal=KILL", KEEPER]).await.unwrap();
    bed.node.await_property(KEEPER, "NRestarts=1").await.unwrap();
    bed.node.await_property(KEEPER, "ActiveState=active").await.unwrap();
    let kept = bed.keeper_variable("LISTEN_FDNAMES").await.unwrap_or_default();
    assert!(kept.split(':').all(|name| name.starts_with("liveupdate-")), "{kept}");
    assert_eq!(bed.keeper_variable("LISTEN_FDS").await.as_deref(), Some("2"), "{kept}");
    bed.start_kubelet().await;
    bed.await_pod_line("vm-b", "resumed").await;

    if let Err(error) = bed.plane.await_success("real", PATIENCE).await {
        let record = bed.plane.node_update(NODE).await.ok().and_then(|record| record.status);
        let journal = bed.node.journal(&[KEEPER, "kubelet"]).await;
        panic!("{error}\n{record:#?}\n{journal}\n{}", bed.node.guest().transcript());
    }
    let after = bed.node.running().unwrap();
    assert_eq!((after.number, &after.release), (2, &bed.target.release));
    let info = |node: &k8s_openapi::api::core::v1::Node| node.status.clone().unwrap().node_info.unwrap();
    let node = bed.plane.node(NODE).await.unwrap();
    assert_eq!(node.uid(), before.uid());
    assert_eq!(info(&node).kernel_version, bed.target.release);
    assert_eq!(info(&node).boot_id, after.boot_id);

    let (unit, pod) = (bed.unit_report(), bed.pod_report().await);
    let transcript = || bed.node.guest().transcript();
    assert!(unit.unbroken(bed.unit.seed), "{unit:?}\n{}", transcript());
    assert!(pod.unbroken(bed.pod.seed), "{pod:?}\n{}", transcript());

    let said = bed.text(BYSTANDER).await;
    let (old, new) = (&first.boot_id, &after.boot_id);
    assert_eq!(said, format!("up {old}\nasked {old}\nended {old}\nup {new}\n"));
    for before in [bystander, holder] {
        let now = bed.node.await_pod(&pods, &before.name_any(), is_running).await.unwrap();
        assert_eq!((now.uid(), restarts(&now)), (before.uid(), restarts(&before) + 1), "{now:#?}");
    }
}
