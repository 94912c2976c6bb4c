//! The order of a jump, and how it is taken back.

use std::time::Duration;

use super::fake::Machine;
use crate::{Host, JumpIntent, Target};

fn intent(target: Target) -> JumpIntent {
    JumpIntent { attempt: "a-1".into(), nonce: "0".repeat(32), target, until: Duration::MAX }
}

fn ready(machine: &Machine) -> (super::super::LinuxHost, JumpIntent) {
    let (keeper, target) = (machine.keeper(), machine.bundle("new"));
    keeper.stage(&target, &mut |_, _| true).unwrap();
    machine.calls.taken();
    (keeper, intent(target))
}

/// What is left of a permission when the keeper jumps.
const LEFT: Duration = Duration::from_secs(30);

/// As [`ready`], with no more time than that.
fn permitted(machine: &Machine) -> (super::super::LinuxHost, JumpIntent) {
    let (keeper, intent) = ready(machine);
    let until = keeper.monotonic().unwrap() + LEFT;
    (keeper, JumpIntent { until, ..intent })
}

const DOWN: [&str; 10] = [
    "sync all",
    "sync /nfs",
    "sync /boot/efi",
    "freeze /boot/efi",
    "sync /data",
    "freeze /data",
    "sync /",
    "freeze /",
    "sync /var/lib/liveupdate",
    "freeze /var/lib/liveupdate",
];

#[test]
fn invariant_11_everything_is_at_rest_before_the_jump_and_goes_on_in_reverse_when_it_is_refused() {
    let machine = Machine::new();
    let (keeper, intent) = ready(&machine);
    let refused = keeper.jump(&intent).unwrap_err();
    assert!(refused.why.contains("reboot(KEXEC)") && refused.why.contains("busy"), "{}", refused.why);
    let up = ["reboot, recorded", "thaw /var/lib/liveupdate", "thaw /", "thaw /data", "thaw /boot/efi"];
    assert_eq!(machine.calls.taken(), [&DOWN[..], &up].concat());
    // It is still what would be jumped into: who asked decides what becomes of it.
    assert_eq!(keeper.staged().unwrap(), Some(intent.target));
}

#[test]
fn what_cannot_be_frozen_is_made_read_only_and_what_others_froze_stays_theirs() {
    let machine = Machine::new();
    let (keeper, intent) = ready(&machine);
    machine.calls.fail("freeze /boot/efi", libc::EOPNOTSUPP);
    machine.calls.fail("freeze /data", libc::EBUSY);
    keeper.jump(&intent).unwrap_err();
    let done = machine.calls.taken();
    assert_eq!(done[4], "read-only /boot/efi");
    let up = ["thaw /var/lib/liveupdate", "thaw /", "writable /boot/efi"];
    assert_eq!(done[done.len() - 3..], up);
}

#[test]
fn a_file_system_that_does_not_come_to_rest_ends_the_jump_before_it_and_all_goes_on() {
    for (call, errno) in [("freeze /", libc::EIO), ("sync /", libc::EIO)] {
        let machine = Machine::new();
        let (keeper, intent) = ready(&machine);
        machine.calls.fail(call, errno);
        let refused = keeper.jump(&intent).unwrap_err();
        assert!(refused.why.contains("/ (ext4) cannot be"), "{}", refused.why);
        let done = machine.calls.taken();
        assert_eq!(done[done.len() - 2..], ["thaw /data", "thaw /boot/efi"]);
        assert!(!done.iter().any(|call| call.starts_with("reboot")), "{done:?}");
    }
}

#[test]
fn invariant_2_a_disk_that_takes_too_long_ends_the_jump_with_its_permission_and_all_goes_on() {
    let minute = Duration::from_secs(60);
    for (call, why) in
        [("freeze /", "cannot be frozen: not done within 30s"), ("sync /", "not done within 10s")]
    {
        let machine = Machine::new();
        let (keeper, intent) = permitted(&machine);
        machine.calls.slow(call, minute);
        let refused = keeper.jump(&intent).unwrap_err();
        assert!(refused.why.contains("/ (ext4) cannot be") && refused.why.contains(why), "{}", refused.why);
        let done = machine.calls.taken();
        let end = [format!("{call}, given up"), "thaw /data".into(), "thaw /boot/efi".into()];
        assert_eq!(done[done.len() - 3..], end);
        assert!(
            keeper.monotonic().unwrap() <= intent.until,
            "holders stood still no longer than was permitted"
        );
    }
    // Nor is there more time for what cannot be frozen and is made read-only.
    let machine = Machine::new();
    let (keeper, intent) = permitted(&machine);
    machine.calls.fail("freeze /boot/efi", libc::EOPNOTSUPP);
    machine.calls.slow("read-only /boot/efi", minute);
    let refused = keeper.jump(&intent).unwrap_err();
    assert!(
        refused.why.contains("/boot/efi (vfat) can neither be frozen nor made read-only"),
        "{}",
        refused.why
    );
    assert_eq!(machine.calls.taken().last().unwrap(), "read-only /boot/efi, given up");
}

#[test]
fn invariant_2_a_permission_that_runs_out_on_the_way_is_none_any_more() {
    for (second, before, at_rest) in [
        ("freeze /data", "before / (ext4) was at rest", 2),
        ("freeze /var/lib/liveupdate", "before the kernel was asked to jump", 4),
    ] {
        let machine = Machine::new();
        let (keeper, intent) = permitted(&machine);
        for call in ["freeze /boot/efi", second] {
            machine.calls.slow(call, LEFT / 2);
        }
        let refused = keeper.jump(&intent).unwrap_err();
        assert!(refused.why.contains("the time for the jump ran out"), "{}", refused.why);
        assert!(refused.why.contains(before), "{}", refused.why);
        let done = machine.calls.taken();
        let count = |what: &str| done.iter().filter(|call| call.starts_with(what)).count();
        assert_eq!((count("freeze"), count("thaw"), count("reboot")), (at_rest, at_rest, 0), "{done:?}");
    }
    let machine = Machine::new();
    let (keeper, intent) = permitted(&machine);
    let over = JumpIntent { until: keeper.monotonic().unwrap(), ..intent };
    let refused = keeper.jump(&over).unwrap_err();
    assert!(refused.why.contains("before it was recorded"), "{}", refused.why);
    assert_eq!(machine.calls.taken(), [""; 0]);
}

#[test]
fn no_jump_into_another_image_or_none_and_none_by_the_agent() {
    let machine = Machine::new();
    let (keeper, asked) = ready(&machine);
    let other = intent(Target { release: "other".into(), ..asked.target.clone() });
    assert!(keeper.jump(&other).unwrap_err().why.contains("another image"));
    machine.write("sys/kernel/kexec_loaded", "0\n");
    assert!(keeper.jump(&asked).unwrap_err().why.contains("not loaded"));
    let agent = machine.host(super::super::Role::Agent);
    assert!(agent.jump(&asked).unwrap_err().why.contains("not the keeper"));
    assert_eq!(machine.calls.taken(), Vec::<String>::new());
}

#[test]
fn invariant_8_no_jump_over_what_came_through_and_cannot_be_read() {
    let machine = Machine::new();
    let boot_id = machine.host(super::super::Role::Agent).boot_id().unwrap();
    // Cut off, and as a keeper notes it that cannot read the index.
    for record in ["{".to_owned(), format!("{{\"bootId\":{boot_id:?},\"index\":null}}")] {
        machine.write("run/liveupdate/arrived.json", &record);
        let (keeper, asked) = ready(&machine);
        assert!(keeper.keeps().unwrap());
        let refused = keeper.jump(&asked).unwrap_err();
        assert!(refused.why.contains("neither given back nor given up"), "{}", refused.why);
        assert_eq!(machine.calls.taken(), [""; 0]);
        assert!(keeper.finish().is_err() && keeper.keeps().unwrap());
        keeper.release_custody().unwrap();
        assert!(keeper.jump(&asked).unwrap_err().why.contains("reboot(KEXEC)"));
        drop(keeper);
        assert!(!machine.keeper().keeps().unwrap(), "what was given up is gone");
    }
}

#[test]
fn invariant_6_a_keeper_that_died_in_the_jump_leaves_nothing_at_rest() {
    let machine = Machine::new();
    let (keeper, asked) = ready(&machine);
    keeper.jump(&asked).unwrap_err();
    // As it was written before the jump: the keeper was killed in it.
    let record = String::from_utf8(keeper.load("jump").unwrap().unwrap()).unwrap();
    keeper.store("jump", record.replace("\"over\":true", "\"over\":false").as_bytes()).unwrap();
    machine.calls.taken();
    machine.calls.fail("thaw /boot/efi", libc::EINVAL);
    drop(keeper);
    drop(machine.keeper());
    let up = ["thaw /var/lib/liveupdate", "thaw /", "thaw /data", "thaw /boot/efi"];
    assert_eq!(machine.calls.taken(), up);
    drop(machine.keeper());
    assert_eq!(machine.calls.taken(), Vec::<String>::new(), "once is enough");
}

#[test]
fn a_machine_in_memory_has_nothing_to_bring_to_rest() {
    let machine = Machine::new();
    machine.write("proc/self/mountinfo", "1 1 0:2 / / rw - rootfs rootfs rw\n");
    let (keeper, intent) = ready(&machine);
    keeper.jump(&intent).unwrap_err();
    assert_eq!(machine.calls.taken(), ["sync all", "reboot, recorded"]);
}

#[test]
fn a_disk_that_does_not_say_what_is_loaded_ends_the_jump_with_its_time() {
    let machine = Machine::new();
    let (keeper, intent) = ready(&machine);
    // Nobody ever writes there.
    let record = machine.options().root.path("/var/lib/liveupdate/staged.record");
    std::fs::remove_file(&record).unwrap();
    let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, &record, fifo, mode, 0).unwrap();
    let until = keeper.monotonic().unwrap() + Duration::from_millis(100);
    let refused = keeper.jump(&JumpIntent { until, ..intent }).unwrap_err();
    assert!(refused.why.contains("read the record staged: not done within 0.1 s"), "{}", refused.why);
    assert_eq!(machine.calls.taken(), [""; 0]);
}

#[test]
fn invariant_11_what_is_mounted_where_only_its_holder_sees_it_is_synced_or_there_is_no_jump() {
    let machine = Machine::new();
    let (keeper, intent) = permitted(&machine);
    machine.calls.slow("sync all", 2 * LEFT);
    let refused = keeper.jump(&intent).unwrap_err();
    assert!(refused.why.contains("what was written cannot be synced: not done within"), "{}", refused.why);
    assert_eq!(machine.calls.taken(), ["sync all, given up"]);
    assert!(keeper.monotonic().unwrap() <= intent.until, "holders stood still no longer than was permitted");
}

#[test]
fn invariant_11_a_programs_file_system_is_synced_unless_nobody_can_reach_it() {
    for (errno, jumps) in
        [(libc::ENOTCONN, true), (libc::ECONNABORTED, true), (libc::EACCES, true), (libc::EIO, false)]
    {
        let machine = Machine::new();
        machine.write("proc/self/mountinfo", "30 22 0:44 / /there rw - fuse.sshfs host: rw\n");
        let (keeper, intent) = ready(&machine);
        machine.calls.fail("sync /there", errno);
        let refused = keeper.jump(&intent).unwrap_err();
        assert_eq!(refused.why.contains("/there (fuse.sshfs) cannot be synced"), !jumps, "{}", refused.why);
        let all: &[&str] = &["sync all", "sync /there", "reboot, recorded"];
        assert_eq!(machine.calls.taken(), all[..if jumps { 3 } else { 2 }]);
    }
}
