//! A disk under the journal that fails or hangs: no guest stands still for it, and nothing goes forward without a record.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::killer::Killer;
use common::*;
use liveupdate_host::Host;
use liveupdate_host::simulated::{Fault, World, WorldSpec};
use liveupdate_keeper::Keeper;
use liveupdate_proto::common::v1::{AttemptReport, Deadlines, Demands, NodeState, Outcome, Subject};
use liveupdate_proto::keeper::v1::{Request, refusal::Cause, reply, request::Message};

const SICK: &str = "write journal: Read-only file system";

/// Time enough for what is tried again.
fn later(rig: &Rig, by: Duration) {
    rig.world.advance(by).unwrap();
    rig.keeper.tick();
}

fn report_of(rig: &Rig) -> Option<AttemptReport> {
    match rig.status().message {
        Some(reply::Message::Attempt(report)) => Some(report),
        _ => None,
    }
}

fn mend(rig: &Rig, disk: &Killer) {
    disk.disk_fails_after(usize::MAX);
    later(rig, Duration::from_secs(2));
}

/// The way up to the jump, with a disk that fails from its n-th write on: does it get there, and how does it end?
fn way(spec: WorldSpec, writes: usize) -> (Rig, Arc<Killer>) {
    let (rig, disk) = Rig::with_disk(World::in_memory(spec));
    rig.world.host().unwrap().stage(&target(), &mut |_, _| true).unwrap();
    disk.disk_fails_after(writes);
    for message in [preserve(), settle(), Message::Jump(jump(&rig.world.host().unwrap()))] {
        rig.ask(message);
    }
    (rig, disk)
}

/// After a jump, with a keeper that finds such a disk.
fn jumped_onto(sick: impl FnOnce(&Killer)) -> (Rig, Arc<Killer>) {
    let rig = Rig::new(spec()).settled();
    rig.jump();
    rig.world.boot().unwrap();
    let disk = Arc::new(Killer::never(Arc::new(rig.world.host().unwrap())));
    sick(&disk);
    let host = Arc::clone(&disk) as Arc<dyn Host>;
    let keeper = Arc::new(Keeper::open(Arc::clone(&host)).unwrap());
    (Rig { host, keeper, ..rig }, disk)
}

/// Wherever the disk begins to fail, and whether or not the kernel would jump: who stood still goes on, the attempt
/// is undone, and the next keeper knows it once that could be written down.
#[test]
fn invariant_6_no_guest_stands_still_for_a_disk_that_fails_at_any_write() {
    for (faults, undisturbed) in
        [(vec![], NodeState::Jumping), (vec![Fault::KernelRefused], NodeState::Failed)]
    {
        let (mut stood, mut writes) = (0, 0);
        loop {
            let (rig, disk) = way(WorldSpec { faults: faults.clone(), ..spec() }, writes);
            assert_eq!(
                rig.world.standing().unwrap(),
                [""; 0],
                "after {writes} writes: {:?}",
                report_of(&rig)
            );
            if !disk.disk_failed() || rig.world.power().unwrap().is_some() {
                assert!(writes > 5, "there were writes to fail: {writes}");
                break;
            }
            // Whatever the agent would do now, an abort by a new leader undoes what is left.
            let subject = Subject { epoch: subject_of("", 9).epoch, ..subject() };
            rig.keeper.handle(&Request { subject: Some(subject), message: Some(abort()) });
            assert_eq!(rig.host.preserved().unwrap(), None);
            if let Some(end) = report_of(&rig) {
                rig.assert_undone();
                let expected = [NodeState::Aborted, NodeState::Failed];
                assert!(expected.contains(&end.state()), "after {writes} writes: {end:?}");
                assert!(end.message.contains(SICK), "after {writes} writes: {}", end.message);
                stood += usize::from(end.blackout.is_some());
                assert!(end.blackout.is_none_or(|blackout| blackout.measured), "it went on: {end:?}");

                mend(&rig, &disk);
                let end = report_of(&rig).unwrap();
                assert!(!end.message.contains("not written down yet"), "{}", end.message);
                let again = report_of(&rig.reopened()).unwrap();
                assert_eq!(
                    (again.state(), again.message),
                    (end.state(), end.message),
                    "after {writes} writes"
                );
            }
            writes += 1;
        }
        assert!(stood >= 2, "some of them stood still: {stood}");
        let (rig, _) = way(WorldSpec { faults, ..spec() }, usize::MAX);
        match report_of(&rig) {
            None => assert_eq!(undisturbed, NodeState::Jumping),
            Some(end) => assert_eq!(end.state(), undisturbed),
        }
    }
}

#[test]
fn what_stands_still_is_undone_by_time_alone() {
    let slow = WorldSpec { faults: vec![Fault::DoesNotResume { holder: "vm-b".into() }], ..spec() };
    // The epoch, Take, Preserved, Settled, Go; that they stand still is not written down any more.
    let (rig, disk) = way(slow, 5);
    let thawing = report_of(&rig).unwrap();
    assert_eq!(thawing.state(), NodeState::Thawing);
    assert_eq!(rig.world.standing().unwrap(), ["vm-b"]);
    assert!(thawing.message.contains("it cannot be written down that holders stand still"), "{thawing:?}");
    later(&rig, Duration::from_secs(61));
    let end = report_of(&rig).unwrap();
    assert_eq!((end.state(), end.reason.as_str()), (NodeState::Failed, "HolderNotResumed"));
    assert!(!rig.keeper.at_rest(), "it is still to be written");
    mend(&rig, &disk);
    assert!(rig.keeper.at_rest());
}

#[test]
fn a_keeper_that_is_started_again_over_a_disk_that_fails_undoes_too() {
    let rig = Rig::new(spec()).settled();
    let (rig, disk) = {
        let disk = Arc::new(Killer::never(Arc::new(rig.world.host().unwrap())));
        disk.disk_fails_after(0);
        let keeper = Keeper::open(Arc::clone(&disk) as Arc<dyn Host>).unwrap();
        (Rig { keeper: Arc::new(keeper), ..rig }, disk)
    };
    let end = report_of(&rig).unwrap();
    assert_eq!(end.state(), NodeState::Aborted);
    assert!(end.message.contains(SICK), "{}", end.message);
    rig.assert_undone();
    mend(&rig, &disk);
    assert!(!report_of(&rig).unwrap().message.contains(SICK));
}

/// Going forward there is no step without its record: what is asked for is refused, and changes nothing.
#[test]
fn what_goes_forward_waits_for_its_record() {
    let (rig, disk) = Rig::with_disk(World::in_memory(spec()));
    rig.host.stage(&target(), &mut |_, _| true).unwrap();
    disk.disk_fails_after(0);
    let refused = |reply| {
        let (cause, why) = refusal(reply);
        assert_eq!(cause, Cause::HostFailed);
        assert!(why.contains(SICK), "{why}");
    };
    refused(rig.ask(preserve()));
    assert!(rig.is_idle() && rig.host.preserved().unwrap().is_none());
    mend(&rig, &disk);
    assert_eq!(report(rig.ask(preserve())).state(), NodeState::Settling);
    rig.ask(settle());
    disk.disk_fails_after(0);
    refused(rig.jump());
    assert_eq!(report_of(&rig).unwrap().state(), NodeState::Settling, "nobody was stopped");
    mend(&rig, &disk);
    assert_eq!(report(rig.jump()).state(), NodeState::Jumping);
}

/// After the jump the machine's disk is no reason to keep from guests what is theirs. The end has to wait for it.
#[test]
fn invariant_8_what_came_through_is_given_back_over_a_disk_that_fails() {
    let (rig, disk) = jumped_onto(|disk| disk.disk_fails_after(0));
    let back = report_of(&rig).unwrap();
    assert_eq!((back.state(), outcome_of(&back, GPU)), (NodeState::Verifying, Outcome::Uninterrupted));
    assert!(
        back.message.starts_with("not written down yet") && back.message.contains(SICK),
        "{}",
        back.message
    );
    assert_eq!(refusal(rig.ask(confirm())).0, Cause::HostFailed);
    assert!(!report_of(&rig).unwrap().confirmed, "nobody may believe that this is kept");

    // A keeper that is started again does all that again.
    let keeper = Arc::new(Keeper::open(Arc::clone(&rig.host)).unwrap());
    let rig = Rig { keeper, ..rig };
    assert_eq!(report_of(&rig).unwrap().state(), NodeState::Verifying);
    mend(&rig, &disk);
    assert_eq!(report(rig.ask(confirm())).state(), NodeState::Updated);
    assert!(rig.reopened().is_idle());
}

/// One that neither takes what is written nor fails. Who stands waits for it no longer than guests may stand.
#[test]
fn invariant_6_no_guest_stands_still_for_a_disk_that_hangs() {
    let (rig, disk) = Rig::with_disk(World::in_memory(spec()));
    rig.host.stage(&target(), &mut |_, _| true).unwrap();
    let soon = Deadlines { quiesce_ms: 500, ..Default::default() };
    rig.ask(preserve_but(|asked| asked.demands = Some(Demands { deadlines: Some(soon), ..demands() })));
    rig.ask(settle());
    // The permission is on record, and that holders stand still cannot be.
    disk.disk_hangs_after(1);
    let (keeper, jump) = (Arc::clone(&rig.keeper), request(Message::Jump(jump(&*rig.host))));
    let jumping = std::thread::spawn(move || keeper.handle(&jump));
    let began = Instant::now();
    while !jumping.is_finished() {
        assert!(began.elapsed() < Duration::from_secs(20), "guests stand still for a disk");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(disk.disk_failed() && rig.world.power().unwrap().is_none());
    assert_eq!(rig.world.standing().unwrap(), [""; 0]);
    rig.assert_undone();
    // The same disk has not answered yet, and nobody waits for it a second time.
    later(&rig, Duration::from_secs(2));
    let end = report_of(&rig).unwrap();
    assert_eq!(end.state(), NodeState::Aborted);
    for says in ["that holders stand still: write journal", "the disk has not answered for"] {
        assert!(end.message.contains(says), "{says}: {}", end.message);
    }
    assert!(end.blackout.is_some_and(|blackout| blackout.measured));

    disk.disk_mends();
    let mut end = end;
    while end.message.contains("not written down yet") {
        later(&rig, Duration::from_secs(2));
        end = report_of(&rig).unwrap();
    }
    assert_eq!(report_of(&rig.reopened()).unwrap().message, end.message, "what came late is written over");
}

/// Also after the jump.
#[test]
fn invariant_8_what_came_through_is_given_back_over_a_disk_that_hangs() {
    let (rig, disk) = jumped_onto(|disk| disk.disk_hangs_after(0));
    let back = report_of(&rig).unwrap();
    assert_eq!((back.state(), outcome_of(&back, GPU)), (NodeState::Verifying, Outcome::Uninterrupted));
    assert!(back.message.starts_with("not written down yet"), "{}", back.message);
    disk.disk_mends();
}

#[test]
fn invariant_6_no_guest_stands_still_for_a_disk_that_does_not_say_what_is_loaded() {
    let (rig, disk) = Rig::with_disk(World::in_memory(spec()));
    let rig = rig.settled();
    // Once more while guests run.
    disk.tells_staged(1);
    let asked = jump(&rig.world.host().unwrap());
    let end = report(rig.ask(Message::Jump(asked)));
    assert_eq!(end.state(), NodeState::Aborted, "{end:?}");
    assert!(end.message.contains("is not known") && end.message.contains("it hangs"), "{}", end.message);
    assert_eq!(rig.world.standing().unwrap(), [""; 0]);
}
