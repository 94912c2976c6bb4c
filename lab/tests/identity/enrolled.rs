//! The way that it should go.

use std::os::unix::fs::PermissionsExt as _;

use liveupdate_lab::testbed::machines;
use liveupdate_proto::tls::Identity;

use crate::bed::{SOON, run};

#[test]
fn agents_enrol_with_the_tokens_of_their_pods_and_a_rollout_goes_over_them() {
    run(async |bed| {
        for node in &bed.nodes {
            let uid = bed.node_uid(&node.name).await;
            assert_eq!(node.leaf().identity, Identity::node(&node.name, &uid));
            let mode = std::fs::metadata(node.tls_dir.join("tls.key")).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            // The token outlives one use: a renewal takes the same way.
            bed.door().enrol(&node.token()).await.unwrap();
            bed.door().knock(&node.tls_dir, &node.name, &uid).await.unwrap();
        }
        bed.bed.apply_update(&machines::update("enrolled", machines::NEW)).await.unwrap();
        let status = bed.bed.await_success("enrolled", SOON).await.unwrap().status.unwrap();
        assert_eq!((status.counts.updated, status.failures), (3, 0));
        bed.bed.delete_update_and_wait("enrolled", SOON).await.unwrap();
    });
}

/// The names that a request claims are ignored, and nothing of the CA's key leaves the controller.
#[test]
fn a_certificate_says_what_the_token_says_whatever_was_asked_for() {
    run(async |bed| {
        let node = &bed.nodes[0];
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![Identity::Controller.dns_name()]).unwrap();
        let uri = Identity::Controller.uri().try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        let wish = params.serialize_request(&key).unwrap().der().to_vec();
        let reply = bed.door().enrol_with(&node.token(), wish).await.unwrap();
        let (_, leaf) = x509_parser::parse_x509_certificate(&reply.chain[0]).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value.to_owned();
        let uris = names.general_names.iter().filter_map(|name| match name {
            x509_parser::extensions::GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
        assert_eq!(uris.collect::<Vec<_>>(), [Identity::node(&node.name, node.uid()).uri()]);
        let bundle = bed.bed.trust().await.unwrap().unwrap();
        assert_eq!(reply.authorities.len(), bundle.matches("BEGIN CERTIFICATE").count());
        assert!(!bundle.contains("PRIVATE"));
    });
}
