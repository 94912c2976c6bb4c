//! After the jump: giving back, and never dropping what somebody may come for (invariant 8).

use std::os::unix::fs::FileExt;

use liveupdate_host::linux::custody::Custodian;

use crate::machine::{Machine, NONCE, declared, preserve, ready_to_jump, resumed, until};

/// Two holders, up to the next kernel.
fn jumped(machine: &Machine) -> (Custodian, [u64; 2]) {
    let keeper = machine.keeper();
    let (a, b) = (machine.hold("vm-a", "a1", &[]), machine.hold("vm-b", "b2", &[]));
    declared(&keeper, 2);
    until("both have counted", || {
        keeper.holders().unwrap().len() == 2 && a.says("verdict") && b.says("verdict")
    });
    std::thread::sleep(std::time::Duration::from_millis(30));
    ready_to_jump(&keeper);
    let counters = [a.number("quiesced", "counter"), b.number("quiesced", "counter")];
    // Processes end with their kernel, before anybody could tell them to go on.
    drop((a, b));
    let next = machine.jump(keeper);
    machine.orchestrator.log();
    (next, counters)
}

#[test]
fn two_holders_go_the_whole_way_and_their_counters_go_on_from_the_same_value() {
    let machine = Machine::new();
    let (keeper, counters) = jumped(&machine);
    assert!(counters.iter().all(|counter| *counter > 0));
    assert_eq!(keeper.returned_nonce().unwrap().as_deref(), Some(NONCE));
    assert_eq!(keeper.boot_id_before().as_deref(), Some("boot-1"));
    assert_eq!(keeper.committed_at(), Some(1));
    assert!(keeper.finish().unwrap_err().to_string().contains("may still come"));

    // No seed is said here: what is found was in the memory.
    let (a, b) = (machine.hold("vm-a", "", &[]), machine.hold("vm-b", "", &["--check-after"]));
    for (hold, counter, seed) in [(&a, counters[0], "a1"), (&b, counters[1], "b2")] {
        let line = hold.line("reclaimed");
        assert!(
            line.contains(&format!("pages=256 wrong={}", if seed == "a1" { "0" } else { "unchecked" })),
            "{line}"
        );
        assert!(line.contains(&format!(" seed={seed:0>16} ticks=")), "{line}");
        assert_eq!(hold.number("reclaimed", "counter"), counter);
        assert_eq!(hold.number("resumed", "counter"), counter);
    }
    b.line("checked pages=256 wrong=0");
    resumed(&keeper, 2);
    let (holders, devices) = keeper.reclaim().unwrap();
    assert!(devices.is_empty());
    for holder in holders {
        assert!(holder.quiesced.unwrap() < holder.resumed_at.unwrap(), "{holder:?}");
    }
    keeper.finish().unwrap();
    keeper.finish().unwrap();
    let mut log = machine.orchestrator.log();
    assert_eq!(log.pop().as_deref(), Some("finish liveupdate"), "ours is the last");
    log.sort();
    assert_eq!(log, ["finish liveupdate.0", "finish liveupdate.1"]);
    assert_eq!(keeper.returned_nonce().unwrap().as_deref(), Some(NONCE), "the proof stays");

    // And again, from what they have now.
    declared(&keeper, 2);
    until("both can be preserved again", || keeper.preserve("second", &[], &mut || true).is_ok());
    assert!(machine.orchestrator.log().contains(&"preserve token 1 of liveupdate.1".to_owned()));
}

#[test]
fn invariant_8_a_successor_that_dies_comes_again_and_finds_everything() {
    let machine = Machine::new();
    let (keeper, counters) = jumped(&machine);
    for misbehaviour in ["die-when-granted", "die-before-resumed"] {
        let mut dying = machine.hold("vm-a", "", &["--misbehave", misbehaviour]);
        assert_eq!(dying.ended(), Some(9));
        assert!(keeper.finish().is_err(), "{misbehaviour}");
        assert_eq!(machine.orchestrator.log(), [""; 0], "{misbehaviour}: nothing was dropped");
    }
    let good = machine.hold("vm-a", "", &[]);
    assert_eq!(good.number("resumed", "counter"), counters[0]);
    resumed(&keeper, 1);
    assert_eq!(machine.orchestrator.log(), ["finish liveupdate.0"]);
    assert!(keeper.finish().is_err(), "vm-b may still come");

    keeper.release_custody().unwrap();
    keeper.release_custody().unwrap();
    let dropped = ["finish liveupdate.1", "finish liveupdate"];
    assert_eq!(machine.orchestrator.log(), dropped);
    assert!(!machine.client().hello("vm-b"), "by the operator's word nothing waits for it any more");
}

#[test]
fn invariant_8_changed_memory_is_not_resumed_with_and_stays_in_custody() {
    let machine = Machine::new();
    let (keeper, _) = jumped(&machine);
    machine.orchestrator.arrived("liveupdate.0", 1).write_all_at(&[0xff; 3], 8192).unwrap();
    let hold = machine.hold("vm-a", "", &[]);
    hold.line("reclaimed pages=256 wrong=1");
    hold.line("1 of 256 pages are not what they were");
    assert!(!hold.says("resumed") && keeper.finish().is_err());
}

#[test]
fn invariant_8_no_grant_into_a_group_without_room_and_custody_goes_on() {
    let machine = Machine::new();
    let (keeper, counters) = jumped(&machine);
    machine.group("/system.slice/vm-a.service", "max");
    machine.group("/system.slice", "524288");
    let hold = machine.hold_in("/system.slice/vm-a.service", "vm-a", "", &[]);
    let refused = hold.line("control group cannot take the memory");
    assert!(refused.contains("/sys/fs/cgroup/system.slice: memory.max"), "{refused}");
    assert!(!hold.says("reclaimed"));
    machine.group("/system.slice", "2097152");
    assert_eq!(hold.number("reclaimed", "counter"), counters[0]);
    resumed(&keeper, 1);
}

#[test]
fn a_group_that_nobody_accounts_for_has_no_limit_and_one_that_cannot_be_seen_gets_nothing() {
    let machine = Machine::new();
    let (keeper, _) = jumped(&machine);
    let unseen = machine.hold_in("/elsewhere/vm-b.service", "vm-b", "", &[]);
    let refused = unseen.line("control group cannot take the memory");
    assert!(refused.contains("/sys/fs/cgroup/elsewhere/vm-b.service: no such file"), "{refused}");
    machine.unlimited("/elsewhere/vm-b.service");
    unseen.line("resumed");
    resumed(&keeper, 1);
}

#[test]
fn a_session_that_does_not_end_yet_is_tried_again() {
    let machine = Machine::new();
    let (keeper, _) = jumped(&machine);
    machine.orchestrator.be_busy(1);
    let _hold = machine.hold("vm-a", "", &[]);
    resumed(&keeper, 1);
    until("its session ends", || {
        keeper.reclaim().unwrap();
        machine.orchestrator.log().contains(&"finish liveupdate.0".to_owned())
    });
    declared(&keeper, 1);
}

#[test]
fn a_keeper_that_dies_after_the_jump_says_what_was_lost_and_knows_the_proof() {
    let machine = Machine::new();
    let (keeper, _) = jumped(&machine);
    let hold = machine.hold("vm-a", "", &[]);
    resumed(&keeper, 1);
    drop(keeper);
    let keeper = machine.keeper();
    assert_eq!(keeper.returned_nonce().unwrap().as_deref(), Some(NONCE));
    let (holders, _) = keeper.reclaim().unwrap();
    assert_eq!(holders.iter().map(|h| h.resumed).collect::<Vec<_>>(), [true, false]);
    hold.line("declares");
    let late = machine.hold("vm-b", "", &[]);
    late.line("was lost when the keeper ended without a service manager's fd store");
    assert!(keeper.finish().is_err(), "nobody may believe that all is well");
    keeper.release_custody().unwrap();
}

#[test]
fn a_keeper_whose_service_manager_kept_its_sessions_goes_on_where_it_was() {
    let machine = Machine::new();
    let (keeper, counters) = jumped(&machine);
    let mut dying = machine.hold("vm-a", "", &["--misbehave", "die-when-granted"]);
    dying.ended();
    let kept = machine.orchestrator.folders();
    drop(keeper);
    let keeper = machine.keeper_with(kept);
    let (a, b) = (machine.hold("vm-a", "", &[]), machine.hold("vm-b", "", &[]));
    assert_eq!([a.number("resumed", "counter"), b.number("resumed", "counter")], counters);
    resumed(&keeper, 2);
    keeper.finish().unwrap();
}

/// One holder's memory came through the jump, and both copies of the index are damaged.
fn jumped_unread(machine: &Machine) -> Custodian {
    let keeper = machine.keeper();
    let hold = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    ready_to_jump(&keeper);
    drop(hold);
    let index = machine.orchestrator.leaving("liveupdate", 0);
    for slot in [0, index.metadata().unwrap().len() / 2] {
        index.write_all_at(b"x", slot + 20).unwrap();
    }
    machine.jump(keeper)
}

#[test]
fn an_index_that_was_damaged_proves_nothing_and_drops_nothing() {
    let machine = Machine::new();
    let keeper = jumped_unread(&machine);
    assert_eq!(keeper.returned_nonce().unwrap(), None);
    assert_eq!(machine.orchestrator.sessions(), 2, "nothing was ended");
}

#[test]
fn invariant_8_what_an_unreadable_index_stands_for_is_in_the_way_until_it_is_given_up() {
    let machine = Machine::new();
    let mut keeper = jumped_unread(&machine);
    let _other = machine.hold("vm-b", "b", &[]);
    // Also for a keeper whose session nobody kept.
    for _ in 0..2 {
        assert!(keeper.keeps() && keeper.finish().is_err());
        declared(&keeper, 1);
        let refused = preserve(&keeper).unwrap_err().to_string();
        assert!(refused.contains("its index cannot be read"), "{refused}");
        drop(keeper);
        keeper = machine.keeper();
    }
    keeper.release_custody().unwrap();
    assert!(!keeper.keeps());
    declared(&keeper, 1);
    preserve(&keeper).unwrap();
    drop(keeper);
    assert!(!machine.keeper().keeps(), "what was given up is gone");
}
