//! An update's status, from the planner's report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liveupdate_crds::conditions::{self, LiveUpdateCondition, Saying};
use liveupdate_crds::update as api;
use liveupdate_crds::{LiveUpdateStatus, verbs};
use liveupdate_planner::{
    Bound, Epoch, NodeClass, NodeReport, Reason, Text, Time, UpdateRecord, UpdateReport,
};

use super::{SENTENCE, int, wire_epoch, wire_time};
use crate::agents::check::plain;
use crate::agents::facts::outcome_word;
use crate::cluster::UpdateObject;

/// Most echoes of verbs that the schema takes.
const VERBS: usize = 32;
/// Names in a group, and failing nodes.
const NAMES: usize = 10;
/// Most groups of waiting nodes that the schema takes.
const GROUPS: usize = 64;
/// Longest sentence about a group: there is one for each reason. The node's own status has all of it.
const GROUP_SENTENCE: usize = 512;

/// What is needed beside the report.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The update as it was observed.
    pub object: &'a UpdateObject,
    /// Our leadership.
    pub epoch: &'a Epoch,
    /// By the wall clock.
    pub now: Time,
    /// What is malformed but does not stop the run (verbs, an unreadable policy): for the summary.
    pub problems: &'a [String],
}

/// The status that the update shall have.
pub fn status<'a>(
    context: Context<'_>,
    report: &UpdateReport,
    nodes: impl Iterator<Item = (&'a Text, &'a NodeReport)>,
) -> LiveUpdateStatus {
    let before = context.object.status.as_ref().ok();
    let mut status = LiveUpdateStatus {
        observed_generation: context.object.generation,
        epoch: Some(wire_epoch(context.epoch)),
        state: state(report).as_str().to_owned(),
        summary: summary(context, report),
        conditions: before.map(|status| status.conditions.clone()).unwrap_or_default(),
        ..LiveUpdateStatus::default()
    };
    match before {
        // The nodes may serve other updates by now: the numbers at the end are the ones that count.
        Some(before) if report.frozen => {
            status.counts = before.counts.clone();
            status.effective = before.effective.clone();
            status.step = before.step.clone();
            status.blackout = before.blackout.clone();
            status.devices = before.devices.clone();
            status.failing = before.failing.clone();
        }
        before => {
            // What is deleted counts nobody, and nobody waits for it: their attempts are being closed.
            let waits = |node: &NodeReport| matches!(node.class, NodeClass::Waiting | NodeClass::Blocked);
            let left = nodes.filter(|(_, node)| !context.object.deleting || !waits(node));
            numbers(&mut status, report, left);
            if status.step.is_none() {
                // The run ends in this pass: the step that it ended in stays to be seen.
                let last = before.and_then(|before| before.step.clone());
                status.step = last.map(|step| api::StepStatus { waiting_for: String::new(), ..step });
            }
        }
    }
    record(&mut status, &report.record, context.object);
    status.counts.in_flight = int(report.record.in_flight.len());
    conditions(&mut status, context, report);
    status
}

/// Whether two statuses say the same; the estimate of the end moves with every second and says nothing new.
pub fn same(a: &LiveUpdateStatus, b: &LiveUpdateStatus) -> bool {
    let without = |status: &LiveUpdateStatus| LiveUpdateStatus { estimated_end: None, ..status.clone() };
    without(a) == without(b)
}

fn state(report: &UpdateReport) -> Reason {
    let finished = report.record.finished.map(|finished| finished.reason);
    let refused = report.not_accepted.as_ref().map(|(reason, _)| *reason);
    finished.or(refused).or(report.paused).or(report.progress).unwrap_or(Reason::Progressing)
}

/// What the run waits for or how it ended. After the end nobody says it again: what was said stays.
fn message(context: Context<'_>, report: &UpdateReport) -> String {
    match (&report.not_accepted, &context.object.status) {
        (Some((_, why)), _) if report.record.finished.is_none() => why.clone(),
        (_, Ok(before)) if report.frozen => {
            let said = conditions::find(&before.conditions, LiveUpdateCondition::Succeeded);
            said.map_or_else(|| before.summary.clone(), |condition| condition.message.clone())
        }
        _ => report.message.clone(),
    }
}

fn summary(context: Context<'_>, report: &UpdateReport) -> String {
    let mut text = message(context, report);
    for problem in context.problems {
        text = if text.is_empty() { problem.clone() } else { format!("{text}; {problem}") };
    }
    plain(&text, SENTENCE)
}

/// Writes the durable part; [`super::record::update`] reads it back.
fn record(status: &mut LiveUpdateStatus, record: &UpdateRecord, object: &UpdateObject) {
    status.revision = record.revision.to_string();
    status.in_flight = record
        .in_flight
        .iter()
        .map(|entry| api::InFlight {
            node: entry.node.to_string(),
            uid: entry.uid.clone(),
            attempt: entry.attempt.to_string(),
            since: wire_time(entry.since),
        })
        .collect();
    status.failures = int(record.failures);
    status.accepted_failures = int(record.accepted_failures);
    status.bad_targets = record.bad_targets.iter().cloned().collect();
    status.verbs = echoes(record, object);
    status.skipped = record.skipped.iter().cloned().collect();
    let step = status.step.get_or_insert_default();
    step.index = int(record.step).saturating_add(1);
    step.reached_at = record.step_reached.map(wire_time);
    status.finished_at = record.finished.map(|finished| wire_time(finished.at));
}

/// Echoes of taken verbs. Where there are too many, those whose annotation is gone are forgotten first:
/// nobody can take them again.
fn echoes(record: &UpdateRecord, object: &UpdateObject) -> Vec<String> {
    if record.verbs.len() <= VERBS {
        return record.verbs.iter().map(verbs::echo).collect();
    }
    let asked = verbs::parse(&object.annotations).verbs;
    let (standing, gone): (Vec<_>, Vec<_>) = record.verbs.iter().partition(|verb| asked.contains(verb));
    standing.into_iter().chain(gone).take(VERBS).map(verbs::echo).collect()
}

fn numbers<'a>(
    status: &mut LiveUpdateStatus,
    report: &UpdateReport,
    nodes: impl Iterator<Item = (&'a Text, &'a NodeReport)>,
) {
    status.counts = api::Counts {
        total: int(report.total),
        eligible: int(report.eligible),
        updated: int(report.updated),
        in_flight: 0,
        failed: int(report.failed),
        blocked: int(report.blocked),
        skipped: int(report.skipped),
        waiting: int(report.waiting),
    };
    status.effective = api::Effective {
        max_unavailable: int(report.max_unavailable),
        max_failures: int(report.max_failures),
        bounded_by: match report.bounded_by {
            Bound::Spec => "Spec",
            Bound::Policy => "Policy",
            Bound::InFlightLimit => "InFlightLimit",
        }
        .to_owned(),
    };
    status.step = report.step.as_ref().map(|step| api::StepStatus {
        display: format!("{}/{} {}", step.index, step.of, step.name),
        index: int(step.index),
        of: int(step.of),
        name: step.name.clone(),
        target: int(step.target),
        waiting_for: step.waiting_for.clone(),
        reached_at: None,
    });
    let words = report.devices.iter();
    status.devices = words
        .map(|(outcome, count)| api::OutcomeCount {
            outcome: outcome_word(outcome).to_owned(),
            count: int(count),
        })
        .collect();
    status.blackout = blackout(&report.blackouts, report.simulated);
    status.estimated_end = report.estimated_end.map(wire_time);
    // Admitted in this very pass: in flight from here on, though the report still has them waiting.
    let admitted: BTreeSet<&str> = report.record.in_flight.iter().map(|entry| entry.node.as_str()).collect();
    let mut no_more = 0;
    let waits_still = |(name, node): &(&Text, &NodeReport)| {
        let taken = node.class == NodeClass::Waiting && admitted.contains(name.as_str());
        no_more += i32::from(taken);
        !taken
    };
    groups(status, nodes.filter(waits_still));
    status.counts.waiting = (status.counts.waiting - no_more).max(0);
}

fn groups<'a>(status: &mut LiveUpdateStatus, nodes: impl Iterator<Item = (&'a Text, &'a NodeReport)>) {
    let mut waiting: BTreeMap<&str, api::WaitingGroup> = BTreeMap::new();
    for (name, node) in nodes {
        match node.class {
            NodeClass::Waiting | NodeClass::Blocked => {
                let reason = node.reason.as_str();
                let group = waiting.entry(reason).or_insert_with(|| api::WaitingGroup {
                    reason: reason.to_owned(),
                    count: 0,
                    nodes: Vec::new(),
                    message: plain(&node.message, GROUP_SENTENCE),
                });
                group.count += 1;
                if group.nodes.len() < NAMES {
                    group.nodes.push(name.to_string());
                }
            }
            NodeClass::Failed if status.failing.len() < NAMES => {
                status.failing.push(api::FailingNode {
                    node: name.to_string(),
                    reason: node.reason.as_str().to_owned(),
                    message: plain(&node.message, SENTENCE),
                });
            }
            NodeClass::Idle
            | NodeClass::InFlight
            | NodeClass::Updated
            | NodeClass::Failed
            | NodeClass::Skipped => {}
        }
    }
    status.waiting = waiting.into_values().take(GROUPS).collect();
    status.waiting.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
}

/// Median, 99th percentile by nearest rank, and longest of sorted durations.
fn blackout(sorted: &[Duration], simulated: bool) -> Option<api::BlackoutSummary> {
    let rank = |percent: usize| {
        let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(at).copied().unwrap_or_default()
    };
    let longest = sorted.last()?;
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Some(api::BlackoutSummary {
        p50_ms: millis(rank(50)),
        p99_ms: millis(rank(99)),
        max_ms: millis(*longest),
        p99: marked(rank(99), simulated),
        simulated,
    })
}

/// A blackout for a column: nobody may take a simulated one for a measurement.
pub fn marked(blackout: Duration, simulated: bool) -> String {
    let text = match blackout.as_millis() {
        millis @ ..1000 => format!("{millis}ms"),
        _ => format!("{:.2}s", blackout.as_secs_f64()),
    };
    if simulated { format!("{text} (simulated)") } else { text }
}

fn conditions(status: &mut LiveUpdateStatus, context: Context<'_>, report: &UpdateReport) {
    use LiveUpdateCondition::{Accepted, Conflicted, Degraded, Paused, Progressing, Succeeded};
    let progress = state(report);
    let finished = report.record.finished;
    let ended_well =
        finished.is_some_and(|f| matches!(f.reason, Reason::Completed | Reason::CompletedWithSkipped));
    let going = finished.is_none() && report.not_accepted.is_none() && report.paused.is_none();
    let open = report.record.failures.saturating_sub(report.record.accepted_failures);
    let failing = status.failing.first().map(|node| (node.reason.clone(), node.node.clone()));
    let degraded = match &failing {
        Some((reason, node)) => (
            crate::agents::facts::reason(reason).unwrap_or(Reason::FailureBudgetSpent),
            format!("{} failed, {node} among them", status.counts.failed.max(1)),
        ),
        None if open > 0 => (Reason::FailureBudgetSpent, format!("{open} failed")),
        None => (progress, String::new()),
    };
    let (refusal, why) = report.not_accepted.clone().unwrap_or((progress, String::new()));
    let sayings = [
        (Accepted, report.not_accepted.is_none(), refusal, why),
        (Progressing, going, progress, message(context, report)),
        (
            Paused,
            report.paused.is_some() && finished.is_none(),
            report.paused.unwrap_or(progress),
            String::new(),
        ),
        (Succeeded, ended_well, progress, message(context, report)),
        (Degraded, failing.is_some() || open > 0, degraded.0, degraded.1),
        (
            Conflicted,
            !report.conflicted_with.is_empty(),
            if report.conflicted_with.is_empty() { progress } else { Reason::Conflicted },
            match report.conflicted_with.as_slice() {
                [] => String::new(),
                names => format!("wanted by older updates, too: {}", names.join(", ")),
            },
        ),
    ];
    for (r#type, holds, reason, message) in sayings {
        let message = plain(&message, SENTENCE);
        let saying = Saying { r#type, status: holds.into(), reason, message };
        conditions::upsert(
            &mut status.conditions,
            saying,
            context.object.generation,
            &wire_time(context.now),
        );
    }
}

#[cfg(test)]
#[path = "update_status_tests.rs"]
mod tests;
