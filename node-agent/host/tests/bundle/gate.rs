//! The gate `TargetTrusted`.

use std::io;

use liveupdate_host::bundle::{BundleError, Digest, Signers, SigningKey, Trust};
use liveupdate_host::linux::gates::{Signed, target_trusted};
use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::Gate;

use crate::make::signers;

fn judge(trust: Result<&Trust, &BundleError>, signers: Result<&Signers, &io::Error>) -> Gate {
    let digest = "sha256:0123";
    target_trusted(Signed { digest, trust, files: None, signers, folder: "/etc/liveupdate/signers" })
}

fn is(gate: &Gate, result: GateResult, evidence: &str, remedy: &str) {
    assert_eq!(gate.result, result, "{gate:?}");
    assert!(gate.evidence.contains(evidence), "{gate:?}");
    assert_eq!(gate.remedy.is_empty(), remedy.is_empty(), "{gate:?}");
    assert!(gate.remedy.contains(remedy), "{gate:?}");
}

#[test]
fn only_a_right_signature_of_somebody_trusted_passes() {
    let key = SigningKey::generate().unwrap();
    let known = signers(&key);
    let judge = |trust: Trust| judge(Ok(&trust), Ok(&known));
    let by = || vec!["release".to_owned()];
    let evidence = format!("manifest sha256:0123: signed by release (key {})", key.public().id());
    is(&judge(Trust::Signed { by: by() }), GateResult::Pass, &evidence, "");
    is(&judge(Trust::Unsigned), GateResult::Fail, "not signed", "bundle sign");
    is(&judge(Trust::OtherBytes { by: by() }), GateResult::Fail, "of release is of other bytes", "again");
    let stranger = SigningKey::generate().unwrap().public().id();
    let gate = judge(Trust::Stranger { keys: vec![stranger] });
    is(
        &gate,
        GateResult::Fail,
        &format!("unknown key {stranger}; /etc/liveupdate/signers knows release"),
        "trust",
    );
    is(&judge(Trust::Malformed { why: "x".into() }), GateResult::Fail, "cannot be read: x", "sign it again");
}

#[test]
fn without_signers_or_bundle_it_does_not_pass() {
    let key = SigningKey::generate().unwrap();
    let good = Trust::Signed { by: vec!["release".into()] };
    let none = Signers { signers: Vec::new(), skipped: vec!["x.pub: no key".into()] };
    is(&judge(Ok(&good), Ok(&none)), GateResult::Fail, "no key of a signer (passed over: x.pub", "NAME.pub");
    let absent = io::Error::from(io::ErrorKind::NotFound);
    is(&judge(Ok(&good), Err(&absent)), GateResult::Unknown, "/etc/liveupdate/signers: ", "NAME.pub");
    let missing = BundleError::NotFound { root: "/b".into(), wanted: Digest::of(b"x") };
    is(&judge(Err(&missing), Ok(&signers(&key))), GateResult::Fail, "is under /b", "copy the bundle");
    let busy = BundleError::Busy { folder: "/b".into() };
    is(&judge(Err(&busy), Ok(&signers(&key))), GateResult::Unknown, "in use", "read");
}

#[test]
fn files_that_are_not_the_manifests_fail_it_whoever_signed() {
    let key = SigningKey::generate().unwrap();
    let (trust, known) = (Trust::Signed { by: vec!["release".into()] }, signers(&key));
    let judge = |files| {
        let (trust, signers) = (Ok(&trust), Ok(&known));
        target_trusted(Signed { digest: "sha256:0123", trust, files: Some(files), signers, folder: "/s" })
    };
    is(&judge(Ok(())), GateResult::Pass, "signed by release", "");
    let (found, wanted) = (Digest::of(b"a"), Digest::of(b"b"));
    let changed = BundleError::Changed { path: "/b/image".into(), found, wanted };
    is(&judge(Err(&changed)), GateResult::Fail, "/b/image was changed", "whole");
    let source = io::Error::from(io::ErrorKind::PermissionDenied);
    let unread = BundleError::Io { doing: "read", path: "/b/image".into(), source };
    is(&judge(Err(&unread)), GateResult::Unknown, "cannot read /b/image: permission denied", "read");
}
