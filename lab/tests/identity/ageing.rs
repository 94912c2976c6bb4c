//! Certificates and the CA change while everything runs; nobody is started again.

use liveupdate_lab::testbed::machines;
use liveupdate_lab::wait::{Answer, until};

use crate::bed::{Bed, SOON, alone};

/// With lives of seconds, a CA's whole life passes in a minute.
#[test]
fn the_ca_and_all_certificates_are_renewed_under_a_rollout_and_nobody_starts_again() {
    alone(async {
        let mut bed = Bed::start(2, &["--leaf-lifetime=8s", "--ca-lifetime=56s"]).await;
        let first = bed.authorities().await["current"]["certificate"].as_str().unwrap().to_owned();
        let began: Vec<_> = bed.nodes.iter().map(|node| node.leaf().not_after).collect();
        let pid = bed.bed.controller(0).unwrap().pid();

        // A second CA signs, and the first is trusted by nobody.
        bed.await_authorities("another CA to sign alone", |found| {
            found["current"]["certificate"] != first.as_str() && found.get("retired").is_none()
        })
        .await;
        let trusted = |text: &str| !text.contains(first.trim());
        until("the first CA to be forgotten everywhere", SOON, async || {
            let mut bundles = vec![bed.bed.trust().await?.unwrap()];
            bundles.extend(
                bed.nodes.iter().map(|node| std::fs::read_to_string(node.tls_dir.join("ca.crt")).unwrap()),
            );
            let all = bundles.iter().all(|bundle| trusted(bundle));
            Ok(if all { Answer::Yes(()) } else { Answer::not_yet("somebody trusts it") })
        })
        .await
        .unwrap();
        for (node, began) in bed.nodes.iter().zip(began) {
            assert!(node.leaf().not_after > began, "{} has the certificate of its start", node.name);
            bed.door().knock(&node.tls_dir, &node.name, &node.uid()).await.unwrap();
        }
        bed.bed.apply_update(&machines::update("rotated", machines::NEW)).await.unwrap();
        let status = bed.bed.await_success("rotated", SOON).await.unwrap().status.unwrap();
        assert_eq!((status.counts.updated, status.failures), (2, 0));
        let controller = bed.bed.controller(0).unwrap();
        assert_eq!((controller.pid(), controller.status().unwrap()), (pid, None), "the controller ended");
    });
}
