//! Who ends, in which order, and who does not.

use super::fake::Machine;
use super::stands::ready_in;
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
    let keeper = machine.keeper_with(options);
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
    // Long enough for a machine that has other things to do: it is cancelled before that is over.
    let options = super::super::Options { grace: std::time::Duration::from_secs(2), ..machine.options() };
    let keeper = machine.keeper_with(options);
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

/// A holder of this machine; whoever tells of it has been started.
fn holder(machine: &Machine, cgroup: &str) {
    machine.process(900, 1, "qemu", cgroup, false);
    machine.publish("vm-a", 900, cgroup);
}

#[test]
fn nothing_is_stopped_with_which_systemd_would_stop_a_holder() {
    let machine = Machine::new();
    staged(&machine);
    let services = [
        "bridge.service",
        "gone.service",
        "keys.service",
        "launcher.service",
        "openvswitch.service",
        "other.service",
        "postgresql.service",
        "spdk.service",
        "ssh.service",
        "stack.service",
        "vm-a.service",
    ];
    machine.systemd(&[
        ("service", &services),
        ("socket", &["openvswitch.socket"]),
        ("timer", &["vms.timer"]),
    ]);
    let needs = [("Requires", "openvswitch.service vm-net.target"), ("BindsTo", "spdk.service")];
    machine.calls.unit("vm-a.service", &needs);
    machine.calls.unit("vm-a.service", &[("PartOf", "vms.target"), ("StopPropagatedFrom", "vms.timer")]);
    // Further away, and through units that are never stopped themselves.
    machine.calls.unit("vm-net.target", &[("Requires", "bridge.service")]);
    machine.calls.unit("vms.target", &[("PartOf", "stack.service")]);
    // With the last one that wants it.
    machine.calls.unit("vm-a.service", &[("StopWhenUnneeded", "yes"), ("WantedBy", "launcher.service")]);
    // The way to the controller is of as much use without its keys.
    machine.calls.unit("ssh.service", &[("Requires", "keys.service")]);
    machine.calls.unit("postgresql.service", &[("Requires", "other.service")]);
    let keeper = machine.keeper();
    holder(&machine, "/system.slice/vm-a.service");
    keeper.settle(&[], &mut || true).unwrap();
    assert!(machine.calls.runs("vm-a.service"), "the guest lives");
    let stopped = "stop gone.service other.service postgresql.service";
    assert_eq!(machine.calls.taken(), [&[stopped][..], &LAST].concat());

    // Told to be ended, nothing that it needs is spared for it.
    let devices = ["0000:01:00.0".to_owned()];
    machine.publish_with("vm-a", 900, "/system.slice/vm-a.service", &devices);
    keeper.settle(&devices, &mut || true).unwrap();
    assert!(!machine.calls.runs("vm-a.service") && !machine.calls.runs("openvswitch.service"));
    assert!(machine.calls.runs("keys.service"));
}

/// Its guest may run on, and only the attempt is lost.
#[test]
fn a_holder_in_custody_is_spared_though_its_connection_has_ended() {
    let machine = Machine::new();
    let (keeper, _, client) = ready_in(&machine, "/system.slice/vm-a.service");
    machine.systemd(&[("service", &["openvswitch.service", "postgresql.service", "vm-a.service"])]);
    machine.calls.unit("vm-a.service", &[("Requires", "openvswitch.service")]);
    drop(client);
    while !keeper.known().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(keeper.preserved().unwrap(), None);
    keeper.settle(&[], &mut || true).unwrap();
    assert!(machine.calls.runs("vm-a.service"), "the guest lives");
    assert_eq!(machine.calls.taken()[0], "stop postgresql.service");
}

#[test]
fn a_kubelet_with_which_systemd_would_stop_a_holder_ends_settling_before_anything_is_stopped() {
    let machine = Machine::new();
    staged(&machine);
    machine.systemd(&[("service", &["kubelet.service", "postgresql.service", "vm-a.service"])]);
    machine.calls.unit("vm-a.service", &[("BindsTo", "kubelet.service")]);
    let keeper = machine.keeper();
    holder(&machine, "/system.slice/vm-a.service");
    let error = keeper.settle(&[], &mut || true).unwrap_err().to_string();
    assert!(error.contains("systemd would stop vm-a.service with it"), "{error}");
    assert_eq!(machine.calls.taken(), Vec::<String>::new());
}

#[test]
fn machines_and_containers_in_scopes_end_before_the_services_that_they_may_need() {
    let machine = Machine::new();
    staged(&machine);
    let vm = |number: u32| format!("machine-qemu\\x2d{number}.scope");
    let (ours, theirs) = (vm(1), vm(2));
    machine.process(901, 1, "qemu", &format!("/machine.slice/{theirs}/libvirt/emulator"), false);
    pods(&machine);
    let scopes = [
        "cri-containerd-a.scope",
        "cri-containerd-c.scope",
        "cri-containerd-d.scope",
        "init.scope",
        ours.as_str(),
        theirs.as_str(),
        "session-3.scope",
        "user-9.scope",
    ];
    machine.systemd(&[("service", &["user@7.service", "virtlogd.service"]), ("scope", &scopes)]);
    let keeper = machine.keeper();
    holder(&machine, &format!("/machine.slice/{ours}/libvirt/emulator"));
    keeper.settle(&[], &mut || true).unwrap();
    let containers = ["ask 700", "ask 702", "force 701"];
    let scopes = format!("stop cri-containerd-a.scope {theirs} user-9.scope");
    let services = [scopes.as_str(), "stop user@7.service virtlogd.service"];
    assert_eq!(machine.calls.taken(), [&containers[..], &services, &LAST].concat());

    // Nobody but its maker can start a scope again.
    keeper.thaw().unwrap();
    assert_eq!(machine.calls.taken(), ["unlock memory", "start user@7.service virtlogd.service"]);

    // Of a user's own manager systemd stops all or nothing.
    machine.systemd(&[("service", &["user@7.service", "virtlogd.service"])]);
    holder(&machine, "/user.slice/user-7.slice/user@7.service/app.slice/vm-a.service");
    keeper.settle(&[], &mut || true).unwrap();
    assert_eq!(machine.calls.taken()[0], "stop virtlogd.service");
}

#[test]
fn a_unit_that_refuses_to_be_stopped_is_left_and_keeps_no_other_one() {
    let machine = Machine::new();
    staged(&machine);
    machine.systemd(&[("service", &["auditd.service", "postgresql.service", "quota.service"])]);
    machine.calls.unit("auditd.service", &[("RefuseManualStop", "yes")]);
    // Nobody could start it again after an abort.
    machine.calls.unit("quota.service", &[("RefuseManualStart", "yes")]);
    machine.keeper().settle(&[], &mut || true).unwrap();
    assert_eq!(machine.calls.taken()[0], "stop postgresql.service");
    assert!(machine.calls.runs("auditd.service") && machine.calls.runs("quota.service"));
}

#[test]
fn one_that_cannot_be_started_again_keeps_nobody_else_stopped_and_is_tried_again() {
    let machine = Machine::new();
    staged(&machine);
    machine.systemd(&[
        ("service", &["a.service", "b.service", "kubelet.service", "run-u5.service"]),
        ("timer", &["apt-daily.timer"]),
    ]);
    machine.calls.unit("run-u5.service", &[("Transient", "yes")]);
    let keeper = machine.keeper();
    keeper.settle(&[], &mut || true).unwrap();
    machine.calls.taken();
    keeper.thaw().unwrap();
    let started = [
        "unlock memory",
        "start a.service b.service run-u5.service",
        "start a.service",
        "start b.service",
        "start run-u5.service",
        "start apt-daily.timer",
        "start kubelet.service",
    ];
    assert_eq!(machine.calls.taken(), started, "what is gone is done");
    keeper.thaw().unwrap();
    assert_eq!(machine.calls.taken(), Vec::<String>::new());

    // One that is there and does not start is tried again, alone, also by a keeper that starts later, and also after
    // another attempt has settled.
    machine.systemd(&[("service", &["a.service", "b.service", "kubelet.service"])]);
    keeper.settle(&[], &mut || true).unwrap();
    machine.calls.unit("b.service", &[("LoadState", "bad-setting")]);
    machine.calls.taken();
    let error = keeper.thaw().unwrap_err().to_string();
    assert!(error.contains("b.service: systemctl start: Failed to start b.service"), "{error}");
    let started =
        ["start a.service b.service", "start a.service", "start b.service", "start kubelet.service"];
    assert_eq!(machine.calls.taken(), [&["unlock memory"][..], &started].concat());
    drop(keeper);
    let keeper = machine.keeper();
    machine.systemd(&[("service", &["c.service"])]);
    keeper.settle(&[], &mut || true).unwrap();
    machine.calls.taken();
    machine.calls.unit("b.service", &[("LoadState", "")]);
    keeper.thaw().unwrap();
    assert_eq!(machine.calls.taken(), ["unlock memory", "start c.service", "start b.service"]);
}

#[test]
fn what_an_attempt_locked_in_memory_is_let_go_of_when_it_is_undone_and_once() {
    let machine = Machine::new();
    staged(&machine);
    let keeper = machine.keeper();
    keeper.settle(&[], &mut || true).unwrap();
    assert_eq!(machine.calls.taken(), LAST);
    machine.calls.fail("unlock memory", libc::EPERM);
    keeper.thaw().unwrap();
    keeper.thaw().unwrap();
    assert_eq!(machine.calls.taken(), ["unlock memory"], "nothing else was stopped");
}
