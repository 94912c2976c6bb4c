//! The keeper takes itself away.

use super::fake::Machine;
use crate::bundle::{Signer, SigningKey};
use crate::linux::installation::MARK;
use crate::linux::signers;
use crate::{Host, HostError};

const UNIT: &str = "etc/systemd/system/liveupdate-keeper.service";
const PROGRAM: &str = "var/lib/liveupdate/bin/liveupdate-keeper";
const KEY: &str = "etc/liveupdate/signers/platform.pub";

#[test]
fn unit_program_and_the_installers_keys_go_and_records_and_other_keys_stay() {
    let machine = Machine::new();
    machine.systemd(&[]);
    machine.write(UNIT, &format!("{MARK}\n[Service]\n"));
    machine.write(PROGRAM, "keeper");
    machine.bundle("7.3.5-lu2");
    let options = machine.options();
    let ours = Signer { name: "platform".into(), key: SigningKey::generate().unwrap().public() };
    signers::put(&options.root, &options.signers, &[ours]).unwrap();
    let keeper = machine.keeper();
    keeper.store("journal", b"a record").unwrap();
    machine.calls.taken();
    keeper.may_uninstall().unwrap();
    assert!(machine.exists(UNIT) && machine.exists(PROGRAM) && machine.exists(KEY), "only asked");
    assert_eq!(machine.calls.taken(), [""; 0]);
    keeper.uninstall().unwrap();
    assert!(!machine.exists(UNIT) && !machine.exists(PROGRAM) && !machine.exists(KEY));
    assert!(machine.exists("etc/liveupdate/signers/7.3.5-lu2.pub"), "the administrator's");
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
        for refused in [keeper.may_uninstall().unwrap_err(), keeper.uninstall().unwrap_err()] {
            assert!(matches!(refused, HostError::WrongMoment { .. }), "{refused:?}");
        }
        assert!(machine.exists(PROGRAM) && machine.exists(UNIT) == theirs.is_some());
        assert_eq!(machine.calls.taken(), [""; 0]);
    }
}
