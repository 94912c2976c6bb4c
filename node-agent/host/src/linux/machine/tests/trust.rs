//! Whom a node takes kernels from: its own signers, narrowed by the platform's; and what comes from a registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{Gate, GateId};
use liveupdate_node_core::verdict::{Demands, Signer};

use super::super::Role;
use super::fake::Machine;
use crate::bundle::{Artifact, Blob, Bundle, Delivery, Digest, PublicKey, SigningKey};
use crate::{Host, HostError, Target, judge};

fn trusted(host: &dyn Host, target: &Target, signers: &[(&str, &str)]) -> Gate {
    let signer = |(name, key): &(&str, &str)| Signer { name: (*name).into(), key: (*key).into() };
    let demands = Demands { signers: signers.iter().map(signer).collect(), ..Demands::default() };
    let (_, gates) = judge(host, Some(target), &demands).unwrap();
    gates.into_iter().find(|gate| gate.id == GateId::TargetTrusted).unwrap()
}

fn is(gate: &Gate, result: GateResult, evidence: &[&str]) {
    assert_eq!(gate.result, result, "{gate:?}");
    assert!(evidence.iter().all(|text| gate.evidence.contains(text)), "{gate:?}");
    assert_eq!(gate.remedy.is_empty(), result == GateResult::Pass, "{gate:?}");
}

#[test]
fn the_platforms_signers_narrow_the_nodes_and_both_are_told_with_their_keys() {
    let machine = Machine::new();
    let target = machine.bundle("new");
    let agent = machine.host(Role::Agent);
    let own = machine.options().root.path("/etc/liveupdate/signers/new.pub");
    let key = fs::read_to_string(&own).unwrap();
    let id = PublicKey::from_pem(key.as_bytes()).unwrap().id();
    let stranger = SigningKey::generate().unwrap().public().to_pem();
    let node = format!("signed by new (key {id})");
    is(&trusted(&agent, &target, &[]), GateResult::Pass, &[&node]);
    let policy = format!("policy: signed by platform (key {id})");
    is(
        &trusted(&agent, &target, &[("platform", &key), ("x", &stranger)]),
        GateResult::Pass,
        &[&node, &policy],
    );
    let gate = trusted(&agent, &target, &[("platform", &stranger)]);
    is(&gate, GateResult::Fail, &[&node, "policy: signed by none of its signers, platform (key "]);
    // What is no key is nobody's, and does not mean everybody.
    let gate = trusted(&agent, &target, &[("platform", "no key")]);
    is(&gate, GateResult::Fail, &["of whom no key can be read (passed over: platform: no key in PEM"]);
    // And the platform's word alone makes nobody trusted.
    fs::remove_file(own).unwrap();
    let gate = trusted(&agent, &target, &[("platform", &key)]);
    is(&gate, GateResult::Fail, &["no key of a signer", &policy]);
}

/// A registry that holds one bundle.
struct Shelf {
    manifest: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    asked: usize,
}

impl Delivery for Shelf {
    fn manifest(&mut self) -> Result<Vec<u8>, String> {
        Ok(self.manifest.clone())
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, String> {
        self.asked += 1;
        Ok(Box::new(Cursor::new(&self.blobs[&blob.digest.to_string()])))
    }
}

#[test]
fn what_comes_from_a_registry_is_taken_in_when_it_is_signed_and_loaded_by_the_artifacts_digest() {
    let machine = Machine::new();
    let target = machine.bundle("new");
    let folder = machine.options().root.path("/var/lib/liveupdate/bundles/new");
    let bundle = Bundle::open(&folder).unwrap();
    let manifest = Artifact::of(&bundle).to_bytes("7.3.5-lu2").unwrap();
    let files = fs::read_dir(&folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    let blobs = files.map(|bytes| (Digest::of(&bytes).to_string(), bytes)).collect();
    let target = Target { bundle: "lu2".into(), digest: Digest::of(&manifest).to_string(), ..target };
    let mut shelf = Shelf { manifest, blobs, asked: 0 };
    fs::remove_dir_all(&folder).unwrap();
    let agent = machine.host(Role::Agent);
    assert!(!agent.has_bundle(&target).unwrap());

    let own = machine.options().root.path("/etc/liveupdate/signers/new.pub");
    let key = fs::read(&own).unwrap();
    fs::write(&own, SigningKey::generate().unwrap().public().to_pem()).unwrap();
    let error = agent.receive(&target, &mut shelf, &mut |_, _| true).unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, HostError::NotTrusted { .. }), "{told}");
    assert!(
        told.contains("is not fetched: manifest sha256:") && told.contains("signed by unknown key"),
        "{told}"
    );
    assert_eq!(shelf.asked, 2, "nothing but manifest and signatures");
    assert!(!agent.has_bundle(&target).unwrap());

    fs::write(&own, key).unwrap();
    agent.receive(&target, &mut shelf, &mut |_, _| true).unwrap();
    assert!(agent.has_bundle(&target).unwrap());
    is(&trusted(&agent, &target, &[]), GateResult::Pass, &[&bundle.digest().to_string(), "signed by new"]);
    agent.stage(&target, &mut |_, _| true).unwrap();
    assert_eq!(agent.staged().unwrap(), Some(target.clone()));
    assert_eq!(machine.keeper().staged().unwrap(), Some(target), "the keeper knows it by the same name");
}
