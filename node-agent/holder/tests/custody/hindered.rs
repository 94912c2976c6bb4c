//! What keeps a keeper from asking the kernel is no answer: nobody hears that nothing came, and nothing is given up.

use std::collections::BTreeMap;

use liveupdate_host::linux::custody::Custodian;
use rustix::io::Errno;

use crate::machine::{Hold, Machine, NONCE, declared, ready_to_jump, resumed, until};

/// The kernel may say any of it at any time, and something else the next time.
const PASSING: [Errno; 4] = [Errno::BUSY, Errno::MFILE, Errno::NFILE, Errno::NOMEM];

/// Two holders that stand still, their guests' counters, and a keeper that is about to jump.
fn left(machine: &Machine) -> [u64; 2] {
    let keeper = machine.keeper();
    let holds: [Hold; 2] = ["vm-a", "vm-b"].map(|name| machine.hold(name, "a1", &[]));
    declared(&keeper, 2);
    until("both have counted", || holds.iter().all(|hold| hold.says("verdict")));
    ready_to_jump(&keeper);
    let counters = [0, 1].map(|i| holds[i].number("quiesced", "counter"));
    drop(holds);
    machine.leave(keeper);
    counters
}

fn lost(keeper: &Custodian) -> Vec<Option<String>> {
    keeper.reclaim().unwrap().0.into_iter().map(|holder| holder.lost).collect()
}

#[test]
fn invariant_8_a_keeper_that_cannot_ask_does_not_start_and_the_next_one_finds_everything() {
    for errno in PASSING {
        let machine = Machine::new();
        let counters = left(&machine);
        machine.orchestrator.hinder("liveupdate", errno, 1);
        let refused = machine.try_keeper(BTreeMap::new()).unwrap_err().to_string();
        assert!(refused.contains("find out what came through a jump"), "{errno}: {refused}");
        assert!(!machine.options().socket.exists(), "{errno}: holders wait, and hear nothing wrong");

        let keeper = machine.keeper();
        assert_eq!(keeper.returned_nonce().unwrap().as_deref(), Some(NONCE), "{errno}");
        assert!(!machine.client().hello("vm-c") && keeper.finish().is_err(), "{errno}");
        let back = ["vm-a", "vm-b"].map(|name| machine.hold(name, "", &[]));
        assert_eq!([0, 1].map(|i| back[i].number("resumed", "counter")), counters, "{errno}");
    }
}

#[test]
fn the_index_is_taken_out_when_there_is_a_file_for_it_and_given_up_when_the_kernel_has() {
    let index = "token 0 of liveupdate";
    for (errno, times, found) in [
        (Errno::MFILE, 3, true),
        (Errno::NOMEM, 3, true),
        (Errno::NOMEM, usize::MAX, false),
        (Errno::IO, 1, false),
    ] {
        let machine = Machine::new();
        left(&machine);
        machine.orchestrator.hinder(index, errno, times);
        let keeper = machine.keeper();
        assert_eq!(keeper.returned_nonce().unwrap().is_some(), found, "{errno}, {times} times");
        assert_eq!(machine.orchestrator.sessions(), 3, "nothing was ended");
    }
}

#[test]
fn what_the_kernel_says_for_good_is_believed() {
    for errno in [Errno::NOENT, Errno::INVAL, Errno::IO, Errno::NOTTY] {
        let machine = Machine::new();
        left(&machine);
        machine.orchestrator.hinder("liveupdate", errno, usize::MAX);
        let keeper = machine.keeper();
        assert_eq!(keeper.returned_nonce().unwrap(), None, "{errno}");
        assert!(!machine.client().hello("vm-a"), "{errno}: nothing can wait for it");
    }
}

#[test]
fn invariant_8_a_session_that_cannot_be_taken_yet_is_taken_when_its_holder_asks() {
    for errno in PASSING {
        let machine = Machine::new();
        let counters = left(&machine);
        machine.orchestrator.hinder("liveupdate.0", errno, 4);
        let keeper = machine.keeper();
        assert_eq!(lost(&keeper), [None, None], "{errno}: it is not lost");
        assert!(keeper.finish().is_err(), "{errno}");
        let a = machine.hold("vm-a", "", &[]);
        a.line("cannot be given to you yet, and is kept");
        assert_eq!(a.number("resumed", "counter"), counters[0], "{errno}: by the same keeper");
        let b = machine.hold("vm-b", "", &[]);
        assert_eq!(b.number("resumed", "counter"), counters[1], "{errno}");
        resumed(&keeper, 2);
        keeper.finish().unwrap();
    }
}

#[test]
fn a_session_that_is_nowhere_is_lost_though_others_are_not_taken_yet() {
    let machine = Machine::new();
    let counters = left(&machine);
    machine.orchestrator.hinder("liveupdate.0", Errno::NOMEM, 1);
    machine.orchestrator.hinder("liveupdate.1", Errno::NOENT, usize::MAX);
    let keeper = machine.keeper();
    // Whoever looks has them taken: the first now, and of the second it is known that there is none.
    let found = lost(&keeper);
    assert!(
        found[0].is_none() && found[1].as_ref().is_some_and(|why| why.contains("did not come")),
        "{found:?}"
    );
    let hold = machine.hold("vm-a", "", &[]);
    assert_eq!(hold.number("resumed", "counter"), counters[0]);
    machine.hold("vm-b", "", &[]).line("your session cannot be given to you: it did not come");
}

#[test]
fn what_is_given_up_is_taken_and_ended_though_nobody_took_it_before() {
    let machine = Machine::new();
    left(&machine);
    machine.orchestrator.hinder("liveupdate.0", Errno::BUSY, 1);
    let keeper = machine.keeper();
    machine.orchestrator.log();
    keeper.release_custody().unwrap();
    let mut ended = machine.orchestrator.log();
    assert_eq!(ended.pop().as_deref(), Some("finish liveupdate"));
    ended.sort();
    assert_eq!(ended, ["finish liveupdate.0", "finish liveupdate.1"]);
}

#[test]
fn what_an_earlier_keeper_left_is_not_nothing_because_it_cannot_be_read() {
    let machine = Machine::new();
    left(&machine);
    drop(machine.keeper());
    let record = machine.options().published.with_file_name("arrived.json");
    let text = std::fs::read(&record).unwrap();
    std::fs::remove_file(&record).unwrap();
    std::fs::create_dir(&record).unwrap();
    let refused = machine.try_keeper(BTreeMap::new()).unwrap_err().to_string();
    assert!(refused.contains("arrived.json"), "{refused}");
    std::fs::remove_dir(&record).unwrap();
    std::fs::write(&record, text).unwrap();
    assert_eq!(machine.keeper().returned_nonce().unwrap().as_deref(), Some(NONCE));
}
