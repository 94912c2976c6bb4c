//! Who goes on when an attempt is undone, also when nothing is in custody any more; and who must not be jumped with.

use std::os::fd::AsFd;
use std::thread;

use liveupdate_holder::messages::envelope::Message;
use liveupdate_holder::messages::{Preserved, Quiesced, Resumed};
use liveupdate_host::linux::custody::Custodian;

use crate::machine::{
    ATTEMPT, Client, Machine, SOON, declared, intent, memory, preserve, ready_to_jump, until, votes,
};

/// A holder in this process, up to where it stands still.
fn stands(machine: &Machine, keeper: &Custodian) -> (Client, std::os::fd::OwnedFd) {
    let (mut client, file) = (machine.client(), memory(4096));
    client.hello("vm-a");
    client.declare(&[file.as_fd()]);
    assert!(matches!(client.hear(), Some(Message::Verdict(_))));
    until("it declares itself", || keeper.holders().unwrap().iter().any(|holder| holder.name == "vm-a"));
    thread::scope(|scope| {
        let taken = scope.spawn(|| preserve(keeper));
        assert!(matches!(client.hear(), Some(Message::Preserve(_))));
        client.say(ATTEMPT, Message::Preserved(Preserved {}), &[]);
        taken.join().unwrap().unwrap();
        let stops = scope.spawn(|| votes(keeper, SOON));
        assert!(matches!(client.hear(), Some(Message::Quiesce(_))));
        let quiesced = Quiesced { counter: 5, interrupts_off: true, ..Quiesced::default() };
        client.say(ATTEMPT, Message::Quiesced(quiesced), &[]);
        assert_eq!(stops.join().unwrap()["vm-a"], Ok(()));
    });
    (client, file)
}

/// What the keeper knows of the only holder: whether it goes on, and since when.
fn went_on(keeper: &Custodian) -> (Result<(), String>, Option<u64>) {
    let answers = keeper.resume("undone").unwrap();
    let [answer] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(answer.holder, "vm-a");
    (answer.result.clone(), answer.counter)
}

#[test]
fn a_holder_that_goes_on_when_custody_is_gone_already_is_counted() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (mut client, _file) = stands(&machine, &keeper);
    // As after the time that everybody has to say that they go on.
    keeper.unpreserve().unwrap();
    assert!(matches!(client.hear(), Some(Message::Resume(_))));
    assert_eq!(went_on(&keeper), (Err("did not say Resumed".into()), None));
    client.say(ATTEMPT, Message::Resumed(Resumed { counter: 7, checks: vec![] }), &[]);
    until("it is counted", || went_on(&keeper).0.is_ok());
    assert_eq!(went_on(&keeper), (Ok(()), Some(7)));
    assert_eq!(machine.orchestrator.sessions(), 0);
    // What it says later is of the next attempt.
    drop(client);
    until("its end is seen", || keeper.holders().unwrap().is_empty());
    assert_eq!(went_on(&keeper).0, Ok(()), "it went on, whatever became of it since");
}

#[test]
fn a_holder_whose_connection_ended_is_counted_when_it_has_declared_itself_again() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (client, file) = stands(&machine, &keeper);
    keeper.unpreserve().unwrap();
    drop(client);
    until("its end is seen", || keeper.holders().unwrap().is_empty());
    assert_eq!(went_on(&keeper).0, Err("it went away".into()));
    let mut client = machine.welcomed("vm-a");
    assert_eq!(went_on(&keeper).0, Err("it went away".into()), "it has not said anything yet");
    client.declare(&[file.as_fd()]);
    assert!(matches!(client.hear(), Some(Message::Verdict(_))));
    assert_eq!(went_on(&keeper), (Ok(()), None), "when that was is not known");
}

#[test]
fn one_that_does_not_say_that_it_goes_on_keeps_nobody_but_those_that_depend_on_it() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (b, c) = (machine.hold("vm-b", "b", &[]), machine.hold("vm-c", "c", &["--after", "vm-a"]));
    declared(&keeper, 2);
    let (mut client, _file) = stands(&machine, &keeper);
    thread::scope(|scope| {
        let resumes = scope.spawn(|| keeper.resume("undone").unwrap());
        assert!(matches!(client.hear(), Some(Message::Resume(_))));
        b.line("resumed");
        assert!(!c.says("resumed"), "whom it depends on goes first");
        client.say(ATTEMPT, Message::Resumed(Resumed { counter: 7, checks: vec![] }), &[]);
        let answers = resumes.join().unwrap();
        assert!(answers.iter().all(|answer| answer.result.is_ok()), "{answers:?}");
    });
    c.line("resumed");
}

#[test]
fn another_process_of_that_name_is_not_who_stood_still() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut hold = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    preserve(&keeper).unwrap();
    assert_eq!(votes(&keeper, SOON)["vm-a"], Ok(()));
    hold.kill();
    until("its end is seen", || keeper.holders().unwrap().is_empty());
    let _again = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    let died = Err("went away while Quiesced".to_owned());
    assert_eq!(went_on(&keeper).0, died);
    keeper.unpreserve().unwrap();
    assert_eq!(went_on(&keeper).0, died);
}

/// The connection's end let them go on, and what they declare since is new.
#[test]
fn a_keeper_that_was_started_again_counts_who_has_declared_itself_to_it() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let hold = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    ready_to_jump(&keeper);
    drop(keeper);
    let keeper = machine.keeper();
    hold.line("cause=\"the keeper is gone\"");
    until("it is counted", || keeper.resume("undone").unwrap().len() == 1);
    assert_eq!(went_on(&keeper), (Ok(()), None));
    // From the next attempt on it has to say so.
    until("it can be preserved again", || preserve(&keeper).is_ok());
    assert_eq!(votes(&keeper, SOON)["vm-a"], Ok(()));
    keeper.unpreserve().unwrap();
    until("it says so", || matches!(went_on(&keeper), (Ok(()), Some(_))));
}

#[test]
fn whose_connection_has_ended_after_the_last_word_is_not_jumped_with() {
    let gone = |keeper: &Custodian| {
        let refused = keeper.all_stand().unwrap_err().to_string();
        assert!(refused.contains("cannot preserve vm-a"), "{refused}");
    };
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (mut client, _file) = stands(&machine, &keeper);
    keeper.commit(&intent(), Some(1)).unwrap();
    assert!(matches!(client.hear(), Some(Message::Commit(_))));
    keeper.all_stand().unwrap();
    // Not by its file's end alone: processes that other tests start keep that open for a moment.
    rustix::net::shutdown(&client.packets, rustix::net::Shutdown::Both).unwrap();
    drop(client);
    gone(&keeper);
    until("its end is seen", || keeper.holders().unwrap().is_empty());
    gone(&keeper);
    keeper.refused();
    assert_eq!(went_on(&keeper).0, Err("went away while Committed".into()));
    drop(keeper);

    // That it could not be told the last word shows nowhere else.
    let keeper = machine.keeper();
    let (client, _file) = stands(&machine, &keeper);
    rustix::net::shutdown(&client.packets, rustix::net::Shutdown::Read).unwrap();
    keeper.commit(&intent(), Some(1)).unwrap();
    gone(&keeper);
    drop((client, keeper));

    let keeper = machine.keeper();
    let mut hold = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    ready_to_jump(&keeper);
    keeper.all_stand().unwrap();
    hold.kill();
    gone(&keeper);
}
