//! The lab's certificates are what it says they are, the bad ones included.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use liveupdate_lab::RunDir;
use liveupdate_lab::certs::{Authority, Certificate, FleetCertificates, Validity};
use liveupdate_proto::tls::{Credentials, Identity};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

/// What a TLS server that trusts the authority says to a client with the certificate.
fn verify(authority: &Authority, certificate: &Certificate) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let der = CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes()).unwrap();
    verifier.verify_client_cert(&der, &[], UnixTime::now()).map(drop).map_err(|error| format!("{error:?}"))
}

#[test]
fn good_ones_are_trusted_and_bad_ones_are_bad_in_the_way_asked_for() {
    let (fleet, foreign) = (FleetCertificates::new().unwrap(), FleetCertificates::new().unwrap());
    let node = Identity::node("node-1", "uid-1");
    let issue = |validity| fleet.issue(&node, validity).unwrap();

    assert_eq!(verify(fleet.authority(), &issue(Validity::Current)), Ok(()));
    let expired = verify(fleet.authority(), &issue(Validity::Expired)).unwrap_err();
    assert!(expired.contains("Expired"), "{expired}");
    let early = verify(fleet.authority(), &issue(Validity::NotYet)).unwrap_err();
    assert!(early.contains("NotValidYet"), "{early}");
    let stranger = foreign.issue(&node, Validity::Current).unwrap();
    let unknown = verify(fleet.authority(), &stranger).unwrap_err();
    assert!(unknown.contains("UnknownIssuer") || unknown.contains("BadSignature"), "{unknown}");
}

#[test]
fn they_carry_both_names_and_are_read_from_files() {
    let fleet = FleetCertificates::new().unwrap();
    let run = RunDir::create().unwrap();
    for identity in [Identity::Controller, Identity::node("node-1", "uid-1")] {
        let certificate = fleet.issue(&identity, Validity::Current).unwrap();
        let der = CertificateDer::from_pem_slice(certificate.certificate_pem.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(names, [format!("DNSName({})", identity.dns_name()), format!("URI({})", identity.uri())]);

        let folder = run.path().join("identity");
        let files = certificate.write(fleet.authority().certificate_pem(), &folder).unwrap();
        let mode = std::fs::metadata(&files.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "a key is its owner's alone");
        Credentials::load(&folder, 1).unwrap();
    }
}
