//! A node's status, from the planner's report and what the agent said.

use liveupdate_crds::conditions::{self, NodeCondition, Saying};
use liveupdate_crds::node::{DeviceStatus, StepTime};
use liveupdate_crds::{NodeLiveUpdateStatus, UpdateRef};
use liveupdate_planner::{Epoch, Node, NodeClass, NodeEnd, NodeReport, Reason, Time};
use liveupdate_proto::common::v1::NodeState;

use super::record::UPDATED;
use super::update_status::marked;
use super::{SENTENCE, int, wire_epoch, wire_time};
use crate::agents::check::cut;
use crate::agents::facts::{NodeFacts, state_word};
use crate::cluster::NodeStatusDigest;

/// States that a status holds at most.
const STEPS: usize = 32;

/// What a node's report says once the attempt is begun, whatever was planned of it a moment before.
pub fn begun(report: &NodeReport) -> NodeReport {
    NodeReport {
        class: NodeClass::InFlight,
        reason: Reason::InProgress,
        message: "the attempt is under way".into(),
        ..report.clone()
    }
}

/// The revision that an attempt is of: the beginning of its id.
pub fn revision_of(attempt: &str) -> &str {
    attempt.rsplitn(3, '-').nth(2).unwrap_or_default()
}

/// The word for a node's state. `InFlight` is told by what the node itself said last.
pub fn state(report: &NodeReport, facts: &NodeFacts) -> &'static str {
    match report.class {
        NodeClass::Idle => "Idle",
        NodeClass::Waiting if report.reason == Reason::Preflight => "Preflight",
        NodeClass::Waiting => "Queued",
        NodeClass::Blocked => "Blocked",
        NodeClass::InFlight => facts.state.filter(|state| !is_end(*state)).map_or("Staging", state_word),
        NodeClass::Updated => UPDATED,
        NodeClass::Failed => "Failed",
        NodeClass::Skipped => "Skipped",
    }
}

/// The words that are read back as ends are written only by whoever writes an end.
fn is_end(state: NodeState) -> bool {
    matches!(
        state,
        NodeState::Updated | NodeState::Failed | NodeState::Aborted | NodeState::Blocked | NodeState::Idle
    )
}

/// The word for an end.
const fn end_word(end: &NodeEnd) -> &'static str {
    match end {
        NodeEnd::Updated { .. } => UPDATED,
        NodeEnd::Aborted { .. } => "Aborted",
        NodeEnd::Failed { .. } => "Failed",
    }
}

/// The reason that stands in the status. That of a failure is the end's own: it is read back as such.
pub fn reason(report: &NodeReport, end_of: Option<&str>) -> Reason {
    match (&report.end, report.class, end_of) {
        (Some(NodeEnd::Aborted { reason } | NodeEnd::Failed { reason }), _, Some(_))
        | (Some(NodeEnd::Failed { reason }), NodeClass::Failed, None) => *reason,
        _ => report.reason,
    }
}

/// The sentence about the reason that stands in the status.
pub fn message(report: &NodeReport) -> &str {
    cut(&report.message, SENTENCE)
}

/// Of a node that did not stay on what it was updated to.
const LEFT: &str = "was updated and verified; it has booted another kernel since";

/// What is needed beside the report.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The node as it was observed.
    pub node: &'a Node,
    /// What was written of it last.
    pub before: &'a NodeStatusDigest,
    /// What its agent said.
    pub facts: &'a NodeFacts,
    /// The update of the report.
    pub update: Option<&'a UpdateRef>,
    /// The release that it asks for, when it can be read.
    pub target: Option<&'a str>,
    /// Our leadership.
    pub epoch: &'a Epoch,
    /// By the wall clock.
    pub now: Time,
    /// The attempt that was begun last.
    pub claimed: &'a str,
    /// Write the end of this attempt, whatever the class.
    pub end_of: Option<&'a str>,
}

/// The status that the node shall have.
pub fn status(context: Context<'_>, report: &NodeReport) -> NodeLiveUpdateStatus {
    let facts = context.facts;
    let state = match (&report.end, context.end_of) {
        (Some(end), Some(_)) => end_word(end),
        _ => state(report, facts),
    };
    let reason = reason(report, context.end_of);
    let (mut verified_at, mut simulated, mut blackout) = (None, facts.simulated, None);
    match &report.end {
        Some(NodeEnd::Updated { verified_at: at, blackout: found, simulated: sim, .. }) => {
            verified_at = Some(wire_time(*at));
            simulated = *sim;
            blackout = *found;
        }
        Some(NodeEnd::Aborted { .. } | NodeEnd::Failed { .. }) => blackout = facts.blackout,
        None => {}
    }
    let attempt = context.end_of.or(report.attempt.as_deref()).unwrap_or_default();
    // What the agent said last may still be of the attempt before: an attempt's outcomes come with its end.
    let open = report.class == NodeClass::InFlight && context.end_of.is_none();
    let mut devices = facts.devices.clone();
    if open {
        for device in &mut devices {
            (device.outcome, device.facts, device.evidence) = (None, None, None);
        }
    }
    let left = state == UPDATED && context.target.is_some_and(|release| context.node.release != release);
    let mut status = NodeLiveUpdateStatus {
        epoch: Some(wire_epoch(context.epoch)),
        node_uid: context.node.uid.clone(),
        kernel: context.node.release.to_string(),
        previous_kernel: previous_kernel(context).to_owned(),
        bundle_digest: (!facts.digest.is_empty()).then(|| facts.digest.clone()),
        boot_id: context.node.boot_id.to_string(),
        state: state.to_owned(),
        reason: reason.as_str().to_owned(),
        message: if left { LEFT } else { message(report) }.to_owned(),
        update: context.update.cloned(),
        update_name: context.update.map(|update| update.name.clone()).unwrap_or_default(),
        revision: report.revision.to_string(),
        attempt: attempt.to_owned(),
        claimed_attempt: context.claimed.to_owned(),
        aborts: int(report.aborts),
        last_failure: cut(&report.last_failure, SENTENCE).to_owned(),
        verified_at,
        gates: facts.gates.as_ref().clone(),
        device_summary: device_summary(&devices),
        devices,
        holders: facts.holders.clone(),
        verdict: verdict(&facts.devices, report),
        blackout: blackout.map(|found| marked(found, simulated)).unwrap_or_default(),
        blackout_ms: blackout.and_then(|found| i64::try_from(found.as_millis()).ok()),
        steps: if open { Vec::new() } else { steps(facts) },
        conditions: Vec::new(),
    };
    if blackout.is_none() && verified_at_is_jump(attempt, &status) {
        let word = if simulated { "unmeasured (simulated)" } else { "unmeasured" };
        word.clone_into(&mut status.blackout);
    }
    conditions(&mut status, context, report, reason);
    status
}

/// The release that ran before the running one: what was written as running, once another one does.
fn previous_kernel<'a>(context: Context<'a>) -> &'a str {
    let before = context.before;
    if before.node_uid != context.node.uid {
        ""
    } else if before.kernel.is_empty() || before.kernel == context.node.release {
        &before.previous_kernel
    } else {
        &before.kernel
    }
}

/// The node really jumped: a node that was on the target already has no blackout at all.
fn verified_at_is_jump(attempt: &str, status: &NodeLiveUpdateStatus) -> bool {
    !attempt.is_empty() && status.verified_at.is_some()
}

fn steps(facts: &NodeFacts) -> Vec<StepTime> {
    let states = facts.states.iter().take(STEPS);
    states
        .map(|(state, at)| StepTime { state: state_word(*state).to_owned(), at: wire_time(Time(*at)) })
        .collect()
}

fn device_summary(devices: &[DeviceStatus]) -> String {
    let kept = |device: &&DeviceStatus| {
        matches!(device.outcome.as_deref(), Some("Uninterrupted" | "Paused" | "Reinitialised"))
    };
    // What the update had nothing to do with is no device that was not preserved.
    let concerned =
        |device: &&DeviceStatus| device.outcome.as_deref().is_some_and(|word| word != "Untouched");
    match devices.iter().filter(concerned).count() {
        0 => devices.len().to_string(),
        all => format!("{}/{all} preserved", devices.iter().filter(kept).count()),
    }
}

/// What would happen to the devices now, in the words of the column.
fn verdict(devices: &[DeviceStatus], report: &NodeReport) -> String {
    let count = |word: &str| devices.iter().filter(|d| d.verdict.as_deref() == Some(word)).count();
    if report.class == NodeClass::Blocked {
        return "Blocked".to_owned();
    }
    let parts: Vec<String> = ["Blocks", "Preserved", "Stopped", "Untouched"]
        .into_iter()
        .map(|word| (word, count(word)))
        .filter(|(_, count)| *count > 0)
        .map(|(word, count)| format!("{word} {count}"))
        .collect();
    parts.join(", ")
}

fn conditions(status: &mut NodeLiveUpdateStatus, context: Context<'_>, report: &NodeReport, reason: Reason) {
    let unwell = matches!(
        reason,
        Reason::AgentUnreachable
            | Reason::AgentMissing
            | Reason::AgentMisbehaves
            | Reason::NodeNotReady
            | Reason::NodeMalformed
    );
    let sayings = [
        (NodeCondition::Ready, !unwell && report.class != NodeClass::Failed),
        (NodeCondition::Updated, report.class == NodeClass::Updated),
        (NodeCondition::Blocked, report.class == NodeClass::Blocked),
    ];
    for (r#type, holds) in sayings {
        let saying = Saying { r#type, status: holds.into(), reason, message: String::new() };
        // Nobody reads the status to write it: the time of the write stands for that of the transition.
        conditions::upsert(&mut status.conditions, saying, 0, &wire_time(context.now));
    }
}

#[cfg(test)]
#[path = "node_status_tests.rs"]
mod tests;
