//! Who ends, in which order, and who does not.

use super::fake::Machine;
use crate::{Host, HostError};

fn staged(machine: &Machine) {
    let target = machine.bundle("new");
    machine.keeper().stage(&target, &mut |_, _| true).unwrap();
    machine.calls.taken();
}

const LAST: [&str; 8] = [
    "load",
    "lock memory",
    "sync all",
    "sync /nfs",
    "sync /boot/efi",
    "sync /data",
    "sync /",
    "sync /var/lib/liveupdate",
];

const KUBE: &str = "/kubepods.slice/kubepods-besteffort.slice";
const POD: &str = "kubepods-besteffort-pod0b3c7a52_1f7e_4c57_9b0e_6a2f6d6f9c11.slice";
const OURS: &str = "kubepods-besteffort-pod0b3c7a52_1f7e_4c57_9b0e_6a2f6d6f9c22.slice";

/// A pod with two containers, one of them in the host's process namespace, and the agent's own.
fn pods(machine: &Machine) {
    machine.process(700, 1, "app", &format!("{KUBE}/{POD}/cri-containerd-a.scope"), true);
    machine.process(701, 700, "worker", &format!("{KUBE}/{POD}/cri-containerd-a.scope"), false);
    machine.process(702, 1, "hostpid", &format!("{KUBE}/{POD}/cri-containerd-b.scope"), false);
    machine.process(710, 1, "liveupdate-agen", &format!("{KUBE}/{OURS}/cri-containerd-c.scope"), true);
    machine.process(711, 1, "pause", &format!("{KUBE}/{OURS}/cri-containerd-d.scope"), true);
}

#[test]
fn invariant_11_with_systemd_the_kubelet_goes_first_then_containers_services_and_last_it_is_synced() {
    let machine = Machine::new();
    staged(&machine);
    pods(&machine);
    machine.calls.stubborn(701);
    machine.systemd(&[
        (
            "service",
            &[
                "containerd.service",
                "kubelet.service",
                "liveupdate-keeper.service",
                "postgresql.service",
                "ssh.service",
                "systemd-journald.service",
            ],
        ),
        ("timer", &["apt-daily.timer", "systemd-tmpfiles-clean.timer"]),
        ("socket", &["postgresql.socket", "dbus.socket", "other.socket"]),
    ]);
    let keeper = machine.keeper();
    keeper.settle(&[], &mut || true).unwrap();
    let done = machine.calls.taken();
    let first = ["stop kubelet.service", "ask 700", "ask 702", "force 701"];
    let services = ["stop apt-daily.timer postgresql.socket", "stop containerd.service postgresql.service"];
    assert_eq!(done, [&first[..], &services, &LAST].concat());
    assert!(machine.exists("proc/710") && machine.exists("proc/711"), "the agent's own pod is spared");

    // A keeper that was started again knows what to start.
    drop(keeper);
    machine.keeper().thaw().unwrap();
    let started = [
        "start containerd.service postgresql.service",
        "start apt-daily.timer postgresql.socket",
        "start kubelet.service",
    ];
    assert_eq!(machine.calls.taken(), started);
    machine.keeper().thaw().unwrap();
    assert_eq!(machine.calls.taken(), Vec::<String>::new(), "there is nothing more to undo");
}

#[test]
fn without_systemd_every_process_ends_but_ourselves_the_agent_and_who_started_them() {
    let machine = Machine::new();
    staged(&machine);
    pods(&machine);
    let own = std::process::id();
    machine.process(1, 0, "init", "/", false);
    machine.process(50, 1, "server", "/", false);
    machine.process(own, 50, "liveupdate-keep", "/", false);
    machine.process(60, 1, "kubelet", "/", false);
    machine.process(61, 1, "database", "/", false);
    machine.process(62, 1, "udhcpc", "/", false);
    machine.process(63, 1, "mine", "/", false);
    machine.write("proc/64/stat", "64 (kworker/0:1) S 2 0 0 0 0 2097152 0 0 0 0 0 0 0 0 0 0 0 0 6400 0\n");
    let options = super::super::Options { spare: vec!["mi*".into()], ..machine.options() };
    let calls = std::sync::Arc::clone(&machine.calls) as std::sync::Arc<dyn super::super::Calls>;
    let keeper = super::super::LinuxHost::with_calls(options, super::super::Role::Keeper, calls).unwrap();
    keeper.settle(&[], &mut || true).unwrap();
    let done = machine.calls.taken();
    let first = ["ask 60", "ask 700", "ask 702", "force 701", "ask 61"];
    assert_eq!(done, [&first[..], &LAST].concat());
    for spared in [1, 50, own, 62, 63, 710, 711] {
        assert!(machine.exists(&format!("proc/{spared}")), "{spared}");
    }
}

#[test]
fn who_does_not_end_in_time_is_ended_and_a_cancellation_is_felt_meanwhile() {
    let machine = Machine::new();
    staged(&machine);
    machine.process(61, 1, "database", "/", false);
    machine.calls.stubborn(61);
    let keeper = machine.keeper();
    let mut asked = 0;
    let cancelled = keeper.settle(&[], &mut || {
        asked += 1;
        asked < 6
    });
    assert_eq!(cancelled, Err(HostError::Cancelled));
    assert_eq!(machine.calls.taken(), ["ask 61"]);
    keeper.settle(&[], &mut || true).unwrap();
    assert_eq!(machine.calls.taken()[..3], ["ask 61", "force 61", "load"]);
}

#[test]
fn what_cannot_be_synced_or_is_not_loaded_any_more_ends_settling() {
    let machine = Machine::new();
    staged(&machine);
    machine.calls.fail("sync /data", libc::EIO);
    let error = machine.keeper().settle(&[], &mut || true).unwrap_err().to_string();
    assert!(error.contains("/data (xfs) cannot be synced"), "{error}");
    machine.write("sys/kernel/kexec_loaded", "0\n");
    let error = machine.keeper().settle(&[], &mut || true).unwrap_err().to_string();
    assert!(error.contains("no image of ours is loaded"), "{error}");
}
