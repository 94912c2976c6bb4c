//! What is known of the boot, and the gates of a machine that holds nothing.

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{self, GateId};

use super::super::Role;
use super::fake::Machine;
use crate::{Host, HostError, JumpIntent, Target};

/// A machine that jumps; what its keeper wrote before is on disk.
fn jumped(machine: &Machine) -> (String, Target) {
    let (keeper, target) = (machine.keeper(), machine.bundle("new"));
    keeper.stage(&target, &mut |_, _| true).unwrap();
    let intent = JumpIntent { attempt: "a-1".into(), nonce: "0".repeat(32), target: target.clone() };
    keeper.jump(&intent).unwrap_err();
    // The recorder comes back from reboot(2); a kernel does not.
    let record = String::from_utf8(keeper.load("jump").unwrap().unwrap()).unwrap();
    keeper.store("jump", record.replace("\"over\":true", "\"over\":false").as_bytes()).unwrap();
    (keeper.boot_id().unwrap(), target)
}

#[test]
fn invariant_6_the_first_kernel_after_the_jump_knows_where_it_came_from_and_which_bundle_it_is() {
    let machine = Machine::new();
    let (before, target) = jumped(&machine);
    machine.boot("b", &target.release, 208);
    let keeper = machine.keeper();
    assert_eq!(keeper.boot_id_before().unwrap(), Some(before));
    assert_eq!(keeper.bundle_digest().unwrap(), Some(target.digest));
    assert_eq!(keeper.staged().unwrap(), None);
    drop(keeper);
    machine.boot("c", &target.release, 208);
    let keeper = machine.keeper();
    assert_eq!((keeper.boot_id_before().unwrap(), keeper.bundle_digest().unwrap()), (None, None));
}

#[test]
fn a_power_cut_instead_of_the_jump_and_another_release_prove_nothing() {
    let machine = Machine::new();
    let (_, target) = jumped(&machine);
    machine.boot("b", &target.release, 176);
    let keeper = machine.keeper();
    assert_eq!((keeper.boot_id_before().unwrap(), keeper.bundle_digest().unwrap()), (None, None));

    let machine = Machine::new();
    let (before, _) = jumped(&machine);
    machine.boot("b", "another", 208);
    let keeper = machine.keeper();
    assert_eq!(keeper.boot_id_before().unwrap(), Some(before));
    assert_eq!(keeper.bundle_digest().unwrap(), None);
}

#[test]
fn a_node_that_holds_nothing_passes_every_gate_that_a_jump_needs() {
    let machine = Machine::new();
    for holding in ["212", "301", "402", "500"] {
        std::fs::remove_dir_all(machine.options().root.path(&format!("/proc/{holding}"))).unwrap();
    }
    for fd in ["3", "41"] {
        let _ = std::fs::remove_file(machine.options().root.path(&format!("/proc/1/fd/{fd}")));
    }
    let keeper = machine.keeper();
    let target = machine.bundle("new");
    let agent = machine.host(Role::Agent);
    agent.stage(&target, &mut |_, _| true).unwrap();
    let gates = agent.gates(Some(&target)).unwrap();
    let of = |all: &[gate::Gate]| {
        all.iter().map(|gate| (gate.id, gate.subject.clone(), gate.result)).collect::<Vec<_>>()
    };
    assert_eq!(of(&gates), of(&keeper.gates(Some(&target)).unwrap()), "agent and keeper read the same");
    assert_eq!(gate::node_shortfalls::<&str>(&gates, None, &["NoKdump"]), Vec::new(), "{gates:#?}");
    assert_eq!(gate::result(&gates, GateId::DriverReady, ""), GateResult::Pass);
    assert_eq!(gate::result(&gates, GateId::TargetKernel, ""), GateResult::Fail, "that is no kernel");
    let digest = format!("sha256:{}", "0".repeat(64));
    let absent = Target { bundle: "absent".into(), digest: digest.clone(), ..target };
    let gates = agent.gates(Some(&absent)).unwrap();
    let found = gates.iter().find(|gate| gate.id == GateId::TargetTrusted).unwrap();
    assert!(found.result == GateResult::Fail && found.evidence.contains(&digest), "{found:?}");
    assert!(agent.holders().unwrap().is_empty());
}

#[test]
fn devices_are_named_with_who_holds_them_and_only_the_keeper_has_custody() {
    let machine = Machine::new();
    let agent = machine.host(Role::Agent);
    let devices = agent.devices().unwrap();
    assert!(devices.iter().any(|device| device.holder.is_some()), "{devices:#?}");
    assert!(devices.iter().all(|device| device.ceiling.is_none()), "no driver: {devices:#?}");
    assert!(agent.holders().unwrap().iter().all(|holder| !holder.aware));
    let error = agent.preserve("a-1", &[], &mut || true).unwrap_err();
    assert!(matches!(error, HostError::WrongMoment { .. }), "{error}");
    let one = agent.random().unwrap();
    assert!(one.len() == 32 && one != agent.random().unwrap());
    assert!(agent.monotonic().unwrap() <= agent.monotonic().unwrap());
}
