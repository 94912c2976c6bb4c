//! Nobody can claim another's name or files.

use std::os::fd::AsFd;

use liveupdate_holder::messages::envelope::Message;
use liveupdate_holder::messages::{Declare, Object, ObjectKind, Reclaim};

use crate::machine::{Machine, declared, memfd, memory, preserve, ready_to_jump, until};

#[test]
fn a_name_belongs_to_one_process_and_a_units_name_to_that_unit() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let _a = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    let thief = machine.hold_in("/system.slice/evil.service", "vm-a", "f", &[]);
    let refused = thief.line("refused");
    assert!(refused.contains("vm-a is process"), "{refused}");
    let forger = machine.hold_in("/system.slice/evil.service", "vm-b.service", "f", &[]);
    let refused = forger.line("refused");
    assert!(refused.contains("you are unit evil.service"), "{refused}");
    assert_eq!(keeper.holders().unwrap().len(), 1);
}

#[test]
fn nobody_takes_all_places_and_what_ends_makes_room() {
    let machine = Machine::new();
    let _keeper = machine.keeper();
    let own: Vec<_> = (0..16)
        .map(|number| {
            let mut client = machine.client();
            assert!(!client.hello(&format!("mine-{number}")));
            client
        })
        .collect();
    for _ in 0..80 {
        let why = machine.client().refused();
        assert!(why.contains("has 16 connections already"), "{why}");
    }
    machine.hold("vm-a", "a", &[]).line("verdict");
    drop(own);
    machine.welcomed("vm-b");
}

#[test]
fn what_came_through_the_jump_goes_to_its_own_unit_alone() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let hold = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    ready_to_jump(&keeper);
    drop(hold);
    let keeper = machine.jump(keeper);
    let thief = machine.hold_in("/system.slice/evil.service", "vm-a", "f", &[]);
    let refused = thief.line("refused");
    assert!(refused.contains("vm-a is the name of unit vm-a.service"), "{refused}");

    // Under a name of its own it cannot ask for another's.
    let mut client = machine.client();
    assert!(!client.hello("mine"));
    client.say("", Message::Reclaim(Reclaim { name: "vm-a".into() }), &[]);
    assert!(client.refused().contains("you said that you are mine"));
    client.say("", Message::Reclaim(Reclaim { name: "mine".into() }), &[]);
    assert!(client.refused().contains("nothing is kept for you"));
    assert!(keeper.finish().is_err());
    machine.hold("vm-a", "", &[]).line("resumed");
}

#[test]
fn a_file_is_declared_by_one_holder_that_really_has_it() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let (mut a, mut b) = (machine.client(), machine.client());
    assert!(!a.hello("vm-a") && !b.hello("vm-b"));
    let file = memory(8192);
    a.declare(&[file.as_fd()]);
    assert!(matches!(a.hear(), Some(Message::Verdict(_))));
    b.declare(&[file.as_fd()]);
    assert_eq!(b.refused(), "a file that you declare is declared by vm-a");
    a.declare(&[file.as_fd(), file.as_fd()]);
    assert_eq!(a.refused(), "token 2 is a file that is declared already");

    let null = std::fs::File::open("/dev/null").unwrap();
    b.declare(&[null.as_fd()]);
    assert_eq!(
        b.refused(),
        "token 1: /dev/null is no memfd of ordinary pages, and the kernel can preserve nothing else"
    );
    b.declare(&[memory(0).as_fd()]);
    assert_eq!(b.refused(), "token 1: it is empty");
    let device = Object { kind: ObjectKind::VfioDevice.into(), ..memfd(1) };
    b.say("", Message::Declare(Declare { objects: vec![device], ..Declare::default() }), &[null.as_fd()]);
    assert!(b.refused().contains("it is no VFIO device"));
    let unknown = Object { kind: 77, ..memfd(1) };
    b.say("", Message::Declare(Declare { objects: vec![unknown], ..Declare::default() }), &[file.as_fd()]);
    assert!(b.refused().contains("of a kind that this keeper does not know"));
    b.say("", Message::Declare(Declare { objects: vec![memfd(1)], ..Declare::default() }), &[]);
    assert_eq!(b.refused(), "1 objects are declared beside 0 files");
    let twice = Declare { objects: vec![memfd(1), memfd(1)], ..Declare::default() };
    let (one, two) = (memory(4096), memory(4096));
    b.say("", Message::Declare(twice), &[one.as_fd(), two.as_fd()]);
    assert_eq!(b.refused(), "token 1 is declared twice");
    let target = Declare { objects: vec![memfd(1)], dma_targets: vec![2], ..Declare::default() };
    b.say("", Message::Declare(target), &[one.as_fd()]);
    assert!(b.refused().contains("DMA target 2"));

    // In flight it is not in anybody's hands: who passes it on does not have it.
    machine.holds_nothing(std::process::id());
    b.declare(&[two.as_fd()]);
    assert_eq!(b.refused(), "token 1: you do not hold this file yourself");
    // After all that was refused, what was declared first stands.
    assert_eq!(keeper.holders().unwrap().len(), 1);
    preserve_needs_an_answer(&machine, &keeper, a);
}

/// The keeper waits for nobody for ever: the end of file is an answer.
fn preserve_needs_an_answer(
    machine: &Machine,
    keeper: &liveupdate_host::linux::custody::Custodian,
    client: crate::machine::Client,
) {
    drop(client);
    until("its end is seen", || keeper.holders().unwrap().is_empty());
    assert!(preserve(keeper).is_err());
    assert_eq!(machine.orchestrator.sessions(), 0);
}

#[test]
fn a_holder_that_declares_what_another_process_has_is_refused() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut liar = machine.hold("vm-a", "a", &["--misbehave", "declare-unheld"]);
    liar.line("refused: token 1: you do not hold this file yourself");
    assert_eq!(liar.ended(), Some(0));
    assert!(keeper.holders().unwrap().is_empty());
}
