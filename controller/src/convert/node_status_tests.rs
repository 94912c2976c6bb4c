use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::cluster::{NodeStatusDigest, NodeUpdateObject};
use crate::convert::record;
use liveupdate_crds::Continuity;
use liveupdate_crds::node::HolderStatus;
use liveupdate_planner::{Agent, Outcome};

fn node() -> Node {
    Node {
        name: "a".into(),
        uid: "ua".into(),
        created: Time(0),
        labels: Arc::default(),
        ready: true,
        release: "7.3.5".into(),
        boot_id: "b1".into(),
        malformed: None,
        mark: None,
        foreign: None,
        record: None,
        agent: Agent::Unasked,
        lease_renewed: false,
    }
}

fn report(class: NodeClass, reason: Reason, end: Option<NodeEnd>) -> NodeReport {
    NodeReport {
        update: Some("kernel".into()),
        class,
        reason,
        message: "a sentence".into(),
        revision: "7f3c9a21".into(),
        attempt: Some("7f3c9a21-ua-1".into()),
        aborts: 1,
        last_failure: if class == NodeClass::Updated { "" } else { "undone before the jump: a gate" }.into(),
        end,
    }
}

fn write(report: &NodeReport, end_of: Option<&str>) -> NodeLiveUpdateStatus {
    write_towards("7.3.5", report, end_of)
}

fn write_towards(target: &str, report: &NodeReport, end_of: Option<&str>) -> NodeLiveUpdateStatus {
    let before = NodeStatusDigest { node_uid: "ua".into(), kernel: "7.3.4".into(), ..Default::default() };
    write_after(&before, target, report, end_of)
}

fn write_after(
    before: &NodeStatusDigest,
    target: &str,
    report: &NodeReport,
    end_of: Option<&str>,
) -> NodeLiveUpdateStatus {
    let (node, epoch) = (node(), Epoch { cluster: "c".into(), counter: 1 });
    let mut facts = NodeFacts { blackout: Some(Duration::from_millis(700)), ..NodeFacts::default() };
    facts.simulated = true;
    facts.state = Some(NodeState::Staging);
    facts.devices = vec![DeviceStatus {
        address: "0000:01:00.0".into(),
        model: "10de:2330".into(),
        holder: Some("vmm".into()),
        ceiling: None,
        verdict: Some("Preserved".into()),
        decided_by: None,
        outcome: Some("Paused".into()),
        facts: None,
        evidence: None,
    }];
    facts.holders = vec![HolderStatus {
        name: "vmm".into(),
        aware: true,
        minimum: Some(Continuity::Paused),
        refuses: false,
    }];
    let update = UpdateRef { name: "kernel".into(), uid: "lu".into() };
    let context = Context {
        node: &node,
        before,
        facts: &facts,
        update: Some(&update),
        target: Some(target),
        epoch: &epoch,
        now: Time(50_000),
        claimed: "",
        end_of,
    };
    status(context, report)
}

/// What a watch would make of a written status.
fn read(status: &NodeLiveUpdateStatus) -> NodeUpdateObject {
    let digest = NodeStatusDigest {
        node_uid: status.node_uid.clone(),
        kernel: status.kernel.clone(),
        previous_kernel: status.previous_kernel.clone(),
        state: status.state.clone(),
        reason: status.reason.clone(),
        blocked: if status.state == "Blocked" { status.message.clone() } else { String::new() },
        update_uid: status.update.as_ref().map(|u| u.uid.clone()).unwrap_or_default(),
        revision: status.revision.clone(),
        attempt: status.attempt.clone(),
        aborts: u32::try_from(status.aborts).unwrap(),
        last_failure: status.last_failure.clone(),
        verified_at: status.verified_at.as_ref().map(crate::convert::time),
        blackout_ms: status.blackout_ms.map(|ms| u64::try_from(ms).unwrap()),
        simulated: status.blackout.contains("simulated"),
        outcomes: BTreeMap::from([("Paused".to_owned(), 1)]),
    };
    NodeUpdateObject { owner_uid: "ua".into(), status: digest, ..NodeUpdateObject::default() }
}

#[test]
fn invariant_6_every_end_comes_back_as_it_was_written() {
    let ends = [
        (
            NodeClass::Updated,
            NodeEnd::Updated {
                verified_at: Time(9_000),
                blackout: Some(Duration::from_millis(700)),
                simulated: true,
                devices: [(Outcome::Paused, 1)].into_iter().collect(),
            },
        ),
        (NodeClass::Waiting, NodeEnd::Aborted { reason: Reason::GateNotPassed }),
        (NodeClass::Failed, NodeEnd::Failed { reason: Reason::WrongKernel }),
    ];
    for (class, end) in ends {
        let report = report(class, Reason::InProgress, Some(end));
        let record = record::node(&read(&write(&report, Some("7f3c9a21-ua-1"))), "ua").unwrap();
        assert_eq!(record.end, Some(end));
        assert_eq!((record.attempt.as_str(), record.aborts), ("7f3c9a21-ua-1", 1));
        assert_eq!(record.last_failure, report.last_failure);
        assert_eq!((record.update_uid.as_str(), record.revision.as_str()), ("lu", "7f3c9a21"));
    }
}

#[test]
fn only_an_end_is_read_back_as_one() {
    for class in [NodeClass::Idle, NodeClass::Waiting, NodeClass::Blocked, NodeClass::InFlight] {
        let record =
            record::node(&read(&write(&report(class, Reason::InProgress, None), None)), "ua").unwrap();
        assert_eq!(record.end, None, "{class:?}");
    }
    let skipped = report(NodeClass::Skipped, Reason::Skipped, None);
    let record = record::node(&read(&write(&skipped, None)), "ua").unwrap();
    assert_eq!((record.end, record.skipped), (None, Some(Reason::Skipped)));
}

#[test]
fn a_status_of_another_node_is_no_record() {
    let object = read(&write(&report(NodeClass::Waiting, Reason::Preflight, None), None));
    assert_eq!(record::node(&object, "another"), None);
}

#[test]
fn an_attempt_in_flight_shows_what_the_node_said_last() {
    let status = write(&report(NodeClass::InFlight, Reason::InProgress, None), None);
    assert_eq!((status.state.as_str(), status.reason.as_str()), ("Staging", "InProgress"));
}

#[test]
fn an_attempts_revision_is_the_beginning_of_its_id() {
    assert_eq!(revision_of("7f3c9a21-ua-1"), "7f3c9a21");
    assert_eq!(revision_of("odd"), "");
}

#[test]
fn what_a_person_reads_of_an_updated_node() {
    let end = NodeEnd::Updated {
        verified_at: Time(9_000),
        blackout: Some(Duration::from_millis(700)),
        simulated: true,
        devices: [(Outcome::Paused, 1)].into_iter().collect(),
    };
    let status = write(&report(NodeClass::Updated, Reason::Updated, Some(end)), Some("7f3c9a21-ua-1"));
    insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap());
}

#[test]
fn an_updated_node_that_runs_another_kernel_by_now_says_so() {
    let end = || NodeEnd::Updated {
        verified_at: Time(40_000),
        blackout: None,
        simulated: true,
        devices: Default::default(),
    };
    let updated = report(NodeClass::Updated, Reason::Updated, Some(end()));
    assert_eq!(write(&updated, None).message, "a sentence");
    assert_eq!(write_towards("7.3.6", &updated, None).message, LEFT);
    let waiting = report(NodeClass::Waiting, Reason::WaitingForTurn, None);
    assert_eq!(write_towards("7.3.6", &waiting, None).message, "a sentence", "of another target");
}

#[test]
fn a_claim_says_what_is_begun_and_that_the_node_waits_no_more() {
    let waiting = report(NodeClass::Waiting, Reason::WaitingForTurn, None);
    let (node, facts, epoch) = (node(), NodeFacts::default(), Epoch { cluster: "c".into(), counter: 1 });
    let context = Context {
        node: &node,
        before: &NodeStatusDigest::default(),
        facts: &facts,
        update: None,
        target: None,
        epoch: &epoch,
        now: Time(50_000),
        claimed: "7f3c9a21-ua-2",
        end_of: None,
    };
    let written = status(context, &begun(&waiting));
    assert_eq!((written.state.as_str(), written.reason.as_str()), ("Staging", "InProgress"));
    assert_eq!(written.claimed_attempt, "7f3c9a21-ua-2");
    // The last attempt that ended is another one, and this is not its end.
    let record = record::node(&read(&written), "ua").unwrap();
    assert_eq!((record.attempt.as_str(), record.end), ("7f3c9a21-ua-1", None));
}

#[test]
fn invariant_3_an_attempt_in_flight_has_no_outcome_of_the_one_before() {
    let written = write(&report(NodeClass::InFlight, Reason::InProgress, None), None);
    assert!(written.devices.iter().all(|device| device.outcome.is_none() && device.facts.is_none()));
    assert!(written.steps.is_empty());
}

#[test]
fn the_kernel_before_is_the_one_that_was_written_until_another_ran() {
    let waiting = report(NodeClass::Waiting, Reason::WaitingForTurn, None);
    let after = |uid: &str, kernel: &str, previous: &str| {
        let before = NodeStatusDigest {
            node_uid: uid.into(),
            kernel: kernel.into(),
            previous_kernel: previous.into(),
            ..NodeStatusDigest::default()
        };
        write_after(&before, "7.3.6", &waiting, None).previous_kernel
    };
    assert_eq!(after("", "", ""), "", "nothing was ever written of it");
    assert_eq!(after("ua", "7.3.4", "7.3.3"), "7.3.4");
    assert_eq!(after("ua", "7.3.5", "7.3.4"), "7.3.4", "it runs on");
    assert_eq!(after("of-another", "7.3.4", "7.3.3"), "", "another node had its name");
}

#[test]
fn a_real_jump_that_no_counter_spanned_says_that_it_is_unmeasured() {
    let end = |simulated| NodeEnd::Updated {
        verified_at: Time(40_000),
        blackout: None,
        simulated,
        devices: Default::default(),
    };
    let blackout =
        |simulated| write(&report(NodeClass::Updated, Reason::Updated, Some(end(simulated))), None).blackout;
    assert_eq!(blackout(false), "unmeasured");
    assert_eq!(blackout(true), "unmeasured (simulated)");
}
