use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::convert::record;
use liveupdate_planner::{Finished, InFlight, StepReport, Verb, VerbKind};

fn object() -> UpdateObject {
    UpdateObject {
        name: "kernel".into(),
        uid: "lu".into(),
        version: "7".into(),
        generation: 3,
        created: Time(0),
        deleting: false,
        finalizers: Vec::new(),
        annotations: BTreeMap::new(),
        spec: Err("not needed".into()),
        status: Ok(LiveUpdateStatus::default()),
    }
}

fn epoch() -> Epoch {
    Epoch { cluster: "c".into(), counter: 2 }
}

fn full_record() -> UpdateRecord {
    let verb = |kind, argument: &str| Verb {
        kind,
        argument: argument.into(),
        revision: "7f3c9a21d04be68c5512f0a9937e6b1d".into(),
        again: 0,
    };
    UpdateRecord {
        revision: "7f3c9a21d04be68c5512f0a9937e6b1d".into(),
        in_flight: vec![InFlight {
            node: "a".into(),
            uid: "ua".into(),
            attempt: "7f3c9a21-ua-1".into(),
            since: Time(5_000),
        }],
        failures: 2,
        accepted_failures: 1,
        step: 1,
        step_reached: Some(Time(9_000)),
        bad_targets: BTreeSet::from(["sha256:bad".into()]),
        verbs: BTreeSet::from([verb(VerbKind::Approve, "canary"), verb(VerbKind::Abort, "")]),
        skipped: BTreeSet::from(["z".into()]),
        finished: Some(Finished { at: Time(10_000), reason: Reason::Aborted }),
    }
}

fn write(report: &UpdateReport, nodes: &BTreeMap<Text, NodeReport>) -> LiveUpdateStatus {
    let context = Context { object: &object(), epoch: &epoch(), now: Time(20_000), problems: &[] };
    status(context, report, nodes.iter())
}

fn node(class: NodeClass, reason: Reason) -> NodeReport {
    NodeReport {
        update: Some("kernel".into()),
        class,
        reason,
        message: format!("because of {reason}").into(),
        revision: "7f3c9a21".into(),
        attempt: None,
        aborts: 0,
        last_failure: "".into(),
        end: None,
    }
}

#[test]
fn invariant_6_the_durable_part_comes_back_as_it_was_written() {
    let report = UpdateReport { record: full_record(), ..UpdateReport::default() };
    let written = write(&report, &BTreeMap::new());
    assert_eq!(record::update(&written), full_record());
    let json = serde_json::to_string(&written).unwrap();
    assert_eq!(record::update(&serde_json::from_str(&json).unwrap()), full_record());
}

#[test]
fn an_empty_status_is_an_empty_record() {
    assert_eq!(record::update(&LiveUpdateStatus::default()), UpdateRecord::default());
}

#[test]
fn invariant_10_waiting_nodes_are_grouped_by_what_they_wait_on() {
    let mut nodes = BTreeMap::new();
    for i in 0..15 {
        nodes.insert(format!("node-{i:02}").into(), node(NodeClass::Waiting, Reason::WaitingForTurn));
    }
    nodes.insert("x".into(), node(NodeClass::Blocked, Reason::GateNotPassed));
    nodes.insert("y".into(), node(NodeClass::Failed, Reason::WrongKernel));
    let status = write(&UpdateReport { failed: 1, ..UpdateReport::default() }, &nodes);
    assert_eq!(status.waiting.len(), 2);
    assert_eq!((status.waiting[0].count, status.waiting[0].nodes.len()), (15, 10));
    assert_eq!(status.waiting[1].reason, "GateNotPassed");
    assert_eq!(status.failing[0].node, "y");
}

/// What nodes say comes from kubelets, annotations and agents; nobody else's status may be too large for it.
#[test]
fn what_nodes_say_at_length_leaves_the_status_small() {
    for foreign in ["\u{1}".repeat(256 << 10), "\u{9}\u{1b}[2J\u{85}é\"".repeat(64 << 10)] {
        let message = Text::copy(&foreign);
        let said = |class, reason| NodeReport { message: message.clone(), ..node(class, reason) };
        let mut nodes = BTreeMap::new();
        for i in 0..12 {
            nodes.extend(Reason::ALL.iter().map(|reason| {
                (Text::copy(&format!("hv-{i:02}-{reason}")), said(NodeClass::Blocked, *reason))
            }));
            let failed = said(NodeClass::Failed, Reason::WrongKernel);
            nodes.insert(Text::copy(&format!("hv-{i:02}-failed")), failed);
        }
        let report = UpdateReport {
            not_accepted: Some((Reason::SpecInvalid, foreign.clone())),
            message: foreign.clone(),
            ..UpdateReport::default()
        };
        let status = write(&report, &nodes);
        assert_eq!((status.waiting.len(), status.failing.len()), (Reason::ALL.len(), NAMES));
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.len() < 64_000, "{} bytes", text.len());
        assert!(!text.contains("\\u00"), "{text:.2000}");
    }
}

#[test]
fn a_completed_run_is_succeeded_and_a_refused_one_says_why() {
    let holds = |status: &LiveUpdateStatus, r#type| {
        conditions::find(&status.conditions, r#type).map(|c| (c.status.clone(), c.reason.clone())).unwrap()
    };
    let finished = Some(Finished { at: Time(1_000), reason: Reason::CompletedWithSkipped });
    let report = UpdateReport {
        record: UpdateRecord { finished, ..UpdateRecord::default() },
        ..UpdateReport::default()
    };
    let done = write(&report, &BTreeMap::new());
    assert_eq!(
        holds(&done, LiveUpdateCondition::Succeeded),
        ("True".to_owned(), "CompletedWithSkipped".to_owned())
    );
    assert_eq!(holds(&done, LiveUpdateCondition::Progressing).0, "False");

    let report = UpdateReport {
        not_accepted: Some((Reason::SpecInvalid, "spec.strategy: no".into())),
        ..UpdateReport::default()
    };
    let refused = write(&report, &BTreeMap::new());
    assert_eq!(
        holds(&refused, LiveUpdateCondition::Accepted),
        ("False".to_owned(), "SpecInvalid".to_owned())
    );
    assert_eq!((refused.state.as_str(), refused.summary.as_str()), ("SpecInvalid", "spec.strategy: no"));
}

#[test]
fn a_frozen_report_keeps_the_numbers_of_the_end() {
    let mut object = object();
    let counts = api::Counts { total: 9, updated: 9, ..api::Counts::default() };
    let said = "9 of 9 nodes run the target".to_owned();
    object.status = Ok(LiveUpdateStatus { counts, summary: said.clone(), ..LiveUpdateStatus::default() });
    let report = UpdateReport { frozen: true, total: 1, ..UpdateReport::default() };
    let context = Context { object: &object, epoch: &epoch(), now: Time(0), problems: &[] };
    let status = status(context, &report, std::iter::empty());
    assert_eq!((status.counts.total, status.counts.updated), (9, 9));
    assert_eq!(status.summary, said);
}

#[test]
fn the_step_that_a_run_ended_in_stays_to_be_seen() {
    let mut object = object();
    let step = api::StepStatus { display: "3/3 rest".into(), index: 3, of: 3, ..api::StepStatus::default() };
    object.status = Ok(LiveUpdateStatus { step: Some(step), ..LiveUpdateStatus::default() });
    let finished = Some(Finished { at: Time(1_000), reason: Reason::Completed });
    let record = UpdateRecord { finished, step: 2, ..UpdateRecord::default() };
    let report = UpdateReport { record, ..UpdateReport::default() };
    let context = Context { object: &object, epoch: &epoch(), now: Time(0), problems: &[] };
    let step = status(context, &report, std::iter::empty()).step.unwrap();
    assert_eq!((step.display.as_str(), step.index), ("3/3 rest", 3));
}

#[test]
fn a_node_that_was_just_admitted_is_in_flight_and_waits_no_more() {
    let record = UpdateRecord { in_flight: full_record().in_flight, ..UpdateRecord::default() };
    let report = UpdateReport { record, total: 2, waiting: 2, ..UpdateReport::default() };
    let waiting = || node(NodeClass::Waiting, Reason::WaitingForTurn);
    let nodes = BTreeMap::from([("a".into(), waiting()), ("b".into(), waiting())]);
    let status = write(&report, &nodes);
    assert_eq!((status.counts.in_flight, status.counts.waiting), (1, 1));
    assert_eq!(status.waiting[0].nodes, ["b"]);
}

#[test]
fn invariant_10_nobody_waits_for_an_update_that_is_being_deleted() {
    let nodes = BTreeMap::from([
        ("a".into(), node(NodeClass::Waiting, Reason::Aborted)),
        ("b".into(), node(NodeClass::Failed, Reason::WrongKernel)),
    ]);
    let object = UpdateObject { deleting: true, ..object() };
    let context = Context { object: &object, epoch: &epoch(), now: Time(20_000), problems: &[] };
    let status = status(context, &UpdateReport::default(), nodes.iter());
    assert_eq!((status.counts.waiting, status.waiting), (0, Vec::new()));
    assert_eq!(status.failing.len(), 1);
}

#[test]
fn percentiles_are_by_nearest_rank_and_simulated_ones_say_so() {
    let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
    let summary = blackout(&sorted, true).unwrap();
    assert_eq!((summary.p50_ms, summary.p99_ms, summary.max_ms), (100, 198, 200));
    assert_eq!(summary.p99, "198ms (simulated)");
    assert_eq!(blackout(&[], false), None);
}

#[test]
fn too_many_verbs_forget_those_that_nobody_asks_for_any_more() {
    let verb = |i: u32| Verb {
        kind: VerbKind::Retry,
        argument: format!("node-{i:03}"),
        revision: "7f3c".into(),
        again: 0,
    };
    let record = UpdateRecord { verbs: (0..40).map(verb).collect(), ..UpdateRecord::default() };
    let mut object = object();
    object.annotations.insert("liveupdate.dev/retry".into(), "node-039@7f3c".into());
    let lines = echoes(&record, &object);
    assert_eq!(lines.len(), VERBS);
    assert!(lines.contains(&"retry: node-039@7f3c".to_owned()));
}

#[test]
fn what_a_person_reads_of_a_running_update() {
    let report = UpdateReport {
        record: UpdateRecord { finished: None, verbs: BTreeSet::new(), ..full_record() },
        progress: Some(Reason::Baking),
        message: "step canary bakes until 12:00".into(),
        total: 20,
        eligible: 19,
        updated: 5,
        waiting: 13,
        step: Some(StepReport {
            index: 2,
            of: 3,
            name: "early".into(),
            target: 5,
            waiting_for: "bake until 12:00".into(),
        }),
        max_unavailable: 2,
        blackouts: vec![Duration::from_millis(812)],
        simulated: true,
        ..UpdateReport::default()
    };
    let mut nodes = BTreeMap::new();
    nodes.insert("b".into(), node(NodeClass::Waiting, Reason::WaitingForTurn));
    let text = serde_json::to_string_pretty(&write(&report, &nodes)).unwrap();
    insta::assert_snapshot!(text);
}
