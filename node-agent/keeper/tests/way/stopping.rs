//! Who is stopped and who comes or goes meanwhile, and what is started again.

use std::time::{Duration, Instant};

use liveupdate_host::simulated::{Durations, Fault, Pace, World, WorldSpec};
use liveupdate_proto::common::v1::{DeviceRule, NodeState, OnUpdate, Outcome};
use liveupdate_proto::keeper::v1::request::Message;

use crate::common::*;

/// A machine with a holder that is to be stopped, `vm-b` with its disk; its image is loaded and all is preserved.
fn stopping(faults: Vec<Fault>) -> Rig {
    let mut spec = WorldSpec { faults, ..spec() };
    spec.devices[2].device = "5555".into();
    let rig = Rig::new(spec);
    rig.host.stage(&target(), &mut |_, _| true).unwrap();
    let asked = report(rig.ask(preserve_but(|asked| {
        let stop = DeviceRule {
            name: "disks".into(),
            device: "5555".into(),
            on_update: OnUpdate::Stop.into(),
            ..DeviceRule::default()
        };
        asked.demands.as_mut().unwrap().devices.insert(0, stop);
        asked.stop = asked.preserve.split_off(2);
    })));
    assert_eq!(asked.state(), NodeState::Settling, "{}", asked.message);
    rig
}

fn holder_of(rig: &Rig, address: &str) -> Option<String> {
    rig.host.devices().unwrap().into_iter().find(|device| device.address == address).unwrap().holder
}

#[test]
fn invariant_3_stopped_is_said_of_whom_nobody_holds_any_more_and_of_nobody_else() {
    let rig = stopping(vec![]);
    assert_eq!(report(rig.ask(settle())).state(), NodeState::Settling);
    assert_eq!(holder_of(&rig, DISK), None);
    let end = report(rig.ask(abort()));
    assert_eq!((end.state(), outcome_of(&end, DISK)), (NodeState::Aborted, Outcome::Stopped));
    rig.assert_undone();

    // Systemd may have said that all is stopped: the device is looked at.
    let rig = stopping(vec![Fault::NotStopped { address: DISK.into() }]);
    let end = report(rig.ask(settle()));
    assert_eq!((end.state(), outcome_of(&end, DISK)), (NodeState::Aborted, Outcome::Untouched));
    assert!(end.message.contains(&format!("vm-b holds {DISK} still")), "{}", end.message);
    rig.assert_undone();

    // Given up before anybody was stopped.
    let rig = stopping(vec![]);
    let end = report(rig.ask(abort()));
    assert_eq!((end.state(), outcome_of(&end, DISK)), (NodeState::Aborted, Outcome::Untouched));
    let rig = stopping(vec![]).reopened();
    let end = report(rig.status());
    assert_eq!((end.state(), outcome_of(&end, DISK)), (NodeState::Aborted, Outcome::Untouched));
}

#[test]
fn who_came_or_went_since_the_attempt_began_is_neither_ended_nor_jumped_with() {
    let newcomer = |spec: &mut WorldSpec| {
        let mut holder = spec.holders[0].clone();
        holder.name = "vm-new".into();
        spec.holders.push(holder);
    };
    let holds = |address: &'static str, name: Option<&'static str>| {
        move |spec: &mut WorldSpec| {
            let device = spec.devices.iter_mut().find(|device| device.address == address);
            device.unwrap().holder = name.map(Into::into);
        }
    };
    let plugged = |spec: &mut WorldSpec| {
        let mut device = spec.devices[0].clone();
        device.address = "0000:05:00.0".into();
        spec.devices.push(device);
    };
    type Change = Box<dyn Fn(&mut WorldSpec)>;
    let cases: [(Change, String); 5] = [
        (Box::new(newcomer), "vm-new has declared itself since".into()),
        (Box::new(holds(FREE, Some("qemu/77"))), format!("{FREE} is held by qemu/77, and nobody held it")),
        (Box::new(holds(DISK, Some("qemu/77"))), format!("{DISK} is held by qemu/77, and was by vm-b")),
        (Box::new(plugged), "0000:05:00.0 is held by vm-a, and nobody held it".into()),
        (Box::new(|spec| spec.holders.truncate(1)), "vm-b is to be handed over and has gone".into()),
    ];
    for (change, word) in &cases {
        let rig = Rig::new(spec());
        rig.host.stage(&target(), &mut |_, _| true).unwrap();
        rig.ask(preserve());
        rig.world.change(|spec| change(spec)).unwrap();
        let end = report(rig.ask(settle()));
        assert_eq!(end.state(), NodeState::Aborted, "{word}");
        assert!(end.message.contains(word), "{word}: {}", end.message);

        // Once all is settled. Who has gone has no gates, without which there is no receipt.
        if word.contains("has gone") {
            continue;
        }
        let rig = Rig::new(spec()).settled();
        rig.world.change(|spec| change(spec)).unwrap();
        let end = report(rig.jump());
        assert_eq!((end.state(), end.blackout), (NodeState::Aborted, None), "{word}: no guest stood still");
        assert!(end.message.contains(word), "{word}: {}", end.message);
        assert_eq!(rig.world.power().unwrap(), None, "it did not jump");
    }
}

#[test]
fn who_comes_while_holders_are_being_stopped_is_not_jumped_with() {
    let slow = Durations { quiesce: 1_000, ..Durations::default() };
    let world = World::in_memory(WorldSpec { pace: Pace::Real, durations: slow, ..spec() });
    let rig = Rig::of(world).settled();
    let keeper = std::sync::Arc::clone(&rig.keeper);
    let asked = Message::Jump(jump(&*rig.host));
    let jumping = std::thread::spawn(move || keeper.handle(&request(asked)));
    let started = Instant::now();
    while report(rig.status()).state() != NodeState::Quiescing {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(1));
    }
    rig.world.change(|spec| spec.devices[3].holder = Some("qemu/77".into())).unwrap();
    let end = report(jumping.join().unwrap());
    assert_eq!(end.state(), NodeState::Aborted);
    assert!(end.message.contains(&format!("{FREE} is held by qemu/77")), "{}", end.message);
    assert_eq!(rig.world.power().unwrap(), None, "it did not jump");
}

/// Where nothing is handed over nobody is asked at all.
#[test]
fn a_holder_that_comes_to_a_node_that_holds_nothing_ends_its_attempt() {
    for settled in [false, true] {
        let rig = Rig::new(WorldSpec { devices: vec![], holders: vec![], ..spec() });
        rig.host.stage(&target(), &mut |_, _| true).unwrap();
        rig.ask(preserve_but(|asked| asked.preserve.clear()));
        if settled {
            rig.ask(settle());
        }
        rig.world.change(|world| world.holders = spec().holders).unwrap();
        let end = report(if settled { rig.jump() } else { rig.ask(settle()) });
        assert_eq!(end.state(), NodeState::Aborted);
        assert!(end.message.contains("vm-a has declared itself since"), "{}", end.message);
        assert_eq!(rig.world.power().unwrap(), None);
    }
}

/// As when its connection ends: its guest may run on, and nobody is ended for a jump that cannot be.
#[test]
fn an_attempt_that_has_lost_its_custody_ends_nobody() {
    let rig = stopping(vec![]);
    rig.host.unpreserve().unwrap();
    let end = report(rig.ask(settle()));
    assert_eq!((end.state(), outcome_of(&end, DISK)), (NodeState::Aborted, Outcome::Untouched));
    assert!(end.message.contains("what is in custody is not what"), "{}", end.message);
}

#[test]
fn what_was_stopped_is_started_again_when_that_is_possible_whatever_became_of_the_attempt() {
    for reopened in [false, true] {
        let rig = stopping(vec![Fault::NotRestarted]);
        rig.ask(settle());
        let thawing = report(rig.ask(abort()));
        assert_eq!(thawing.state(), NodeState::Thawing);
        rig.world.advance(Duration::from_secs(120)).unwrap();
        let kept = report(rig.status());
        assert_eq!(kept.state(), NodeState::Quarantined);
        assert!(kept.message.contains("the kubelet cannot be started"), "{}", kept.message);
        let rig = if reopened { rig.reopened() } else { rig };
        assert_eq!(holder_of(&rig, DISK), None);
        rig.world.change(|spec| spec.faults.clear()).unwrap();
        rig.world.advance(Duration::from_secs(10)).unwrap();
        rig.keeper.tick();
        assert_eq!(holder_of(&rig, DISK).as_deref(), Some("vm-b"));
        assert!(!report(rig.status()).message.contains("kubelet"), "it is done");
    }
}

/// A holder did not go on: the attempt is over, and all the more the rest of the node is needed.
#[test]
fn what_was_stopped_is_started_again_also_when_the_attempt_is_over() {
    let doesnt = Fault::DoesNotResume { holder: "vm-a".into() };
    for reopened in [false, true] {
        let refused = Fault::VotesNo { holder: "vm-a".into() };
        let rig = stopping(vec![Fault::NotRestarted, doesnt.clone(), refused]);
        rig.ask(settle());
        assert_eq!(report(rig.jump()).state(), NodeState::Thawing);
        rig.world.advance(Duration::from_secs(120)).unwrap();
        let end = report(rig.status());
        assert_eq!((end.state(), end.reason.as_str()), (NodeState::Failed, "HolderNotResumed"));
        let rig = if reopened { rig.reopened() } else { rig };
        assert_eq!(holder_of(&rig, DISK), None);
        rig.world.change(|spec| spec.faults.retain(|fault| *fault == doesnt)).unwrap();
        rig.world.advance(Duration::from_secs(10)).unwrap();
        rig.keeper.tick();
        assert_eq!(holder_of(&rig, DISK).as_deref(), Some("vm-b"));
        rig.keeper.tick();
        assert!(rig.keeper.at_rest(), "nothing is left to be done");
    }
}
