//! The attempt itself: the whole way, joining, repeating, and every way in which it is undone.

use std::time::Duration;

use liveupdate_host::Host;
use liveupdate_host::simulated::{Answer, Fault, GateSpec};
use liveupdate_proto::common::v1::{Epoch, NodeState, Outcome, Subject, Target};
use liveupdate_proto::node::v1::run_event::Event;
use liveupdate_proto::node::v1::{AbortRequest, ConfirmRequest, Permission, RunRequest, StageRequest, Start};
use liveupdate_proto::refusal::Refusal;

use crate::fixture::{
    ATTEMPT, Fixture, digest, machine, permission, refused, slow, soon, start, subject, target,
};

const STATES: [NodeState; 2] = [NodeState::Preserving, NodeState::Settling];

#[tokio::test]
async fn the_whole_way_to_the_jump_and_its_outcome() {
    let mut fixture = Fixture::new().await;
    let before = fixture.host().boot_id().unwrap();
    let mut run = fixture.run().await;
    let (receipt, states) = run.receipt().await;
    assert_eq!(states, STATES);
    assert_eq!(receipt.boot_id, before);
    assert!(receipt.gates.iter().any(|gate| gate.id == "KexecAllowed"));

    run.permit(&receipt).await;
    let jumping = run.end().await.unwrap();
    assert!(matches!(&jumping, Event::Jumping(jumping) if jumping.boot_id == before), "{jumping:?}");
    let ending = soon(fixture.agent.stopped()).await;
    assert_eq!(ending, liveupdate_agent::Ending::PoweredOff);

    fixture.boot(|_| {}).await;
    let report = fixture.outcome_in(NodeState::Verifying).await;
    let proof = report.proof.unwrap();
    assert_eq!((proof.release.as_str(), proof.boot_id_before.as_str()), ("7.3.5-lu2", before.as_str()));
    assert!(proof.nonce_returned && proof.boot_id != before);
    assert_eq!(report.devices.len(), 1);
    assert_ne!(report.devices[0].outcome(), Outcome::Unspecified);

    let confirm = ConfirmRequest { subject: Some(subject()) };
    soon(fixture.client().await.confirm(confirm.clone())).await.unwrap();
    soon(fixture.client().await.confirm(confirm)).await.unwrap();
    refused(fixture.outcome().await, Refusal::NeverBegan);
    // Confirmed and forgotten, and still it does not run again.
    fixture.stage().await;
    let error = fixture.join(start()).await.unwrap().end().await;
    refused(error, Refusal::AttemptRepeated);
}

#[tokio::test]
async fn invariant_2_no_permission_that_is_not_for_this_receipt_boot_and_attempt_counts() {
    let fixture = Fixture::new().await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    let good = permission(&receipt);
    let other = |edit: fn(&mut Permission)| {
        let mut permission = good.clone();
        edit(&mut permission);
        permission
    };
    for (bad, expected) in [
        (other(|p| p.receipt = "0123".into()), Refusal::PermissionVoid),
        (other(|p| p.boot_id = "another-boot".into()), Refusal::PermissionVoid),
        (other(|p| p.duration_ms = 30_001), Refusal::Malformed),
        (other(|p| p.duration_ms = 0), Refusal::Malformed),
        (other(|p| p.subject = None), Refusal::Malformed),
        (
            other(|p| p.subject = Some(Subject { attempt: "7f3c-0a1b2c3d-2".into(), ..subject() })),
            Refusal::PermissionVoid,
        ),
        (
            other(|p| {
                let epoch = Some(Epoch { cluster: "cluster-a".into(), counter: 6 });
                p.subject = Some(Subject { epoch, ..subject() });
            }),
            Refusal::StaleEpoch,
        ),
    ] {
        let mut joined = fixture.join(start()).await.unwrap();
        joined.receipt().await;
        joined.say(bad).await;
        refused(joined.end().await, expected);
        assert_eq!(fixture.kept().await.unwrap().state(), NodeState::Settling);
    }
    // The attempt is as it was, and the good one still counts.
    run.permit(&receipt).await;
    assert!(matches!(run.end().await.unwrap(), Event::Jumping(_)));
}

#[tokio::test]
async fn a_permission_before_the_receipt_is_void() {
    let fixture = Fixture::with(slow(|spec| spec.durations.preserve = 1_000), |_| {}).await;
    let mut run = fixture.run().await;
    let early = Permission { subject: Some(subject()), duration_ms: 1_000, ..Permission::default() };
    run.say(early).await;
    refused(run.end().await, Refusal::PermissionVoid);
}

#[tokio::test]
async fn without_a_permission_the_attempt_is_undone_at_its_deadline() {
    let edit =
        |config: &mut liveupdate_agent::AgentConfig| config.limits.permission = Duration::from_millis(300);
    let fixture = Fixture::with(machine(), edit).await;
    let mut run = fixture.run().await;
    run.receipt().await;
    let report = run.ended().await;
    assert_eq!((report.state(), report.reason.as_str()), (NodeState::Aborted, "AttemptAborted"));
    assert!(report.message.contains("permission"), "{}", report.message);
    assert_eq!(fixture.host().preserved().unwrap(), None);
    assert_eq!(fixture.host().staged().unwrap(), None);
}

#[tokio::test]
async fn a_second_run_joins_and_both_are_told_everything() {
    let fixture = Fixture::new().await;
    let mut first = fixture.run().await;
    let (receipt, states) = first.receipt().await;
    let mut second = fixture.join(start()).await.unwrap();
    assert_eq!(second.receipt().await, (receipt.clone(), states));
    second.permit(&receipt).await;
    assert!(matches!(first.end().await.unwrap(), Event::Jumping(_)));
    assert!(matches!(second.end().await.unwrap(), Event::Jumping(_)));
}

#[tokio::test]
async fn a_restarted_controller_joins_with_a_higher_epoch() {
    let fixture = Fixture::new().await;
    let mut first = fixture.run().await;
    let (receipt, _) = first.receipt().await;
    drop(first);
    let newer = Subject { epoch: Some(Epoch { cluster: "cluster-a".into(), counter: 8 }), ..subject() };
    let mut second = fixture.join(Start { subject: Some(newer.clone()), ..start() }).await.unwrap();
    assert_eq!(second.receipt().await.0, receipt, "the attempt was not begun anew");
    second.say(Permission { subject: Some(newer), ..permission(&receipt) }).await;
    assert!(matches!(second.end().await.unwrap(), Event::Jumping(_)));
}

#[tokio::test]
async fn one_attempt_at_a_time() {
    let fixture = Fixture::new().await;
    let mut run = fixture.run().await;
    run.receipt().await;
    let other = Subject { attempt: "7f3c-0a1b2c3d-2".into(), ..subject() };
    let message = refused(
        fixture.join(Start { subject: Some(other), ..start() }).await.map(drop),
        Refusal::OtherAttempt,
    );
    assert!(message.contains(ATTEMPT), "{message}");
    let changed = Target { digest: digest().replace("ab", "cd"), ..target() };
    refused(fixture.join(Start { target: Some(changed), ..start() }).await.map(drop), Refusal::Malformed);
}

#[tokio::test]
async fn invariant_5_an_attempt_that_ended_does_not_run_again() {
    let fixture = Fixture::new().await;
    let mut run = fixture.run().await;
    run.receipt().await;
    let abort = AbortRequest { subject: Some(subject()), reason: "window closed".into() };
    let aborted = soon(fixture.client().await.abort(abort)).await.unwrap().into_inner().attempt.unwrap();
    assert_eq!(aborted.state(), NodeState::Aborted);
    let report = run.ended().await;
    assert!(report.message.contains("window closed"), "{}", report.message);
    assert_eq!(fixture.host().preserved().unwrap(), None);

    refused(fixture.join(start()).await.unwrap().end().await, Refusal::AttemptRepeated);
    let outcome = fixture.outcome().await.unwrap().attempt.unwrap();
    assert_eq!(outcome.state(), NodeState::Aborted);
}

#[tokio::test]
async fn what_is_not_staged_does_not_run() {
    let fixture = Fixture::new().await;
    refused(fixture.join(start()).await.unwrap().end().await, Refusal::NotStaged);
    assert_eq!(fixture.kept().await, None);
}

#[tokio::test]
async fn a_gate_that_fails_before_the_run_begins_refuses_it() {
    let fixture = Fixture::new().await;
    fixture.stage().await;
    fixture.world.change(|spec| spec.gates.push(failing())).unwrap();
    let message = refused(fixture.join(start()).await.unwrap().end().await, Refusal::Blocked);
    assert!(message.contains("GateNotPassed") && message.contains("KexecAllowed"), "{message}");
    assert_eq!(fixture.kept().await, None);
}

#[tokio::test]
async fn invariant_2_a_gate_that_fails_while_settling_undoes_the_attempt() {
    let fixture = Fixture::with(slow(|spec| spec.durations.settle = 500), |_| {}).await;
    let mut run = fixture.run().await;
    fixture.kept_in(NodeState::Settling).await;
    fixture.world.change(|spec| spec.gates.push(failing())).unwrap();
    let report = run.ended().await;
    assert_eq!(report.state(), NodeState::Aborted);
    assert!(report.message.contains("KexecAllowed"), "{}", report.message);
}

#[tokio::test]
async fn invariant_2_a_gate_that_fails_after_the_receipt_is_seen_by_the_keeper() {
    let fixture = Fixture::new().await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    fixture.world.change(|spec| spec.gates.push(failing())).unwrap();
    run.permit(&receipt).await;
    let report = run.ended().await;
    assert_eq!(report.state(), NodeState::Aborted);
    assert!(report.message.contains("KexecAllowed"), "{}", report.message);
}

fn failing() -> GateSpec {
    GateSpec {
        id: "KexecAllowed".into(),
        subject: None,
        release: None,
        result: Answer::Fail,
        evidence: None,
        remedy: None,
    }
}

#[tokio::test]
async fn what_cannot_be_preserved_ends_the_attempt_with_the_reason() {
    let mut spec = machine();
    spec.faults.push(Fault::PreserveFails { subject: crate::fixture::GPU.into() });
    let fixture = Fixture::with(spec, |_| {}).await;
    let report = fixture.run().await.ended().await;
    assert_eq!(report.state(), NodeState::Aborted);
    assert!(report.message.contains(crate::fixture::GPU), "{}", report.message);
    assert_eq!(fixture.host().staged().unwrap(), None);
}

#[tokio::test]
async fn a_holder_that_votes_no_undoes_the_attempt() {
    let mut spec = machine();
    spec.faults.push(Fault::VotesNo { holder: "vm-a".into() });
    let fixture = Fixture::with(spec, |_| {}).await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    run.permit(&receipt).await;
    let report = run.ended().await;
    assert_eq!(report.state(), NodeState::Aborted);
    assert!(report.message.contains("vm-a"), "{}", report.message);
}

#[tokio::test]
async fn a_kernel_that_refuses_the_jump_is_a_failure() {
    let mut spec = machine();
    spec.faults.push(Fault::KernelRefused);
    let fixture = Fixture::with(spec, |_| {}).await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    run.permit(&receipt).await;
    let report = run.ended().await;
    assert_eq!((report.state(), report.reason.as_str()), (NodeState::Failed, "KernelRefused"));
}

#[tokio::test]
async fn an_abort_while_memory_is_being_preserved_undoes_it() {
    // Far longer than anybody waits here: the undoing does not wait for its end.
    let fixture = Fixture::with(slow(|spec| spec.durations.preserve = 120_000), |_| {}).await;
    let mut run = fixture.run().await;
    fixture.kept_in(NodeState::Preserving).await;
    let abort = AbortRequest { subject: Some(subject()), reason: "hold".into() };
    let report = soon(fixture.client().await.abort(abort)).await.unwrap().into_inner().attempt.unwrap();
    assert_eq!(report.state(), NodeState::Aborted);
    assert_eq!(run.ended().await, report);
}

/// It was permitted to jump and is on its last way there: until the commit there is something to undo.
#[tokio::test]
async fn an_abort_while_holders_come_to_rest_undoes_it() {
    let fixture = Fixture::with(slow(|spec| spec.durations.quiesce = 1_500), |_| {}).await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    run.permit(&receipt).await;
    fixture.kept_in(NodeState::Quiescing).await;
    let abort = AbortRequest { subject: Some(subject()), reason: "hold".into() };
    let report = soon(fixture.client().await.abort(abort)).await.unwrap().into_inner().attempt.unwrap();
    assert_eq!((report.state(), report.message.as_str()), (NodeState::Aborted, "hold"));
    assert_eq!(run.ended().await, report);
    assert!(fixture.world.jumps().unwrap().is_empty());
}

#[tokio::test]
async fn an_abort_stops_a_staging() {
    let fixture = Fixture::with(slow(|spec| spec.durations.stage = 20_000), |_| {}).await;
    let request = StageRequest { subject: Some(subject()), target: Some(target()) };
    let mut progress = soon(fixture.client().await.stage(request)).await.unwrap().into_inner();
    soon(progress.message()).await.unwrap();
    let abort = AbortRequest { subject: Some(subject()), reason: "hold".into() };
    soon(fixture.client().await.abort(abort)).await.unwrap();
    let ended = async {
        loop {
            match progress.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    };
    refused(soon(ended).await, Refusal::Aborted);
    assert_eq!(fixture.host().staged().unwrap(), None);
}

/// Staging takes a minute from when the first has begun: whoever began anew would be too late.
#[tokio::test]
async fn stagings_of_one_attempt_are_one() {
    let fixture = Fixture::with(slow(|spec| spec.durations.stage = 500), |_| {}).await;
    let request = StageRequest { subject: Some(subject()), target: Some(target()) };
    let mut first = soon(fixture.client().await.stage(request)).await.unwrap().into_inner();
    while soon(first.message()).await.unwrap().unwrap().bytes_done == 0 {}
    fixture.world.change(|spec| spec.faults.push(Fault::StageSlow { ms: 60_000 })).unwrap();
    fixture.stage().await;
    let mut done = false;
    while let Some(told) = soon(first.message()).await.unwrap() {
        done = told.done;
    }
    assert!(done);
    // What is loaded is not loaded again.
    fixture.stage().await;
}

#[tokio::test]
async fn the_first_message_must_be_start() {
    let fixture = Fixture::new().await;
    let message = RunRequest { message: None };
    let result = soon(fixture.client().await.run(tokio_stream::once(message))).await;
    refused(result.map(drop), Refusal::Malformed);
}

/// A client that reads nothing holds up neither the attempt nor other calls.
#[tokio::test]
async fn a_slow_client_holds_up_nobody() {
    let fixture = Fixture::new().await;
    let idle = fixture.run().await;
    fixture.kept_in(NodeState::Settling).await;
    let mut other = fixture.join(start()).await.unwrap();
    let (receipt, _) = other.receipt().await;
    other.permit(&receipt).await;
    assert!(matches!(other.end().await.unwrap(), Event::Jumping(_)));
    drop(idle);
}
