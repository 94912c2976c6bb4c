//! Files that are kept because a holder did not come, and the word that gives them up.

use std::time::Duration;

use liveupdate_host::simulated::Fault;
use liveupdate_host::{Host, HostError};
use liveupdate_proto::common::v1::{AttemptReport, NodeState, Outcome, Subject};
use liveupdate_proto::node::v1::{ConfirmRequest, InspectRequest, ReleaseRequest};
use liveupdate_proto::refusal::Refusal;

use crate::fixture::{ATTEMPT, Fixture, machine, refused, soon, subject};

/// Back from a jump; the one holder stays away.
async fn returned() -> Fixture {
    let mut spec = machine();
    spec.faults = vec![Fault::ReclaimOverdue { holder: "vm-a".into() }];
    let mut fixture = Fixture::with(spec, |_| {}).await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    run.permit(&receipt).await;
    run.end().await.unwrap();
    soon(fixture.agent.stopped()).await;
    fixture.boot(|_| {}).await;
    fixture.outcome_in(NodeState::Reclaiming).await;
    fixture
}

async fn release_as(fixture: &Fixture, edit: fn(&mut Subject)) -> Result<AttemptReport, tonic::Status> {
    let mut subject = subject();
    edit(&mut subject);
    let request = ReleaseRequest { subject: Some(subject) };
    let reply = soon(fixture.client().await.release(request)).await?.into_inner();
    Ok(reply.attempt.unwrap())
}

async fn confirm(fixture: &Fixture) {
    let request = ConfirmRequest { subject: Some(subject()) };
    soon(fixture.client().await.confirm(request)).await.unwrap();
}

/// What the agent tells of an attempt when nobody asks for one.
async fn told(fixture: &Fixture) -> Option<AttemptReport> {
    let request = InspectRequest { subject: Some(subject()) };
    soon(fixture.client().await.inspect(request)).await.unwrap().into_inner().attempt
}

fn are_kept(fixture: &Fixture) -> bool {
    matches!(fixture.host().finish(), Err(HostError::WrongMoment { .. }))
}

#[tokio::test]
async fn invariants_5_and_8_only_the_newest_leader_gives_up_what_is_kept_and_only_in_quarantine() {
    let mut fixture = returned().await;
    let waits = refused(release_as(&fixture, |_| {}).await, Refusal::WrongState);
    assert!(waits.contains("Reclaiming"), "its holder may come in time: {waits}");
    fixture.world.advance(Duration::from_secs(301)).unwrap();
    fixture.outcome_in(NodeState::Quarantined).await;
    confirm(&fixture).await;
    let still = told(&fixture).await.expect("it is told for as long as files are kept");
    assert!(still.kept && still.confirmed, "{still:?}");

    refused(release_as(&fixture, |s| s.epoch.as_mut().unwrap().counter -= 1).await, Refusal::StaleEpoch);
    refused(
        release_as(&fixture, |s| s.epoch.as_mut().unwrap().cluster = "cluster-b".into()).await,
        Refusal::ForeignCluster,
    );
    refused(release_as(&fixture, |s| s.node_uid = "another".into()).await, Refusal::WrongNode);
    refused(release_as(&fixture, |s| s.attempt.clear()).await, Refusal::Malformed);
    let other =
        refused(release_as(&fixture, |s| s.attempt = "7f3c-0a1b2c3d-2".into()).await, Refusal::OtherAttempt);
    assert!(other.contains(ATTEMPT), "{other}");
    assert!(are_kept(&fixture), "nothing of that gave up anything");

    let end = release_as(&fixture, |_| {}).await.unwrap();
    assert_eq!((end.state(), end.reason.as_str(), end.kept), (NodeState::Failed, "Quarantined", false));
    assert!(end.message.contains("an operator gave up the files"), "{}", end.message);
    assert_eq!(end.devices[0].outcome(), Outcome::Lost);
    assert!(!are_kept(&fixture));
    assert_eq!(
        told(&fixture).await.map(|report| report.message),
        Some(end.message.clone()),
        "until confirmed"
    );

    // As often as it is asked for, also of another agent and after the controller has it on record.
    fixture.restart_agent(|_| {}).await;
    assert_eq!(release_as(&fixture, |_| {}).await.unwrap().message, end.message);
    confirm(&fixture).await;
    assert_eq!(release_as(&fixture, |_| {}).await.unwrap().state(), NodeState::Failed);
    assert_eq!(told(&fixture).await, None);
}

#[tokio::test]
async fn what_never_began_here_has_nothing_to_give_up() {
    let fixture = Fixture::new().await;
    refused(release_as(&fixture, |_| {}).await, Refusal::OtherAttempt);
}
