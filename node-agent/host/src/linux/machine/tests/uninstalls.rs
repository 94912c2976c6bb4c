//! The keeper takes itself away.

use super::fake::Machine;
use crate::linux::installation::MARK;
use crate::{Host, HostError};

const UNIT: &str = "etc/systemd/system/liveupdate-keeper.service";
const PROGRAM: &str = "var/lib/liveupdate/bin/liveupdate-keeper";

#[test]
fn unit_and_program_go_and_the_records_stay() {
    let machine = Machine::new();
    machine.systemd(&[]);
    machine.write(UNIT, &format!("{MARK}\n[Service]\n"));
    machine.write(PROGRAM, "keeper");
    machine.bundle("7.3.5-lu2");
    let keeper = machine.keeper();
    keeper.store("journal", b"a record").unwrap();
    machine.calls.taken();
    keeper.uninstall().unwrap();
    assert!(!machine.exists(UNIT) && !machine.exists(PROGRAM));
    assert_eq!(machine.calls.taken(), ["disable liveupdate-keeper.service", "daemon-reload "]);
    assert_eq!(keeper.load("journal").unwrap().as_deref(), Some(&b"a record"[..]));
    assert!(machine.exists("var/lib/liveupdate/bundles/7.3.5-lu2"));
}

#[test]
fn invariant_7_a_keeper_that_came_in_another_way_is_left_as_it_came() {
    for theirs in [None, Some("[Service]\nExecStart=/usr/bin/liveupdate-keeper\n")] {
        let machine = Machine::new();
        machine.systemd(&[]);
        machine.write(PROGRAM, "keeper");
        if let Some(unit) = theirs {
            machine.write(UNIT, unit);
        }
        let keeper = machine.keeper();
        machine.calls.taken();
        let refused = keeper.uninstall().unwrap_err();
        assert!(matches!(refused, HostError::WrongMoment { .. }), "{refused:?}");
        assert!(machine.exists(PROGRAM) && machine.exists(UNIT) == theirs.is_some());
        assert_eq!(machine.calls.taken(), [""; 0]);
    }
}
