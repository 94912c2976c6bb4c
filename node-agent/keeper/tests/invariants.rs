//! What the keeper never does, whatever happens.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::killer::{Killer, When};
use common::*;
use liveupdate_host::simulated::{Answer, Fault, GateSpec, World, WorldSpec};
use liveupdate_host::{Host, HostError};
use liveupdate_keeper::Keeper;
use liveupdate_proto::common::v1::{NodeState, Outcome};
use liveupdate_proto::keeper::v1::{Jump, Request, Uninstall, refusal::Cause, reply, request::Message};

#[test]
fn invariant_2_no_jump_without_each_piece() {
    let rig = Rig::new(spec()).settled();
    let good = jump(&*rig.host);
    let with = |edit: &dyn Fn(&mut Jump)| {
        let mut bad = good.clone();
        edit(&mut bad);
        bad
    };
    let refused = |bad: Jump, cause: Cause| {
        let (found, why) = refusal(rig.ask(Message::Jump(bad)));
        assert_eq!(found, cause, "{why}");
        assert_eq!(report(rig.status()).state(), NodeState::Settling, "nothing changed: {why}");
        assert_eq!(rig.world.power().unwrap(), None, "it did not jump: {why}");
    };
    refused(with(&|j| j.receipt.clear()), Cause::NoReceipt);
    refused(with(&|j| j.receipt = "forged".into()), Cause::NoReceipt);
    refused(with(&|j| j.receipt = receipt(&*rig.host, "7f3c-0a1b2c3d-2")), Cause::NoReceipt);
    refused(with(&|j| j.receipt = receipt(&*Rig::new(spec()).host, &subject().attempt)), Cause::NoReceipt);
    refused(with(&|j| j.receipt_boot_id = "another".into()), Cause::NoReceipt);
    refused(with(&|j| j.permission_boot_id = "another".into()), Cause::NoPermission);
    refused(with(&|j| j.permission_boot_id.clear()), Cause::NoPermission);
    refused(with(&|j| j.permission_until_ms = 0), Cause::NoPermission);
    refused(with(&|j| j.permission_until_ms += 60_000), Cause::NoPermission);

    let gate = GateSpec {
        id: "KexecAllowed".into(),
        subject: None,
        release: None,
        result: Answer::Unknown,
        evidence: None,
        remedy: None,
    };
    rig.world.change(|spec| spec.gates.push(gate)).unwrap();
    refused(good.clone(), Cause::NoReceipt);
    rig.world.change(|spec| spec.gates.clear()).unwrap();

    rig.world.advance(Duration::from_secs(21)).unwrap();
    refused(good, Cause::NoPermission);
    let fresh = jump(&*rig.host);
    rig.host.unstage().unwrap();
    refused(fresh.clone(), Cause::NoReceipt);
    rig.host.stage(&target(), &mut |_, _| true).unwrap();
    assert_eq!(report(rig.ask(Message::Jump(fresh))).state(), NodeState::Jumping, "with all of them it does");
}

#[test]
fn invariant_2_no_jump_before_settling_and_none_without_an_attempt() {
    let rig = Rig::new(spec());
    assert_eq!(refusal(rig.jump()).0, Cause::OtherAttempt);
    rig.host.stage(&target(), &mut |_, _| true).unwrap();
    rig.ask(preserve());
    assert_eq!(refusal(rig.jump()).0, Cause::WrongState);
    rig.ask(abort());
    assert_eq!(refusal(rig.jump()).0, Cause::WrongState);
    assert_eq!(rig.world.power().unwrap(), None);
}

#[test]
fn invariant_2_a_permission_that_runs_out_while_holders_stop_undoes() {
    let mut slow = spec();
    slow.durations.quiesce = 1_500;
    let rig = Rig::new(slow).settled();
    let mut short = jump(&*rig.host);
    short.permission_until_ms -= 19_000;
    let end = report(rig.ask(Message::Jump(short)));
    assert_eq!(end.state(), NodeState::Aborted);
    assert!(end.message.contains("run out"), "{}", end.message);
    rig.assert_undone();
}

#[test]
fn invariant_5_older_epochs_and_other_clusters_are_refused_also_after_a_restart() {
    let ask = |rig: &Rig, cluster: &str, counter: u64, attempt: &str| {
        let mut subject = subject_of(attempt, counter);
        subject.epoch.as_mut().unwrap().cluster = cluster.into();
        rig.keeper.handle(&Request { subject: Some(subject), message: Some(preserve()) })
    };
    let rig = Rig::new(spec());
    assert_eq!(refusal(ask(&rig, "cluster-1", 0, "a-1")).0, Cause::Malformed);
    assert_eq!(report(ask(&rig, "cluster-1", 7, "a-1")).state(), NodeState::Settling);
    let rig = rig.reopened();
    assert_eq!(refusal(ask(&rig, "cluster-1", 6, "a-2")).0, Cause::StaleEpoch);
    assert_eq!(refusal(ask(&rig, "cluster-2", 9, "a-2")).0, Cause::ForeignCluster);
    assert_eq!(report(rig.status()).attempt, "a-1");
    assert_eq!(report(ask(&rig, "cluster-1", 8, "a-2")).attempt, "a-2");
    let rig = rig.reopened();
    assert_eq!(
        refusal(ask(&rig, "cluster-1", 7, "a-3")).0,
        Cause::StaleEpoch,
        "it was kept before the effect"
    );
}

/// The call may be refused for another reason: its leadership was seen all the same.
#[test]
fn invariant_5_an_epoch_that_came_with_a_refused_call_is_kept_too() {
    let ask = |rig: &Rig, counter: u64, message: Message| {
        let subject = Some(subject_of("never-began", counter));
        refusal(rig.keeper.handle(&Request { subject, message: Some(message) })).0
    };
    let rig = Rig::new(spec());
    assert_eq!(ask(&rig, 9, release()), Cause::OtherAttempt);
    let rig = rig.reopened();
    assert_eq!(ask(&rig, 8, preserve()), Cause::StaleEpoch);
}

#[test]
fn invariant_5_an_attempt_runs_at_most_once() {
    let rig = Rig::new(spec()).settled();
    assert_eq!(report(rig.ask(preserve())).state(), NodeState::Settling, "who asks again joins");
    let other = Request { subject: Some(subject_of("other", 1)), message: Some(preserve()) };
    assert_eq!(refusal(rig.keeper.handle(&other)).0, Cause::OtherAttempt);
    rig.ask(abort());
    assert_eq!(refusal(rig.ask(preserve())).0, Cause::AttemptRepeated);
    let rig = rig.reopened();
    assert_eq!(refusal(rig.ask(preserve())).0, Cause::AttemptRepeated);
    assert_eq!(report(rig.keeper.handle(&other)).attempt, "other");
    rig.keeper.handle(&Request { subject: Some(subject_of("other", 1)), message: Some(abort()) });
    assert_eq!(refusal(rig.ask(preserve())).0, Cause::AttemptRepeated, "also when another ran since");

    let rig = Rig::new(spec()).settled();
    rig.jump();
    let rig = rig.booted();
    assert_eq!(refusal(rig.ask(preserve())).0, Cause::AttemptRepeated, "and on the next boot");
    rig.ask(confirm());
    assert_eq!(refusal(rig.ask(preserve())).0, Cause::AttemptRepeated);
    assert_eq!(rig.world.power().unwrap(), None);
}

/// Drives an attempt as far as it goes with a keeper that dies at one call.
/// Its agent is another process, which is not killed with it.
fn attempt_with(host: &Arc<dyn Host>, agents: &dyn Host) {
    let Ok(keeper) = Keeper::open(Arc::clone(host)) else { return };
    for message in [preserve(), settle()] {
        keeper.handle(&request(message));
    }
    keeper.handle(&request(Message::Jump(jump(agents))));
}

fn end_of(world: &World) -> (NodeState, String) {
    if world.power().unwrap().is_some() {
        world.boot().unwrap();
    }
    let rig = Rig::of(world.clone());
    match rig.status().message {
        None | Some(reply::Message::Refusal(_)) => panic!("no answer"),
        Some(reply::Message::Idle(_)) => {
            assert_eq!(rig.host.preserved().unwrap(), None);
            (NodeState::Idle, OLD.into())
        }
        Some(reply::Message::Attempt(end)) => {
            let release = rig.host.release().unwrap();
            match end.state() {
                NodeState::Aborted | NodeState::Failed => {
                    assert_eq!(release, OLD, "{end:?}");
                    rig.assert_undone();
                    assert!(!end.message.is_empty(), "an explicit end says why");
                }
                NodeState::Verifying => {
                    assert_eq!(release, NEW);
                    assert_eq!(outcome_of(&end, GPU), Outcome::Uninterrupted);
                    rig.host.finish().unwrap();
                }
                other => panic!("stuck in {other:?}: {}", end.message),
            }
            (end.state(), release)
        }
    }
}

/// Kills at every call in turn, on the way there (`first_boot`) or after the jump.
fn kill_everywhere(when: When) {
    let mut ends = std::collections::BTreeMap::new();
    for call in 0.. {
        assert!(call < 2_000, "the way never ends");
        let world = World::in_memory(spec());
        world.host().unwrap().stage(&target(), &mut |_, _| true).unwrap();
        let killer = Arc::new(Killer::at(Arc::new(world.host().unwrap()), call, when));
        attempt_with(&(Arc::clone(&killer) as Arc<dyn Host>), &world.host().unwrap());
        let (state, _) = end_of(&world);
        *ends.entry(state).or_insert(0) += 1;
        if killer.survived() {
            assert_eq!(state, NodeState::Verifying, "undisturbed, it arrives");
            assert!(call > 20, "there were calls to kill at: {call}");
            break;
        }
    }
    assert!(ends.contains_key(&NodeState::Aborted), "some kills were in the middle: {ends:?}");
}

#[test]
fn invariant_6_killed_before_any_call_of_the_way_it_converges() {
    kill_everywhere(When::Before);
}

#[test]
fn invariant_6_killed_after_any_call_of_the_way_it_converges() {
    kill_everywhere(When::After);
}

#[test]
fn invariant_6_killed_at_any_call_after_the_jump_it_converges_to_the_same_end() {
    for when in [When::Before, When::After] {
        for call in 0.. {
            let rig = Rig::new(spec()).settled();
            rig.jump();
            rig.world.boot().unwrap();
            let killer = Arc::new(Killer::at(Arc::new(rig.world.host().unwrap()), call, when));
            if let Ok(keeper) = Keeper::open(Arc::clone(&killer) as Arc<dyn Host>) {
                keeper.handle(&status());
            }
            let rig = Rig::of(rig.world);
            let end = report(rig.status());
            assert_eq!(end.state(), NodeState::Verifying, "call {call}, {when:?}: {}", end.message);
            assert_eq!(outcome_of(&end, NIC), Outcome::Paused);
            assert!(end.blackout.unwrap().measured);
            if killer.survived() {
                assert!(call > 10);
                break;
            }
        }
    }
}

#[test]
fn invariant_6_a_power_cut_at_any_time_ends_explicitly() {
    let rig = Rig::new(spec()).settled();
    rig.world.power_cut().unwrap();
    let end = report(rig.booted().status());
    assert_eq!(end.state(), NodeState::Aborted);
    assert_eq!(outcome_of(&end, GPU), Outcome::Lost, "its guest is gone");

    let rig = Rig::new(spec()).settled();
    rig.jump();
    rig.world.power_cut().unwrap();
    let end = report(rig.booted().status());
    assert_eq!((end.state(), end.reason.as_str()), (NodeState::Failed, "WrongKernel"));

    let rig = Rig::new(spec()).settled();
    rig.jump();
    let rig = rig.booted();
    rig.world.power_cut().unwrap();
    let end = report(rig.booted().status());
    assert_eq!((end.state(), end.reason.as_str()), (NodeState::Failed, "VerifyFailed"));
}

#[test]
fn invariant_8_what_is_overdue_is_kept_until_its_holder_comes() {
    let rig = Rig::with_fault(Fault::ReclaimOverdue { holder: "vm-b".into() }).settled();
    rig.jump();
    let rig = rig.booted();
    assert_eq!(report(rig.status()).state(), NodeState::Reclaiming);
    rig.world.advance(Duration::from_secs(301)).unwrap();
    let kept = report(rig.status());
    assert_eq!((kept.state(), kept.reason.as_str()), (NodeState::Quarantined, "Quarantined"));
    assert!(kept.message.contains("vm-b"), "{}", kept.message);
    assert_eq!((outcome_of(&kept, DISK), outcome_of(&kept, GPU)), (Outcome::Lost, Outcome::Uninterrupted));
    assert!(!kept.blackout.unwrap().measured, "it goes on");

    rig.ask(confirm());
    let rig = rig.reopened();
    assert_eq!(report(rig.status()).state(), NodeState::Quarantined, "confirmed is not released");
    assert!(matches!(rig.host.finish(), Err(HostError::WrongMoment { .. })), "its files are still there");
    let other = Request { subject: Some(subject_of("other", 1)), message: Some(preserve()) };
    assert_eq!(refusal(rig.keeper.handle(&other)).0, Cause::OtherAttempt);

    rig.world.change(|spec| spec.faults.clear()).unwrap();
    let late = report(rig.status());
    assert_eq!((late.state(), late.reason.as_str()), (NodeState::Failed, "Quarantined"));
    assert_eq!(outcome_of(&late, DISK), Outcome::Reinitialised, "a late return corrects");
    assert!(late.blackout.unwrap().milliseconds > 300_000, "with its time");
    assert_eq!(report(rig.keeper.handle(&other)).attempt, "other", "and the node is free again");
}

#[test]
fn invariant_8_only_the_verb_gives_up_what_is_kept() {
    let rig = Rig::with_fault(Fault::ReclaimOverdue { holder: "vm-b".into() }).settled();
    assert_eq!(refusal(rig.ask(release())).0, Cause::WrongState);
    rig.jump();
    let rig = rig.booted();
    assert_eq!(refusal(rig.ask(release())).0, Cause::WrongState, "not while it is merely awaited");
    rig.world.advance(Duration::from_secs(301)).unwrap();
    assert_eq!(report(rig.status()).state(), NodeState::Quarantined);
    let end = report(rig.ask(release()));
    assert_eq!((end.state(), outcome_of(&end, DISK)), (NodeState::Failed, Outcome::Lost));
    rig.world.change(|spec| spec.faults.clear()).unwrap();
    assert_eq!(outcome_of(&report(rig.status()), DISK), Outcome::Lost, "nothing is left to come for");
}

#[test]
fn what_is_released_twice_is_gone_once_and_what_cannot_be_let_go_of_is_still_kept() {
    let faults = vec![Fault::ReclaimOverdue { holder: "vm-b".into() }, Fault::NotReleased];
    let rig = Rig::new(WorldSpec { faults, ..spec() }).settled();
    rig.jump();
    let rig = rig.booted();
    rig.world.advance(Duration::from_secs(301)).unwrap();
    assert!(report(rig.status()).kept);
    let (cause, why) = refusal(rig.ask(release()));
    assert_eq!(cause, Cause::HostFailed);
    assert!(why.contains("still kept") && why.contains("EBUSY"), "{why}");
    assert!(report(rig.status()).kept, "an operator's word alone lets go of nothing");
    assert!(matches!(rig.host.finish(), Err(HostError::WrongMoment { .. })), "its files are still there");

    // A keeper that is killed in between has not forgotten it.
    let rig = rig.reopened();
    assert!(report(rig.status()).kept);
    rig.world.change(|spec| spec.faults.retain(|fault| *fault != Fault::NotReleased)).unwrap();
    for _ in 0..2 {
        let end = report(rig.ask(release()));
        assert_eq!((end.state(), end.reason.as_str(), end.kept), (NodeState::Failed, "Quarantined", false));
        assert!(end.message.contains("an operator gave up the files"), "{}", end.message);
    }
    rig.host.finish().unwrap();
    rig.ask(confirm());
    assert_eq!(report(rig.ask(release())).state(), NodeState::Failed, "confirmed, and asked once more");
    let other = Request { subject: Some(subject_of("other", 1)), message: Some(preserve()) };
    assert_eq!(report(rig.keeper.handle(&other)).attempt, "other", "the node is free again");
}

#[test]
fn what_never_jumped_and_could_not_be_undone_is_undone_by_the_verb() {
    let rig = Rig::with_fault(Fault::NotReleased).settled();
    assert_eq!(report(rig.ask(abort())).state(), NodeState::Thawing);
    rig.world.advance(Duration::from_secs(61)).unwrap();
    let kept = report(rig.status());
    assert_eq!((kept.state(), kept.kept), (NodeState::Quarantined, true), "{kept:?}");
    assert_eq!(refusal(rig.ask(release())).0, Cause::HostFailed);
    assert!(rig.host.preserved().unwrap().is_some());
    rig.world.change(|spec| spec.faults.clear()).unwrap();
    let end = report(rig.ask(release()));
    assert_eq!((end.state(), end.kept), (NodeState::Failed, false));
    // Its holders ran all the time, and have what they had.
    rig.assert_undone();
}

#[test]
fn invariant_8_what_came_through_to_the_wrong_kernel_is_still_given_back() {
    let mut odd = spec();
    odd.bundles[0].boots_as = Some("7.3.5-lu2-debug".into());
    let rig = Rig::new(odd).settled();
    rig.jump();
    let rig = rig.booted();
    let end = report(rig.status());
    assert_eq!((end.state(), end.reason.as_str()), (NodeState::Failed, "WrongKernel"));
    assert_eq!(outcome_of(&end, GPU), Outcome::Uninterrupted, "the guest has its device");
    assert!(end.blackout.unwrap().measured);
}

#[test]
fn invariant_8_no_new_attempt_over_what_somebody_may_still_come_for() {
    let mut odd = spec();
    odd.bundles[0].boots_as = Some("7.3.5-lu2-debug".into());
    odd.faults = vec![Fault::ReclaimOverdue { holder: "vm-b".into() }];
    let rig = Rig::new(odd).settled();
    rig.jump();
    let rig = rig.booted().reopened();
    let end = report(rig.status());
    assert_eq!((end.state(), outcome_of(&end, DISK)), (NodeState::Failed, Outcome::Lost));
    let other = Request { subject: Some(subject_of("other", 1)), message: Some(preserve()) };
    let (cause, why) = refusal(rig.keeper.handle(&other));
    assert_eq!(cause, Cause::OtherAttempt);
    assert!(why.contains("may still come"), "{why}");
    rig.ask(confirm());
    assert!(report(rig.status()).kept, "confirmed, and in the way all the same");
    assert_eq!(report(rig.ask(release())).state(), NodeState::Failed);
    assert!(rig.is_idle());
    assert_eq!(report(rig.keeper.handle(&other)).attempt, "other", "the operator gave it up");
}

#[test]
fn invariant_8_no_new_attempt_over_what_came_through_and_cannot_be_read() {
    let rig = Rig::with_fault(Fault::IndexUnread).settled();
    rig.jump();
    let rig = rig.booted();
    let end = report(rig.status());
    assert_eq!((end.state(), end.reason.as_str(), end.kept), (NodeState::Failed, "WrongKernel", true));
    rig.ask(confirm());
    let other = Request { subject: Some(subject_of("other", 1)), message: Some(preserve()) };
    let rig = rig.reopened();
    let (cause, why) = refusal(rig.keeper.handle(&other));
    assert_eq!(cause, Cause::OtherAttempt, "{why}");
    assert!(report(rig.status()).kept, "nobody finished it meanwhile");
    let (_, why) = refusal(rig.keeper.handle(&other));
    assert!(why.contains("cannot be read"), "{why}");
    assert!(!report(rig.ask(release())).kept);
    assert_eq!(report(rig.keeper.handle(&other)).attempt, "other", "the operator gave it up");
}

#[test]
fn invariant_8_a_keeper_without_its_journal_begins_nothing_over_what_came_through() {
    let other = Request { subject: Some(subject_of("other", 1)), message: Some(preserve()) };
    let without_journal = || {
        let rig = Rig::with_fault(Fault::ReclaimOverdue { holder: "vm-b".into() });
        rig.ask(confirm());
        let idle = rig.host.load("journal").unwrap().unwrap();
        let rig = rig.settled();
        rig.jump();
        rig.world.boot().unwrap();
        rig.world.host().unwrap().store("journal", &idle).unwrap();
        Rig::of(rig.world)
    };
    let open = |rig: &Rig| match rig.status().message {
        Some(reply::Message::Idle(idle)) => idle.open,
        other => panic!("not idle: {other:?}"),
    };
    let rig = without_journal();
    assert!(open(&rig) && !rig.keeper.at_rest());
    let (cause, why) = refusal(rig.keeper.handle(&other));
    assert_eq!(cause, Cause::OtherAttempt, "{why}");
    let uninstall = Message::Uninstall(Uninstall { dry_run: true });
    assert_eq!(refusal(rig.ask(uninstall)).0, Cause::WrongState);
    // Whoever it was for comes for it.
    rig.world.change(|spec| spec.faults.clear()).unwrap();
    assert!(!open(&rig));
    assert_eq!(report(rig.keeper.handle(&other)).attempt, "other");

    let rig = without_journal();
    assert!(open(&rig));
    rig.ask(release());
    assert!(!open(&rig), "the operator gave it up");
    assert_eq!(report(rig.keeper.handle(&other)).attempt, "other");
}

#[test]
fn a_journal_that_cannot_be_read_stops_the_keeper() {
    let world = World::in_memory(spec());
    let host: Arc<dyn Host> = Arc::new(world.host().unwrap());
    let rig = Rig::of(world.clone()).settled();
    let whole = rig.host.load("journal").unwrap().unwrap();
    for bad in
        [b"{".to_vec(), whole[..whole.len() - 9].to_vec(), b"{\"version\":9}".to_vec(), vec![b' '; 2 << 20]]
    {
        host.store("journal", &bad).unwrap();
        assert!(Keeper::open(Arc::clone(&host)).is_err());
        assert_eq!(host.load("journal").unwrap().unwrap(), bad, "it is left as it is");
    }
    assert!(host.preserved().unwrap().is_some(), "nothing was given up on a guess");
}
