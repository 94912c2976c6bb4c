//! What is loaded, and what is only believed to be.

use super::super::Role;
use super::fake::Machine;
use crate::linux::gates::Loaded;
use crate::{Host, HostError};

#[test]
fn what_is_staged_is_what_the_kernel_and_our_record_say_together() {
    let machine = Machine::new();
    let target = machine.bundle("new");
    let agent = machine.host(Role::Agent);
    assert_eq!(agent.staged().unwrap(), None);
    agent.stage(&target, &mut |_, _| true).unwrap();
    assert_eq!(machine.calls.taken(), ["load"]);
    // Another process of this boot, started later, finds the same.
    let keeper = machine.keeper();
    assert_eq!(keeper.staged().unwrap(), Some(target.clone()));
    assert_eq!(keeper.whose().unwrap(), Loaded::Ours);

    machine.write("sys/kernel/kexec_loaded", "0\n");
    assert_eq!(keeper.staged().unwrap(), None, "somebody unloaded it");
    machine.write("sys/kernel/kexec_loaded", "1\n");
    machine.write("proc/sys/kernel/random/boot_id", "another boot\n");
    assert_eq!(keeper.staged().unwrap(), None, "our record is of another boot");
    assert_eq!(keeper.whose().unwrap(), Loaded::NothingOfOurs);
    let error = keeper.stage(&target, &mut |_, _| true).unwrap_err();
    assert!(error.to_string().contains("kexec -u"), "invariant 7: what others loaded stays: {error}");
    keeper.unstage().unwrap();
    assert_eq!(machine.calls.taken(), Vec::<String>::new());
}

#[test]
fn a_crash_while_it_is_loaded_leaves_nothing_that_counts_as_staged() {
    let machine = Machine::new();
    let target = machine.bundle("new");
    let agent = machine.host(Role::Agent);
    agent.stage(&target, &mut |_, _| true).unwrap();
    let begun = agent.load("staged").unwrap().unwrap();
    let begun = String::from_utf8(begun).unwrap().replace("\"loaded\":true", "\"loaded\":false");
    agent.store("staged", begun.as_bytes()).unwrap();
    assert_eq!(agent.staged().unwrap(), None);
    assert_eq!(agent.whose().unwrap(), Loaded::Ours, "it is nobody else's either");
    agent.stage(&target, &mut |_, _| true).unwrap();
    assert_eq!(agent.staged().unwrap(), Some(target));
}

#[test]
fn a_bundle_that_is_not_wanted_absent_or_cancelled_loads_nothing() {
    let machine = Machine::new();
    let target = machine.bundle("new");
    let agent = machine.host(Role::Agent);
    let other = crate::Target { digest: format!("sha256:{}", "0".repeat(64)), ..target.clone() };
    let error = agent.stage(&other, &mut |_, _| true).unwrap_err();
    assert!(matches!(error, HostError::DigestMismatch { .. }), "{error}");
    let absent = crate::Target { bundle: "../new".into(), ..other };
    let error = agent.stage(&absent, &mut |_, _| true).unwrap_err();
    assert!(matches!(error, HostError::NoSuchBundle { .. }), "{error}");
    let wrong = crate::Target { release: "7.3.6".into(), ..target.clone() };
    let error = agent.stage(&wrong, &mut |_, _| true).unwrap_err();
    assert!(matches!(error, HostError::ReleaseMismatch { .. }), "{error}");
    // Cancelled wherever it is asked, until it is asked no more.
    for last in 1..50 {
        let mut asked = 0;
        let staged = agent.stage(&target, &mut |_, _| {
            asked += 1;
            asked < last
        });
        if staged == Err(HostError::Cancelled) {
            assert_eq!((agent.staged().unwrap(), machine.calls.taken()), (None, Vec::new()));
        } else {
            assert_eq!((staged, last > 3), (Ok(()), true), "asked {asked} times");
            break;
        }
    }
    assert_eq!(agent.staged().unwrap(), Some(target));
}

#[test]
fn modules_of_the_running_kernel_stay_though_its_bundle_is_not_known() {
    let machine = Machine::new();
    let (ours, of_another) = ("lib/modules/7.3.4-lu1/.liveupdate", "lib/modules/7.3.3/.liveupdate");
    for mark in [ours, of_another] {
        machine.write(mark, &format!("sha256:{}", "0".repeat(64)));
    }
    let target = machine.bundle("new");
    machine.host(Role::Agent).stage(&target, &mut |_, _| true).unwrap();
    assert!(machine.exists(ours) && !machine.exists(of_another));
}

#[test]
fn what_the_kernel_does_not_take_is_told_and_nothing_stays_loaded() {
    let machine = Machine::new();
    let target = machine.bundle("new");
    let agent = machine.host(Role::Agent);
    agent.stage(&target, &mut |_, _| true).unwrap();
    machine.calls.fail("load", libc::ENOEXEC);
    let error = agent.stage(&target, &mut |_, _| true).unwrap_err().to_string();
    assert!(error.contains("as asked") && error.contains("Exec format error"), "{error}");
    assert_eq!(machine.calls.taken(), ["load", "load", "unload"]);
    assert_eq!(agent.staged().unwrap(), None);
}
