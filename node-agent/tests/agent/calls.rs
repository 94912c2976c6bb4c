//! Calls that are let in or refused, and what the reading ones answer.

use liveupdate_host::Host;
use liveupdate_host::simulated::{Answer, GateSpec};
use liveupdate_proto::MINOR_VERSION;
use liveupdate_proto::common::v1::{Demands, Epoch, GateResult, NodeState, Subject, Target};
use liveupdate_proto::node::v1::{
    AbortRequest, ConfirmRequest, Fate, InspectRequest, OutcomeRequest, PreflightReply, PreflightRequest,
    ReleaseRequest, StageRequest, UninstallRequest,
};
use liveupdate_proto::refusal::Refusal;
use tonic::Code;

use crate::fixture::{ATTEMPT, Fixture, GPU, demands, machine, refused, soon, subject, target, word};
use crate::logs::Log;

async fn preflight(
    fixture: &Fixture,
    target: Option<Target>,
    demands: Option<Demands>,
) -> Result<PreflightReply, tonic::Status> {
    let request = PreflightRequest { subject: Some(subject()), target, demands };
    soon(fixture.client().await.preflight(request)).await.map(tonic::Response::into_inner)
}

async fn inspect_as(fixture: &Fixture, edit: impl FnOnce(&mut Subject)) -> Result<(), tonic::Status> {
    let mut subject = subject();
    edit(&mut subject);
    let request = InspectRequest { subject: Some(subject) };
    soon(fixture.client().await.inspect(request)).await.map(|_| ())
}

#[tokio::test]
async fn inspect_tells_all_that_the_agent_knows() {
    let fixture = Fixture::new().await;
    let request = InspectRequest { subject: Some(subject()) };
    let reply = soon(fixture.client().await.inspect(request)).await.unwrap().into_inner();
    assert_eq!(reply.boot_id, fixture.host().boot_id().unwrap());
    assert_eq!(reply.release, "7.2.0");
    assert!(reply.simulated);
    assert_eq!(reply.minor_version, MINOR_VERSION);
    assert_eq!(reply.epoch, subject().epoch);
    assert!(reply.gates.iter().any(|gate| gate.id == "KexecAllowed" && gate.result() == GateResult::Pass));
    assert_eq!(reply.devices.len(), 1);
    assert_eq!((reply.devices[0].address.as_str(), reply.devices[0].holder.as_str()), (GPU, "vm-a"));
    assert_eq!(reply.holders[0].name, "vm-a");
    assert_eq!((reply.attempt, reply.keeper_heard), (None, Some(true)));
}

#[tokio::test]
async fn preflight_says_what_would_happen() {
    let fixture = Fixture::new().await;
    let reply = preflight(&fixture, Some(target()), Some(demands())).await.unwrap();
    assert!(reply.clear, "{}: {}", reply.reason, reply.message);
    assert_eq!(reply.devices[0].fate(), Fate::Preserved);

    let without = Demands { acknowledged: Vec::new(), ..demands() };
    let reply = preflight(&fixture, Some(target()), Some(without)).await.unwrap();
    assert!(!reply.clear);
    assert!(!reply.reason.is_empty() && !reply.message.is_empty());

    let uncovered = Demands { devices: Vec::new(), ..demands() };
    let reply = preflight(&fixture, Some(target()), Some(uncovered)).await.unwrap();
    assert_eq!((reply.clear, reply.reason.as_str()), (false, "DeviceNotCovered"));
}

#[tokio::test]
async fn preflight_is_blocked_by_a_gate_that_is_unknown() {
    let mut spec = machine();
    spec.gates.push(GateSpec {
        id: "KexecAllowed".into(),
        subject: None,
        release: None,
        result: Answer::Unknown,
        evidence: Some("cannot read the sysctl".into()),
        remedy: None,
    });
    let fixture = Fixture::with(spec, |_| {}).await;
    let reply = preflight(&fixture, Some(target()), Some(demands())).await.unwrap();
    assert_eq!((reply.clear, reply.reason.as_str()), (false, "GateNotPassed"));
    assert!(reply.message.contains("KexecAllowed"), "{}", reply.message);
}

#[tokio::test]
async fn a_call_for_another_node_is_refused() {
    let fixture = Fixture::new().await;
    let message = refused(inspect_as(&fixture, |s| s.node = "worker-2".into()).await, Refusal::WrongNode);
    assert!(message.contains("worker-1") && message.contains("worker-2"), "{message}");
    refused(inspect_as(&fixture, |s| s.node_uid = "another".into()).await, Refusal::WrongNode);
}

#[tokio::test]
async fn one_minor_version_of_skew_is_accepted_either_way_and_no_more() {
    let fixture = Fixture::new().await;
    for version in [MINOR_VERSION - 1, MINOR_VERSION, MINOR_VERSION + 1] {
        inspect_as(&fixture, |s| s.minor_version = version).await.unwrap();
    }
    refused(inspect_as(&fixture, |s| s.minor_version = MINOR_VERSION + 2).await, Refusal::VersionSkew);
}

#[tokio::test]
async fn invariant_5_an_older_epoch_is_refused_by_every_call_also_after_a_restart() {
    let mut fixture = Fixture::new().await;
    inspect_as(&fixture, |s| s.epoch = epoch("cluster-a", 9)).await.unwrap();
    for restarted in [false, true] {
        if restarted {
            fixture.restart_agent(|_| {}).await;
        }
        let mut client = fixture.client().await;
        let old = || Some(Subject { epoch: epoch("cluster-a", 8), ..subject() });
        let (target, demands) = (Some(target()), Some(demands()));
        let stale = Refusal::StaleEpoch;
        refused(client.inspect(InspectRequest { subject: old() }).await, stale);
        refused(
            client.preflight(PreflightRequest { subject: old(), target: target.clone(), demands }).await,
            stale,
        );
        refused(client.stage(StageRequest { subject: old(), target }).await, stale);
        refused(client.abort(AbortRequest { subject: old(), reason: String::new() }).await, stale);
        refused(client.outcome(OutcomeRequest { subject: old() }).await, stale);
        refused(client.confirm(ConfirmRequest { subject: old() }).await, stale);
        refused(client.release(ReleaseRequest { subject: old() }).await, stale);
        refused(client.uninstall(UninstallRequest { subject: old(), dry_run: false }).await, stale);
        let start = liveupdate_proto::node::v1::Start { subject: old(), ..crate::fixture::start() };
        refused(fixture.join(start).await, stale);
        let foreign = inspect_as(&fixture, |s| s.epoch = epoch("cluster-b", 99)).await;
        refused(foreign, Refusal::ForeignCluster);
    }
    inspect_as(&fixture, |s| s.epoch = epoch("cluster-a", 9)).await.unwrap();
}

fn epoch(cluster: &str, counter: u64) -> Option<Epoch> {
    Some(Epoch { cluster: cluster.into(), counter })
}

#[tokio::test]
async fn malformed_calls_name_the_field() {
    let fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    let log = Log::keep();
    let status = client.inspect(InspectRequest { subject: None }).await.unwrap_err();
    log.refused("a call", "Malformed", "call=\"Inspect\"").await;
    let field = |status: &tonic::Status| {
        use tonic_types::StatusExt as _;
        assert_eq!(word(status), (Code::InvalidArgument, Some(Refusal::Malformed)), "{status:?}");
        status.get_details_bad_request().unwrap().field_violations[0].field.clone()
    };
    assert_eq!(field(&status), "subject");
    for (edit, expected) in [
        ((|s| s.epoch = None) as fn(&mut Subject), "subject.epoch"),
        (|s| s.epoch = epoch("", 1), "subject.epoch"),
        (|s| s.epoch = epoch("cluster-a", 0), "subject.epoch"),
        (|s| s.attempt = "../../etc".into(), "subject.attempt"),
        (|s| s.update = "x".repeat(300), "subject.update"),
        (|s| s.node = "worker\u{1b}[2J".into(), "subject.node"),
    ] {
        assert_eq!(field(&inspect_as(&fixture, edit).await.unwrap_err()), expected);
        log.refused("a call", "Malformed", expected).await;
    }
    for (target, expected) in [
        (Target { bundle: "../7.3".into(), ..target() }, "target.bundle"),
        (Target { bundle: String::new(), ..target() }, "target.bundle"),
        (Target { release: "a b".into(), ..target() }, "target.release"),
        (Target { digest: "sha256:12".into(), ..target() }, "target.digest"),
    ] {
        assert_eq!(field(&preflight(&fixture, Some(target), Some(demands())).await.unwrap_err()), expected);
        log.refused("a call", "Malformed", expected).await;
    }
    assert_eq!(field(&preflight(&fixture, None, Some(demands())).await.unwrap_err()), "target");
    assert_eq!(field(&preflight(&fixture, Some(target()), None).await.unwrap_err()), "demands");
    let no_attempt = Subject { attempt: String::new(), ..subject() };
    let outcome = client.outcome(OutcomeRequest { subject: Some(no_attempt) }).await.unwrap_err();
    assert_eq!(field(&outcome), "subject.attempt");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_agent_lives_on() {
    let fixture = Fixture::new().await;
    let huge = Demands { acknowledged: vec!["x".repeat(2 << 20)], ..demands() };
    let request = PreflightRequest { subject: Some(subject()), target: Some(target()), demands: Some(huge) };
    // Past the client's own limit, to see the server's.
    let mut client = liveupdate_proto::node::v1::node_client::NodeClient::new(fixture.channel().await);
    let log = Log::keep();
    let status = soon(client.preflight(request.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    log.refused("a call", "Oversized", "call=\"Preflight\"").await;
    // The client's own limit: nothing of it leaves.
    soon(fixture.client().await.preflight(request)).await.unwrap_err();
    inspect_as(&fixture, |_| {}).await.unwrap();
}

#[tokio::test]
async fn what_never_began_has_no_outcome() {
    let fixture = Fixture::new().await;
    refused(fixture.outcome().await, Refusal::NeverBegan);
}

#[tokio::test]
async fn abort_of_what_never_began_undoes_the_staging_and_is_idempotent() {
    let fixture = Fixture::new().await;
    fixture.stage().await;
    assert!(fixture.host().staged().unwrap().is_some());
    for _ in 0..2 {
        let request = AbortRequest { subject: Some(subject()), reason: "changed our mind".into() };
        let reply = soon(fixture.client().await.abort(request)).await.unwrap().into_inner();
        let report = reply.attempt.unwrap();
        assert_eq!((report.state(), report.message.as_str()), (NodeState::Aborted, "changed our mind"));
    }
    assert_eq!(fixture.host().staged().unwrap(), None);
}

#[tokio::test]
async fn invariant_8_the_keeper_is_uninstalled_only_when_nothing_is_under_way_or_in_custody() {
    let mut fixture = Fixture::new().await;
    let request = || UninstallRequest { subject: Some(subject()), dry_run: false };
    let asked = || UninstallRequest { subject: Some(subject()), dry_run: true };
    fixture.stage().await;
    let run = fixture.run().await;
    fixture.outcome_in(NodeState::Settling).await;
    for request in [asked(), request()] {
        let busy = refused(soon(fixture.client().await.uninstall(request)).await, Refusal::Busy);
        assert!(busy.contains("abort"), "{busy}");
    }
    // Another agent does not know what its keeper has; the keeper does.
    fixture.restart_agent(|_| {}).await;
    for request in [asked(), request()] {
        let busy = refused(soon(fixture.client().await.uninstall(request)).await, Refusal::WrongState);
        assert!(busy.contains(ATTEMPT), "{busy}");
    }
    assert!(fixture.host().staged().unwrap().is_some(), "the image of an attempt that goes on");
    drop(run);

    let abort = AbortRequest { subject: Some(subject()), reason: String::new() };
    soon(fixture.client().await.abort(abort)).await.unwrap();
    for request in [asked(), request()] {
        let unconfirmed = refused(soon(fixture.client().await.uninstall(request)).await, Refusal::WrongState);
        assert!(unconfirmed.contains("confirmed"), "{unconfirmed}");
    }
    soon(fixture.client().await.confirm(ConfirmRequest { subject: Some(subject()) })).await.unwrap();
    for _ in 0..2 {
        soon(fixture.client().await.uninstall(asked())).await.unwrap();
        assert!(!fixture.keeper.is_over(), "it was only asked");
    }
    soon(fixture.client().await.uninstall(request())).await.unwrap();
    assert!(fixture.keeper.is_over());
}

#[tokio::test]
async fn staging_the_wrong_bundle_is_refused_with_what_was_found() {
    let fixture = Fixture::new().await;
    let other = format!("sha256:{}", "cd".repeat(32));
    for (target, expected) in [
        (Target { bundle: "nowhere".into(), ..target() }, "nowhere"),
        (Target { digest: other, ..target() }, "digest"),
        (Target { release: "7.9".into(), ..target() }, "7.9"),
    ] {
        let request = StageRequest { subject: Some(subject()), target: Some(target) };
        let mut progress = soon(fixture.client().await.stage(request)).await.unwrap().into_inner();
        let failed = loop {
            match soon(progress.message()).await {
                Ok(Some(told)) => assert!(!told.done),
                Ok(None) => panic!("it ended without an error"),
                Err(status) => break status,
            }
        };
        let message = refused(Err::<(), _>(failed), Refusal::BundleUnusable);
        assert!(message.contains(expected), "{message}");
        assert_eq!(fixture.host().staged().unwrap(), None);
    }
}
