//! Who holds what now, and who is handed over though it has gone.

use std::os::fd::AsFd;

use liveupdate_holder::messages::envelope::Message;
use liveupdate_holder::messages::{Declare, Object, ObjectKind};

use crate::machine::{Machine, declared, preserve, until};

#[test]
fn who_lives_is_known_and_who_was_taken_is_spared_also_when_it_has_gone() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let mut taken = machine.hold("vm-a", "a", &[]);
    declared(&keeper, 1);
    assert_eq!(keeper.handed_over(), [], "nobody is in custody yet");
    preserve(&keeper).unwrap();
    let (pid, group) = keeper.handed_over().remove(0);
    assert!(pid.is_some());
    assert_eq!(group, "/system.slice/vm-a.service");

    let _newcomer = machine.hold("vm-b", "b", &[]);
    declared(&keeper, 2);
    let names = || keeper.declared().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!((names(), keeper.handed_over().len()), (vec!["vm-a".to_owned(), "vm-b".to_owned()], 1));

    // At once, whether the end of its connection was heard or not.
    taken.kill();
    assert_eq!(names(), ["vm-b"]);
    assert_eq!(keeper.handed_over(), [(None, "/system.slice/vm-a.service".to_owned())]);
    until("its end is heard", || keeper.preserved().unwrap().is_none());
    assert_eq!(keeper.handed_over(), [(None, "/system.slice/vm-a.service".to_owned())]);
    keeper.unpreserve().unwrap();
    assert_eq!(keeper.handed_over(), []);
}

#[test]
fn a_device_is_its_holders_while_that_lives() {
    let machine = Machine::new();
    let keeper = machine.keeper();
    let device = machine.device("0000:01:00.0");
    let mut client = machine.client();
    client.hello("vm-a");
    let object = Object { kind: ObjectKind::VfioDevice.into(), token: 7, label: "0000:01:00.0".into() };
    let declare = Declare { objects: vec![object], ..Declare::default() };
    client.say("", Message::Declare(declare), &[device.as_fd()]);
    until("it is known", || keeper.declared() == [("vm-a".to_owned(), vec!["0000:01:00.0".to_owned()])]);
}
