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
    let until = std::time::Duration::MAX;
    let intent = JumpIntent { attempt: "a-1".into(), nonce: "0".repeat(32), target: target.clone(), until };
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
    // The agent may be asked before the keeper is up.
    assert_eq!(machine.host(Role::Agent).bundle_digest().unwrap(), Some(target.digest.clone()));
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
fn a_disk_that_takes_no_record_after_the_jump_keeps_nobody_from_what_came_through() {
    let machine = Machine::new();
    let (before, target) = jumped(&machine);
    machine.boot("b", &target.release, 208);
    // Where the new record would be written.
    let in_the_way = machine.options().root.path("/var/lib/liveupdate/jump.new");
    std::fs::create_dir(&in_the_way).unwrap();
    let keeper = machine.keeper();
    assert!(keeper.store("jump", b"x").is_err(), "it cannot be written");
    assert_eq!(keeper.boot_id_before().unwrap(), Some(before), "that it was jumped to is known all the same");
    assert!(keeper.reclaim().is_ok());
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

#[test]
fn an_aware_holder_of_memory_passes_by_what_is_read_of_its_process() {
    use rustix::fs::MemfdFlags;
    let machine = Machine::new();
    let own = std::process::id();
    let held = rustix::fs::memfd_create("guest ram", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&held, 1 << 20).unwrap();
    // A holder that has a memfd open and does not map it: the file itself is this process's.
    machine.process(900, 1, "vmm", "/system.slice/vm-a.service", false);
    machine.write("proc/900/smaps", "");
    let root = machine.options().root;
    let link = root.path("/proc/900/fd/7");
    let file = format!("/proc/{own}/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    std::os::unix::fs::symlink(std::fs::read_link(file).unwrap(), link).unwrap();
    std::fs::create_dir_all(root.path("/sys/fs/cgroup/system.slice/vm-a.service")).unwrap();
    let wants = root.path("/etc/systemd/system/multi-user.target.wants");
    std::fs::create_dir_all(&wants).unwrap();
    std::os::unix::fs::symlink("../vm-a.service", wants.join("vm-a.service")).unwrap();
    machine.write("etc/systemd/system/vm-a.service", "[Service]\n");
    machine.publish("vm-a", 900, "/system.slice/vm-a.service");
    let agent = machine.host(Role::Agent);
    let gates = agent.gates(None).unwrap();
    let of = |id| gates.iter().find(|gate| gate.id == id && gate.subject == "vm-a").unwrap();
    for id in [GateId::HolderAware, GateId::HolderOpenMode, GateId::HolderReturns, GateId::MemoryCharge] {
        assert_eq!(of(id).result, GateResult::Pass, "{:#?}", of(id));
    }
    // The link of a fixture leads nowhere, so that nothing is known of the memory: unknown is no pass.
    assert_eq!(of(GateId::MemoryPreservable).result, GateResult::Unknown);
    machine.write("proc/900/smaps", &root.text("/proc/301/smaps").unwrap());
    let memory = || {
        let gates = agent.gates(None).unwrap();
        gates.into_iter().find(|gate| gate.id == GateId::MemoryPreservable && gate.subject == "vm-a").unwrap()
    };
    assert_eq!(memory().result, GateResult::Pass, "{:#?}", memory());
    // What may not be looked at may be memory, too.
    machine.write("proc/900/fd/8", "");
    let unseen = memory();
    assert_eq!(unseen.result, GateResult::Unknown, "{unseen:#?}");
    assert!(unseen.evidence.contains("/proc/900/fd/8: "), "{unseen:#?}");
    std::fs::remove_file(root.path("/proc/900/fd/8")).unwrap();
    std::fs::remove_file(wants.join("vm-a.service")).unwrap();
    let gates = agent.gates(None).unwrap();
    assert_eq!(gate::result(&gates, GateId::HolderReturns, "vm-a"), GateResult::Fail);
}

#[test]
fn a_record_of_the_counter_that_is_damaged_or_cannot_be_written_keeps_nobody_from_custody() {
    for hindrance in ["var/lib/liveupdate/counter.record", "var/lib/liveupdate/counter.new/in-the-way"] {
        let machine = Machine::new();
        machine.write(hindrance, "this is no record");
        let keeper = machine.keeper();
        assert!(keeper.counter().unwrap().is_some(), "{hindrance}: it was measured");
        assert!(machine.exists("run/liveupdate/holders/holders.sock"), "{hindrance}");
    }
}

#[test]
fn memory_that_another_hierarchy_counts_may_have_a_limit_there() {
    let machine = Machine::new();
    let group = "/vms.slice/vm-a.service";
    machine.process(900, 1, "vmm", group, false);
    std::fs::create_dir_all(machine.options().root.path(&format!("/sys/fs/cgroup{group}"))).unwrap();
    machine.publish("vm-a", 900, group);
    let agent = machine.host(Role::Agent);
    let charge = || {
        let gates = agent.gates(None).unwrap();
        gates.into_iter().find(|gate| gate.id == GateId::MemoryCharge && gate.subject == "vm-a").unwrap()
    };
    assert_eq!(charge().result, GateResult::Pass, "{:#?}", charge());
    machine.write("proc/900/cgroup", &format!("4:cpu:/\n9:memory:{group}\n0::{group}\n"));
    let gate = charge();
    assert_eq!(gate.result, GateResult::Unknown, "{gate:#?}");
    assert!(gate.remedy.contains("cgroup v2"), "{gate:#?}");
}

const LOADER: &str = "boot/loader/loader.conf";

/// The machine's boot partition, with another system as the default.
fn with_loader(machine: &Machine) {
    machine.write(LOADER, "default debian.conf\n");
}

fn default_of(machine: &Machine) -> String {
    std::fs::read_to_string(machine.options().root.path(LOADER)).unwrap()
}

#[test]
fn what_runs_becomes_the_default_and_is_known_again_after_a_power_cut() {
    let machine = Machine::new();
    with_loader(&machine);
    let (_, target) = jumped(&machine);
    machine.boot("b", &target.release, 208);
    let keeper = machine.keeper();
    assert!(keeper.persists());
    let other = Target { digest: format!("sha256:{}", "0".repeat(64)), ..target.clone() };
    let error = keeper.persist(&other, &mut || true).unwrap_err();
    assert!(matches!(error, HostError::WrongMoment { .. }), "that one does not run: {error}");
    let entry = keeper.persist(&target, &mut || true).unwrap();
    assert!(default_of(&machine).ends_with(&format!("default {entry}\n")), "{}", default_of(&machine));
    drop(keeper);

    // Firmware starts it.
    machine.boot("c", &target.release, 176);
    assert_eq!(machine.keeper().bundle_digest().unwrap(), None, "nothing tells what was started");
    let selected: Vec<u8> = entry.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let variable = "/sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    let variable = machine.options().root.path(variable);
    std::fs::create_dir_all(variable.parent().unwrap()).unwrap();
    std::fs::write(&variable, [&[6, 0, 0, 0], &selected[..]].concat()).unwrap();
    assert_eq!(machine.keeper().bundle_digest().unwrap(), Some(target.digest.clone()));
    // The variable outlives a kexec.
    machine.boot("d", &target.release, 208);
    assert_eq!(machine.keeper().bundle_digest().unwrap(), None);
    machine.boot("e", "another", 176);
    assert_eq!(machine.keeper().bundle_digest().unwrap(), None);
}

#[test]
fn what_could_not_be_made_the_default_is_in_the_evidence_for_as_long_as_it_runs() {
    let machine = Machine::new();
    std::fs::remove_file(machine.options().root.path(LOADER)).unwrap();
    let (_, target) = jumped(&machine);
    machine.boot("b", &target.release, 208);
    let told = || {
        let gates = machine.host(Role::Agent).gates(None).unwrap();
        gates.into_iter().find(|gate| gate.id == GateId::FallbackBoot).unwrap()
    };
    assert!(!told().evidence.contains("power cut"), "{:?}", told());
    let error = machine.keeper().persist(&target, &mut || true).unwrap_err().to_string();
    assert!(error.contains("/efi/loader/loader.conf"), "{error}");
    let gate = told();
    assert_eq!(gate.result, GateResult::Fail);
    assert!(gate.evidence.contains("a power cut does not start the running kernel"), "{gate:?}");
    with_loader(&machine);
    machine.keeper().persist(&target, &mut || true).unwrap();
    assert!(!told().evidence.contains("power cut"), "{:?}", told());

    let nowhere = super::super::Options { boot: Vec::new(), ..machine.options() };
    let calls = std::sync::Arc::clone(&machine.calls) as std::sync::Arc<dyn super::super::Calls>;
    assert!(!super::super::LinuxHost::with_calls(nowhere, Role::Agent, calls).unwrap().persists());
}
