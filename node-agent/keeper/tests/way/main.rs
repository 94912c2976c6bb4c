//! An attempt's way through the keeper: the good one, and what goes wrong on it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

#[path = "../common/mod.rs"]
mod common;
mod stopping;

use std::time::{Duration, Instant};

use common::*;
use liveupdate_host::simulated::{Durations, Fault, Pace, World, WorldSpec};
use liveupdate_proto::common::v1::{Continuity, Demands, NodeState, Outcome};
use liveupdate_proto::keeper::v1::{refusal::Cause, reply, request::Message};

#[test]
fn a_node_jumps_proves_it_and_gives_back() {
    let rig = Rig::new(spec()).settled();
    let before = rig.host.boot_id().unwrap();
    assert_eq!(report(rig.jump()).state(), NodeState::Jumping);
    let rig = rig.booted();

    let back = report(rig.status());
    assert_eq!((back.state(), back.attempt.as_str()), (NodeState::Verifying, "7f3c-0a1b2c3d-1"));
    let proof = back.proof.clone().unwrap();
    assert_eq!((proof.release.as_str(), proof.nonce_returned), (NEW, true));
    assert_eq!(proof.boot_id_before, before);
    assert_ne!(proof.boot_id, before);
    // Invariant 3: each device in scope has exactly one, and none better than its facts.
    let expected = [
        (GPU, Outcome::Uninterrupted),
        (NIC, Outcome::Paused),
        (DISK, Outcome::Reinitialised),
        (FREE, Outcome::Untouched),
    ];
    assert_eq!(back.devices.len(), expected.len());
    for (address, outcome) in expected {
        assert_eq!(outcome_of(&back, address), outcome, "{address}");
    }
    let blackout = back.blackout.unwrap();
    assert!(blackout.measured && blackout.simulated);
    assert!(
        (723..5000).contains(&blackout.milliseconds),
        "3 + 700 + 20 ms and what the test took: {blackout:?}"
    );
    let states: Vec<_> = back.states.iter().map(liveupdate_proto::common::v1::StateTime::state).collect();
    let way = [
        NodeState::Preserving,
        NodeState::Settling,
        NodeState::Quiescing,
        NodeState::Committing,
        NodeState::Jumping,
        NodeState::Returned,
        NodeState::Reclaiming,
        NodeState::Verifying,
    ];
    assert_eq!(states, way);

    let end = report(rig.ask(confirm()));
    assert_eq!((end.state(), end.confirmed), (NodeState::Updated, true));
    assert!(rig.is_idle());
    assert!(rig.reopened().is_idle(), "also for a keeper that starts later");
}

#[test]
fn a_node_that_holds_nothing_jumps_without_custody() {
    let rig = Rig::new(WorldSpec { devices: vec![], holders: vec![], ..spec() });
    rig.host.stage(&target(), &mut |_, _| true).unwrap();
    rig.ask(preserve_but(|asked| asked.preserve.clear()));
    rig.ask(settle());
    assert_eq!(report(rig.jump()).state(), NodeState::Jumping);
    let back = report(rig.booted().status());
    assert_eq!((back.state(), back.blackout), (NodeState::Verifying, None), "{}", back.message);
}

fn verifying(faults: Vec<Fault>) -> Rig {
    let rig = Rig::new(WorldSpec { persists: true, faults, ..spec() }).settled();
    rig.jump();
    let rig = rig.booted();
    assert_eq!(report(rig.status()).state(), NodeState::Verifying);
    rig
}

/// The kernel that a power cut brings up.
fn after_a_power_cut(rig: Rig) -> String {
    rig.world.power_cut().unwrap();
    rig.booted().host.release().unwrap()
}

#[test]
fn only_what_the_controller_has_confirmed_starts_after_a_power_cut() {
    assert_eq!(after_a_power_cut(verifying(vec![])), OLD);

    let rig = verifying(vec![]);
    let asked = report(rig.ask(confirm()));
    assert_eq!((asked.state(), asked.confirmed), (NodeState::Persisting, true), "nobody waits for the copy");
    rig.keeper.tick();
    assert!(rig.is_idle());
    let end = report(rig.ask(confirm()));
    assert_eq!(end.message, format!("runs {NEW}; a power cut starts it: liveupdate-{NEW}.conf"));
    assert_eq!(after_a_power_cut(rig), NEW);
}

#[test]
fn a_keeper_that_dies_over_the_boot_entry_makes_it_when_it_is_started_again() {
    let rig = verifying(vec![]);
    rig.ask(confirm());
    let rig = rig.reopened();
    assert!(rig.is_idle());
    assert_eq!(after_a_power_cut(rig), NEW);
}

#[test]
fn what_cannot_be_made_the_default_is_told_and_not_tried_for_ever() {
    let rig = verifying(vec![Fault::NotPersisted]);
    rig.ask(confirm());
    rig.keeper.tick();
    let end = report(rig.ask(confirm()));
    assert_eq!(end.state(), NodeState::Updated);
    assert!(end.message.contains("what it would have before") && end.message.contains("is full"), "{end:?}");
    assert_eq!(after_a_power_cut(rig), OLD);
}

#[test]
fn what_fails_before_the_commit_is_undone_and_says_why() {
    let holder = || "vm-a".to_owned();
    for (fault, word) in [
        (Fault::VotesNo { holder: holder() }, "refused to be stopped"),
        (Fault::QuiesceLate { holder: holder() }, "did not answer Quiesce within 2000 ms"),
    ] {
        let rig = Rig::with_fault(fault.clone()).settled();
        let end = report(rig.jump());
        assert_eq!((end.state(), end.reason.as_str()), (NodeState::Aborted, "AttemptAborted"), "{fault:?}");
        assert!(end.message.contains("vm-a") && end.message.contains(word), "{}", end.message);
        assert_eq!(outcome_of(&end, GPU), Outcome::Uninterrupted, "it stood still, and no more: {end:?}");
        assert!(end.blackout.unwrap().measured, "the guests did stand still");
        rig.assert_undone();
    }
    let rig = Rig::with_fault(Fault::PreserveFails { subject: NIC.into() });
    let end = report(rig.ask(preserve()));
    assert_eq!((end.state(), end.blackout), (NodeState::Aborted, None));
    assert!(end.message.contains(NIC), "{}", end.message);
    rig.assert_undone();
}

#[test]
fn a_kernel_that_refuses_is_a_failure_with_holders_resumed() {
    let rig = Rig::with_fault(Fault::KernelRefused).settled();
    let end = report(rig.jump());
    assert_eq!((end.state(), end.reason.as_str()), (NodeState::Failed, "KernelRefused"));
    assert!(end.message.contains("EBUSY"), "{}", end.message);
    rig.assert_undone();
}

#[test]
fn a_holder_that_does_not_go_on_is_a_failure() {
    let mut faulty = spec();
    faulty.faults =
        vec![Fault::VotesNo { holder: "vm-a".into() }, Fault::DoesNotResume { holder: "vm-b".into() }];
    let rig = Rig::new(faulty).settled();
    assert_eq!(report(rig.jump()).state(), NodeState::Thawing);
    rig.world.advance(Duration::from_secs(120)).unwrap();
    let end = report(rig.status());
    assert_eq!((end.state(), end.reason.as_str()), (NodeState::Failed, "HolderNotResumed"));
    assert!(end.message.contains("vm-b"), "{}", end.message);
    assert_eq!(outcome_of(&end, DISK), Outcome::Lost);
    assert_eq!(outcome_of(&end, GPU), Outcome::Uninterrupted);
}

#[test]
fn a_holder_that_goes_on_late_is_counted_though_its_files_are_given_back_already() {
    let mut faulty = spec();
    faulty.faults =
        vec![Fault::VotesNo { holder: "vm-a".into() }, Fault::DoesNotResume { holder: "vm-b".into() }];
    for restarted in [false, true] {
        let rig = Rig::new(faulty.clone()).settled();
        assert_eq!(report(rig.jump()).state(), NodeState::Thawing);
        assert_eq!(
            (rig.host.preserved().unwrap(), rig.world.standing().unwrap()),
            (None, vec!["vm-b".into()])
        );
        let rig = if restarted { rig.reopened() } else { rig };
        rig.world.change(|spec| spec.faults.clear()).unwrap();
        let end = report(rig.status());
        assert_eq!(end.state(), NodeState::Aborted, "{restarted}: {end:?}");
        assert_eq!(outcome_of(&end, DISK), Outcome::Uninterrupted, "{restarted}: it is not lost");
        assert!(end.blackout.unwrap().measured);
        rig.assert_undone();
    }
}

/// Firmware starts the machine when the kernel dies that was jumped to. An older one of the same release is not it.
#[test]
fn a_node_that_holds_nothing_and_was_started_by_firmware_has_not_jumped() {
    for (boots, state) in [(true, NodeState::Verifying), (false, NodeState::Failed)] {
        let rig = Rig::new(WorldSpec { release: NEW.into(), devices: vec![], holders: vec![], ..spec() });
        rig.host.stage(&target(), &mut |_, _| true).unwrap();
        rig.ask(preserve_but(|asked| asked.preserve.clear()));
        rig.ask(settle());
        assert_eq!(report(rig.jump()).state(), NodeState::Jumping);
        if !boots {
            rig.world.power_cut().unwrap();
        }
        let rig = rig.booted();
        assert_eq!(rig.host.release().unwrap(), NEW);
        let back = report(rig.status());
        assert_eq!(back.state(), state, "{}", back.message);
        assert_eq!(back.proof.is_some(), boots);
        assert_eq!(back.message.contains("nothing jumped into it"), !boots, "{}", back.message);
    }
}

#[test]
fn another_kernel_and_lost_custody_are_failures_with_devices_lost() {
    let cases = [
        (Fault::WrongKernel { release: "6.1.0-stock".into() }, "6.1.0-stock"),
        (Fault::CustodyLost, "nonce did not come back"),
    ];
    for (fault, word) in cases {
        let rig = Rig::with_fault(fault).settled();
        rig.jump();
        let end = report(rig.booted().status());
        assert_eq!((end.state(), end.reason.as_str()), (NodeState::Failed, "WrongKernel"));
        assert!(end.message.contains(word), "{}", end.message);
        assert_eq!(outcome_of(&end, GPU), Outcome::Lost);
    }
}

#[test]
fn a_reset_behind_our_back_makes_a_device_reinitialised() {
    let rig = Rig::with_fault(Fault::DeviceReset { address: GPU.into() }).settled();
    rig.jump();
    let rig = rig.booted();
    let back = report(rig.status());
    assert_eq!(outcome_of(&back, GPU), Outcome::Reinitialised);
    // Why, for those that are not plain, and also by a keeper that starts later.
    let evidence = |report: &liveupdate_proto::common::v1::AttemptReport, address: &str| {
        report.devices.iter().find(|device| device.address == address).unwrap().evidence.clone()
    };
    assert_eq!(
        (evidence(&back, GPU).as_str(), evidence(&back, FREE).as_str()),
        ("simulated: a reset was seen", "")
    );
    let rig = rig.reopened();
    assert_eq!(evidence(&report(rig.status()), GPU), "simulated: a reset was seen");
}

#[test]
fn without_a_counter_the_blackout_is_unmeasured() {
    let rig = Rig::new(WorldSpec { counter: false, ..spec() }).settled();
    rig.jump();
    let blackout = report(rig.booted().status()).blackout.unwrap();
    assert!(!blackout.measured && blackout.simulated);
}

#[test]
fn an_abort_ends_a_preservation_that_is_under_way() {
    let slow = Durations { preserve: 60_000, ..Durations::default() };
    let rig = Rig::of(World::in_memory(WorldSpec { pace: Pace::Real, durations: slow, ..spec() }));
    let keeper = std::sync::Arc::clone(&rig.keeper);
    let started = Instant::now();
    let preserving = std::thread::spawn(move || keeper.handle(&request(preserve())));
    while !matches!(rig.status().message, Some(reply::Message::Attempt(_))) {
        assert!(started.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(report(rig.status()).state(), NodeState::Preserving, "answered meanwhile");
    let end = report(rig.ask(abort()));
    assert_eq!((end.state(), end.message.as_str()), (NodeState::Aborted, "the test says so"));
    assert_eq!(report(preserving.join().unwrap()).state(), NodeState::Aborted);
    assert!(started.elapsed() < Duration::from_secs(30), "it did not wait for the preservation");
    rig.assert_undone();
    assert_eq!(report(rig.ask(abort())).state(), NodeState::Aborted, "idempotent");
}

#[test]
fn a_preservation_over_its_deadline_is_undone() {
    let slow = Durations { preserve: 400_000, ..Durations::default() };
    let rig = Rig::new(WorldSpec { durations: slow, ..spec() });
    let end = report(rig.ask(preserve()));
    assert_eq!(
        (end.state(), end.message.as_str()),
        (NodeState::Aborted, "Preserving took longer than 300 s")
    );
    rig.assert_undone();
}

#[test]
fn an_attempt_that_nobody_drives_on_is_undone() {
    let rig = Rig::new(spec()).settled();
    rig.world.advance(Duration::from_secs(3600)).unwrap();
    assert_eq!(report(rig.status()).state(), NodeState::Aborted);
    rig.assert_undone();
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let rig = Rig::new(spec());
    for (message, word) in [
        (preserve_but(|p| p.target = None), "target is missing"),
        (preserve_but(|p| p.demands = None), "demands is missing"),
        (preserve_but(|p| p.preserve.push("0000:ff:00.0".into())), "no device"),
        (preserve_but(|p| p.stop.push(GPU.into())), "preserved and stopped"),
        (preserve_but(|p| p.target.as_mut().unwrap().digest = "x".repeat(999)), "target.digest"),
        (preserve_but(|p| p.target.as_mut().unwrap().bundle = "../7.3".into()), "target.bundle"),
    ] {
        let (cause, sentence) = refusal(rig.ask(message));
        assert_eq!(cause, Cause::Malformed);
        assert!(sentence.contains(word), "{sentence}");
        assert!(rig.is_idle());
    }
    assert_eq!(report(rig.ask(preserve())).state(), NodeState::Settling, "the same attempt may still begin");
}

#[test]
fn the_keeper_finds_for_itself_what_the_demands_come_to() {
    let demand = |edit: fn(&mut Demands)| preserve_but(|p| edit(p.demands.as_mut().unwrap()));
    let rig = Rig::new(spec());
    for (message, word) in [
        (preserve_but(|p| p.preserve.push(FREE.into())), "the demands come to leave it alone"),
        (preserve_but(|p| p.preserve.truncate(2)), "the agent would leave it alone"),
        (preserve_but(|p| p.stop = p.preserve.split_off(2)), "the agent would stop its holder"),
        (demand(|d| d.acknowledged.clear()), "must acknowledge VfioPciLiveUpdate"),
        (demand(|d| d.devices[0].vendor = "8086".into()), "DeviceNotCovered"),
        (demand(|d| d.platform_minimum = Continuity::Uninterrupted.into()), "ContinuityShortfall"),
    ] {
        let (cause, sentence) = refusal(rig.ask(message));
        assert_eq!(cause, Cause::Blocked, "{sentence}");
        assert!(sentence.contains(word), "{sentence}");
        assert!(rig.is_idle());
    }
}

/// A Node that was deleted and made again has another UID. What was begun on the old one is undone by the new
/// one, or its devices would be in custody for ever; nothing else is done for it.
#[test]
fn an_attempt_of_an_earlier_node_is_undone_by_the_node_that_there_is_now() {
    let rig = Rig::new(spec()).settled();
    let as_new = |message| {
        let mut request = request(message);
        request.subject.as_mut().unwrap().node_uid = "another-uid".into();
        rig.keeper.handle(&request)
    };
    assert_eq!(refusal(as_new(Message::Jump(jump(&*rig.host)))).0, Cause::WrongNode);
    assert_eq!(report(as_new(abort())).state(), NodeState::Aborted);
    rig.assert_undone();
    assert!(report(as_new(confirm())).confirmed);
    assert!(rig.is_idle());
}
