//! A node whose Node is deleted has a certificate that is worth nothing any more.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::DeleteParams;
use liveupdate_lab::wait::{Answer, until};
use liveupdate_proto::refusal::Refusal;

use crate::bed::{Bed, SOON, alone};
use crate::wire::refused;

#[test]
fn with_its_node_goes_what_a_certificate_is_worth() {
    alone(async {
        let bed = Bed::start(2, &[]).await;
        let (gone, stays) = (&bed.nodes[0], &bed.nodes[1]);
        let (uid, door, log) = (gone.uid(), bed.door(), bed.log());
        // What somebody took from its disk.
        let taken = bed.scratch();
        for file in ["ca.crt", "tls.crt", "tls.key"] {
            std::fs::copy(gone.tls_dir.join(file), taken.join(file)).unwrap();
        }
        door.knock(&taken, &gone.name, &uid).await.unwrap();
        door.enrol(&gone.token()).await.unwrap();
        // Its kubelet and agent are quiet, as those of a stolen machine would not be.
        bed.bed.fleet.node(&gone.name).unwrap().set(|settings| {
            settings.kubelet = false;
            settings.agent = false;
        });
        bed.bed.all::<Node>().delete(&gone.name, &DeleteParams::default()).await.unwrap();

        until("the deletion to be seen", SOON, async || {
            Ok(match door.knock(&taken, &gone.name, &uid).await {
                Ok(_) => Answer::not_yet("it is still let in"),
                Err(status) => Answer::Yes(status),
            })
        })
        .await
        .map(|status| refused(Err::<(), _>(status), Refusal::NodeUnknown))
        .unwrap();
        log.line(&["refused a knock", "reason=\"NodeUnknown\"", &gone.name]).await;
        let enrolled =
            tokio::time::timeout(Duration::from_secs(60), door.enrol(&gone.token())).await.unwrap();
        refused(enrolled, Refusal::NodeUnknown);
        log.line(&["refused to enrol", "reason=\"NodeGone\""]).await;

        // Another Node of the name is another node: neither certificate nor token of before is worth anything.
        let node = bed.bed.fleet.node(&gone.name).unwrap();
        node.register_again(&bed.bed.certificates).await.unwrap();
        let new = bed.node_uid(&gone.name).await;
        assert_ne!(new, uid);
        let log = bed.log();
        refused(door.knock(&taken, &gone.name, &uid).await, Refusal::NodeUnknown);
        log.line(&["refused a knock", "reason=\"NodeUnknown\"", &uid]).await;
        refused(door.knock(&taken, &gone.name, &new).await, Refusal::WrongPeer);
        log.line(&["refused a knock", "reason=\"WrongPeer\"", &new]).await;
        if let Err(status) = door.enrol(&gone.token()).await {
            // Its pod went with its Node, or is about to.
            let word = Refusal::of(&status).unwrap();
            let reasons: &[&str] = match word {
                Refusal::NodeUnknown => &["NodeGone", "NodeRemade"],
                Refusal::TokenRefused => &["TokenRejected"],
                Refusal::NotEnrollable => &["PodGone", "PodRemade"],
                word => panic!("{word}"),
            };
            let line = log.line(&["refused to enrol"]).await;
            let said = |reason: &&str| line.contains(&format!("reason=\"{reason}\""));
            assert!(reasons.iter().any(said), "{word}: {line}");
        } else {
            panic!("a token of the Node before was worth a certificate");
        }
        // The other one is not touched by any of it.
        door.knock(&stays.tls_dir, &stays.name, &stays.uid()).await.unwrap();
        door.enrol(&stays.token()).await.unwrap();
    });
}
