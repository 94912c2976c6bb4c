//! At the controller's port: certificates that are not those of the node that knocks.

use std::path::{Path, PathBuf};

use liveupdate_lab::certs::{Certificate, FleetCertificates, Validity};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Identity, TlsError};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use time::{Duration, OffsetDateTime};

use crate::bed::{Bed, Enrolled, run};
use crate::wire::refused;

/// A certificate of the controller's own CA that ended a minute ago.
async fn expired(bed: &Bed, node: &Enrolled) -> PathBuf {
    let authorities = bed.authorities().await;
    let text = |name: &str| authorities["current"][name].as_str().unwrap().to_owned();
    let issuer =
        Issuer::from_ca_cert_pem(&text("certificate"), KeyPair::from_pem(&text("key")).unwrap()).unwrap();
    let identity = Identity::node(&node.name, node.uid());
    let mut params = CertificateParams::new(vec![identity.dns_name()]).unwrap();
    params.subject_alt_names.push(SanType::URI(identity.uri().try_into().unwrap()));
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(2);
    params.not_after = now - Duration::minutes(1);
    let key = KeyPair::generate().unwrap();
    let certificate_pem = params.signed_by(&key, &issuer).unwrap().pem();
    let folder = bed.scratch();
    let certificate = Certificate { certificate_pem, key_pem: key.serialize_pem() };
    certificate.write(&text("certificate"), &folder).unwrap();
    folder
}

/// Knocks with what is in a folder; expects that the controller refuses the certificate, and says which and why.
async fn attack(bed: &Bed, folder: &Path, node: &Enrolled, reason: &str, objection: &str) {
    let log = bed.log();
    let status = bed.door().knock(folder, &node.name, &node.uid()).await.unwrap_err();
    // The connection may be over before its end is told: then it is said to be closed.
    if let Some(told) = TlsError::of_status(&status) {
        assert_eq!(told.reason(), objection, "{status:?}");
    }
    log.line(&["refused a connection", &format!("reason=\"{reason}\"")]).await;
    bed.door().knock(&node.tls_dir, &node.name, &node.uid()).await.unwrap();
}

#[test]
fn without_a_certificate_nobody_knocks() {
    run(async |bed| {
        let (node, door, log) = (&bed.nodes[0], bed.door(), bed.log());
        let knocked = door.knock_over(door.anonymous().await, &node.name, &node.uid()).await;
        refused(knocked, Refusal::WrongPeer);
        log.line(&["refused a knock", "reason=\"NoCertificate\""]).await;
        door.knock(&node.tls_dir, &node.name, &node.uid()).await.unwrap();
    });
}

#[test]
fn a_certificate_of_another_ca_or_one_that_is_over_is_refused() {
    run(async |bed| {
        let node = &bed.nodes[0];
        let folder = bed.scratch();
        let foreign = FleetCertificates::new().unwrap();
        let identity = Identity::node(&node.name, node.uid());
        let bundle = bed.bed.trust().await.unwrap().unwrap();
        foreign.issue(&identity, Validity::Current).unwrap().write(&bundle, &folder).unwrap();
        attack(bed, &folder, node, "UnknownAuthority", "RefusedUnknownAuthority").await;
        let folder = expired(bed, node).await;
        attack(bed, &folder, node, "CertificateExpired", "RefusedCertificateExpired").await;
    });
}

#[test]
fn a_nodes_certificate_speaks_for_no_other_node() {
    run(async |bed| {
        let ([a, b], door) = ([&bed.nodes[0], &bed.nodes[1]], bed.door());
        let log = bed.log();
        refused(door.knock(&a.tls_dir, &b.name, &b.uid()).await, Refusal::WrongPeer);
        log.line(&["refused a knock", "reason=\"WrongPeer\"", &a.name, &b.name]).await;
        // Nor for a node of its name that is another one.
        refused(door.knock(&a.tls_dir, &a.name, &b.uid()).await, Refusal::WrongPeer);
        let claimed = format!("expected {}", Identity::node(&a.name, b.uid()));
        log.line(&["refused a knock", "reason=\"WrongPeer\"", &claimed]).await;
        for node in [a, b] {
            door.knock(&node.tls_dir, &node.name, &node.uid()).await.unwrap();
        }
    });
}
