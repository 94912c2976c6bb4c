//! The agent is killed in each state of a Run and started again over the same keeper (invariants 6 and 8).

use std::time::Duration;

use liveupdate_host::Host;
use liveupdate_proto::common::v1::NodeState;
use liveupdate_proto::node::v1::StageRequest;
use liveupdate_proto::node::v1::run_event::Event;

use crate::fixture::{Fixture, Running, machine, slow, start, subject, target};

async fn goes_on(fixture: &Fixture, mut run: Running) {
    let (receipt, _) = run.receipt().await;
    assert!(fixture.host().preserved().unwrap().is_some(), "custody is as it was");
    run.permit(&receipt).await;
    let end = run.end().await.unwrap();
    assert!(matches!(end, Event::Jumping(_)), "{end:?}");
}

#[tokio::test]
async fn killed_while_staging_it_stages_again() {
    let mut fixture = Fixture::with(slow(|spec| spec.durations.stage = 300), |_| {}).await;
    let request = StageRequest { subject: Some(subject()), target: Some(target()) };
    let mut progress = fixture.client().await.stage(request).await.unwrap().into_inner();
    progress.message().await.unwrap();
    fixture.restart_agent(|_| {}).await;
    let run = fixture.run().await;
    goes_on(&fixture, run).await;
}

#[tokio::test]
async fn killed_while_preserving_it_goes_on() {
    let mut fixture = Fixture::with(slow(|spec| spec.durations.preserve = 500), |_| {}).await;
    let _run = fixture.run().await;
    fixture.kept_in(NodeState::Preserving).await;
    fixture.restart_agent(|_| {}).await;
    assert_eq!(fixture.kept().await.unwrap().state(), NodeState::Preserving);
    let run = fixture.join(start()).await.unwrap();
    goes_on(&fixture, run).await;
}

#[tokio::test]
async fn killed_while_settling_it_goes_on() {
    let mut fixture = Fixture::with(slow(|spec| spec.durations.settle = 500), |_| {}).await;
    let _run = fixture.run().await;
    fixture.kept_in(NodeState::Settling).await;
    fixture.restart_agent(|_| {}).await;
    let run = fixture.join(start()).await.unwrap();
    goes_on(&fixture, run).await;
}

#[tokio::test]
async fn killed_after_the_receipt_it_makes_the_same_again() {
    let mut fixture = Fixture::new().await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    fixture.restart_agent(|_| {}).await;
    assert!(run.end().await.is_err(), "the connection of a killed agent breaks");
    assert!(fixture.host().preserved().unwrap().is_some());
    let mut run = fixture.join(start()).await.unwrap();
    assert_eq!(run.receipt().await.0, receipt);
    run.permit(&receipt).await;
    assert!(matches!(run.end().await.unwrap(), Event::Jumping(_)));
}

/// From Quiesce on everything is the keeper's.
#[tokio::test]
async fn killed_while_quiescing_the_keeper_jumps_without_it() {
    let mut fixture = Fixture::with(slow(|spec| spec.durations.quiesce = 400), |_| {}).await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    run.permit(&receipt).await;
    while !matches!(run.next().await.unwrap(), Some(Event::State(state)) if state.state() == NodeState::Quiescing)
    {
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.agent.kill();
    let world = fixture.world.clone();
    let event = tokio::task::spawn_blocking(move || world.wait_for_power_event(Duration::from_secs(10)));
    assert!(event.await.unwrap().unwrap().unwrap().comes_back);
    fixture.boot(|_| {}).await;
    assert_eq!(fixture.outcome_in(NodeState::Verifying).await.attempt, crate::fixture::ATTEMPT);
}

#[tokio::test]
async fn killed_after_the_return_the_outcome_is_still_there() {
    let mut fixture = Fixture::new().await;
    let run = fixture.run().await;
    goes_on(&fixture, run).await;
    fixture.boot(|_| {}).await;
    let report = fixture.outcome_in(NodeState::Verifying).await;
    fixture.restart_agent(|_| {}).await;
    assert_eq!(fixture.outcome().await.unwrap().attempt.unwrap(), report);
}

#[tokio::test]
async fn an_attempt_that_nobody_comes_back_for_is_undone() {
    let mut fixture = Fixture::with(machine(), |_| {}).await;
    let mut run = fixture.run().await;
    run.receipt().await;
    fixture.restart_agent(|config| config.limits.orphan = Duration::from_millis(200)).await;
    let report = fixture.kept_in(NodeState::Aborted).await;
    assert!(report.message.contains("nobody joined"), "{}", report.message);
    assert_eq!(fixture.host().preserved().unwrap(), None);
}

/// A stream that breaks is not an abort: somebody may join until the deadline.
#[tokio::test]
async fn an_attempt_outlives_the_stream_that_began_it() {
    let edit = |config: &mut liveupdate_agent::AgentConfig| config.limits.permission = Duration::from_secs(2);
    let fixture = Fixture::with(machine(), edit).await;
    let mut run = fixture.run().await;
    run.receipt().await;
    drop(run);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fixture.kept().await.unwrap().state(), NodeState::Settling);
    let report = fixture.kept_in(NodeState::Aborted).await;
    assert!(report.message.contains("permission"), "{}", report.message);
}
