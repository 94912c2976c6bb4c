//! Before the jump: votes, deaths, and undoing.

use std::time::Duration;

use crate::machine::{
    ATTEMPT, Machine, NONCE, SOON, declared, intent, preserve, ready_to_jump, until, votes,
};
use liveupdate_host::HostError;

#[test]
fn all_is_taken_in_order_or_given_back_in_reverse() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (_a, _b) = (machine.hold("vm-a", "a", &[]), machine.hold("vm-b", "b", &[]));
    declared(&keeper, 2);
    preserve(&keeper).unwrap();
    preserve(&keeper).unwrap();
    assert_eq!(keeper.preserved().unwrap().unwrap().attempt, ATTEMPT);
    assert!(matches!(keeper.preserve("another", &[], &mut || true), Err(HostError::WrongMoment { .. })));
    let taken = [
        "create liveupdate.0",
        "preserve token 1 of liveupdate.0",
        "create liveupdate.1",
        "preserve token 1 of liveupdate.1",
        "create liveupdate",
        "preserve token 0 of liveupdate",
    ];
    assert_eq!(machine.orchestrator.log(), taken);
    keeper.unpreserve().unwrap();
    keeper.unpreserve().unwrap();
    let given = ["give back liveupdate", "give back liveupdate.1", "give back liveupdate.0"];
    assert_eq!(machine.orchestrator.log(), given);
    assert_eq!(keeper.preserved().unwrap(), None);

    // What fails in the middle, and what is cancelled there, leaves nothing either.
    machine.orchestrator.refuse(Some(0));
    assert!(matches!(preserve(&keeper), Err(HostError::NotPreserved { .. })));
    machine.orchestrator.refuse(None);
    let mut files = 0;
    let cancelled = keeper.preserve(ATTEMPT, &[], &mut || {
        files += usize::from(machine.orchestrator.sessions() > 0);
        files < 2
    });
    assert_eq!(cancelled, Err(HostError::Cancelled));
    assert_eq!((machine.orchestrator.sessions(), keeper.preserved().unwrap()), (0, None));
    preserve(&keeper).unwrap();
}

#[test]
fn one_that_votes_no_lets_the_other_go_on_where_it_stood() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (good, no) = (machine.hold("vm-a", "a", &[]), machine.hold("vm-b", "b", &["--misbehave", "vote-no"]));
    declared(&keeper, 2);
    preserve(&keeper).unwrap();
    let votes = votes(&keeper, SOON);
    assert_eq!(votes["vm-a"], Ok(()));
    assert_eq!(votes["vm-b"], Err("refused: asked to misbehave".into()));
    assert!(keeper.commit(&intent(), None).is_err(), "nobody jumps over a vote");
    let answers = keeper.resume("vm-b voted no").unwrap();
    assert!(answers.iter().all(|answer| answer.result.is_ok()), "{answers:?}");
    assert!(answers[0].counter.is_some());
    keeper.unpreserve().unwrap();
    assert_eq!(
        good.number("quiesced", "counter"),
        good.number("resumed", "counter"),
        "it stood still meanwhile"
    );
    assert!(!no.says("quiesced"));
    // The next attempt begins as the first did.
    until("both can be preserved again", || keeper.preserve("second", &[], &mut || true).is_ok());
}

#[test]
fn who_is_late_silent_or_dead_votes_no_within_the_deadline_and_the_others_go_on() {
    for (misbehaviour, why) in [
        ("never-answer", "did not answer Quiesce within 300 ms"),
        ("answer-late", "did not answer Quiesce within 300 ms"),
        ("die-in-quiesce", "went away while Quiescing"),
    ] {
        let machine = Machine::new();
        let keeper = machine.keeper();
        let good = machine.hold("vm-a", "a", &[]);
        let mut bad = machine.hold("vm-b", "b", &["--misbehave", misbehaviour]);
        declared(&keeper, 2);
        preserve(&keeper).unwrap();
        let votes = votes(&keeper, Duration::from_millis(300));
        assert_eq!((&votes["vm-a"], &votes["vm-b"]), (&Ok(()), &Err(why.to_owned())), "{misbehaviour}");
        let answers = keeper.resume(why).unwrap();
        assert_eq!(answers[0].result, Ok(()), "{misbehaviour}");
        assert_eq!(answers[1].result.is_ok(), misbehaviour == "answer-late", "{misbehaviour}: {answers:?}");
        keeper.unpreserve().unwrap();
        assert_eq!(machine.orchestrator.sessions(), 0);
        good.line("resumed");
        bad.kill();
    }
}

#[test]
fn one_that_dies_before_or_after_it_stood_changes_what_is_told_and_nothing_else() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let good = machine.hold("vm-a", "a", &[]);
    let mut before = machine.hold("vm-b", "b", &["--misbehave", "die-before-quiesce"]);
    declared(&keeper, 2);
    preserve(&keeper).unwrap();
    assert_eq!(before.ended(), Some(9));
    until("its end is seen", || keeper.preserved().unwrap().is_none());
    // Its service manager may be quicker than the keeper.
    let mut instead = machine.hold("vm-b", "b", &[]);
    declared(&keeper, 2);
    let answers = votes(&keeper, SOON);
    assert_eq!(answers["vm-b"], Err("went away while Preserved".into()));
    assert_eq!(answers["vm-a"], Err("was not asked to stop: vm-b went away while Preserved".into()));
    // Nobody had stopped it, so that nobody has to let it go on.
    let answers = keeper.resume("vm-b died").unwrap();
    assert!(answers.iter().all(|answer| answer.result.is_ok()), "{answers:?}");
    keeper.unpreserve().unwrap();
    assert!(!good.says("quiesced") && !instead.says("quiesced"));
    instead.kill();
    // Until its end is seen, the dead one is the second.
    declared(&keeper, 1);

    let mut after = machine.hold("vm-b", "b", &["--misbehave", "die-after-quiesce"]);
    declared(&keeper, 2);
    preserve(&keeper).unwrap();
    assert_eq!(votes(&keeper, SOON)["vm-b"], Ok(()), "its answer was good");
    assert_eq!(after.ended(), Some(9));
    let refused = keeper.commit(&intent(), None).unwrap_err().to_string();
    assert!(refused.contains("vm-b"), "{refused}");
    let answers = keeper.resume("vm-b died").unwrap();
    assert!(answers[0].result.is_ok() && answers[1].result.is_err(), "{answers:?}");
    keeper.unpreserve().unwrap();

    // A new process of that name is somebody new.
    let _again = machine.hold("vm-b", "b", &[]);
    declared(&keeper, 2);
    preserve(&keeper).unwrap();
}

#[test]
fn one_that_refuses_to_be_preserved_or_whose_owner_refuses_is_named() {
    for arguments in [["--misbehave", "refuse-preserve"].as_slice(), &["--refuse"]] {
        let machine = Machine::new();
        let keeper = machine.keeper();
        let _holds = (machine.hold("vm-a", "a", &[]), machine.hold("vm-b", "b", arguments));
        declared(&keeper, 2);
        let error = preserve(&keeper).unwrap_err();
        assert!(matches!(&error, HostError::NotPreserved { subject, .. } if subject == "vm-b"), "{error}");
        assert_eq!(machine.orchestrator.sessions(), 0);
    }
}

#[test]
fn a_refused_jump_and_a_dead_keeper_leave_no_guest_standing() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let hold = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    ready_to_jump(&keeper);
    assert!(keeper.unpreserve().is_err(), "the jump may happen at any moment");
    keeper.refused();
    assert_eq!(keeper.resume("reboot(2) was refused").unwrap()[0].result, Ok(()));
    keeper.unpreserve().unwrap();
    hold.line("resumed");

    until("it can be preserved again", || preserve(&keeper).is_ok());
    assert_eq!(votes(&keeper, SOON)["vm-a"], Ok(()));
    keeper.commit(&intent(), None).unwrap();
    // As when its process is killed: the kernel closes everything.
    drop(keeper);
    hold.line("cause=\"the keeper is gone\"");
    assert_eq!(machine.orchestrator.sessions(), 0, "closing gave everything back");
    let keeper = machine.keeper();
    assert_eq!(keeper.returned_nonce().unwrap(), None, "{NONCE} never went anywhere");
    declared(&keeper, 1);
}

#[test]
fn whom_others_depend_on_goes_on_first() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (a, b) = (machine.hold("vm-a", "a", &["--after", "vm-b"]), machine.hold("vm-b", "b", &[]));
    declared(&keeper, 2);
    preserve(&keeper).unwrap();
    votes(&keeper, SOON);
    keeper.resume("undone").unwrap();
    assert!(b.number("resumed", "ticks") < a.number("resumed", "ticks"));
}
