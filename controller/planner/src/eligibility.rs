//! How a node that has no attempt in flight stands towards its update, and why it does not start.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use crate::input::{
    Agent, AgentFacts, AttemptState, Devices, Node, NodeEnd, NodeRecord, OnBlocked, Spec, Text, Verdict,
};
use crate::output::{NodeClass, Reason};
use crate::run::{End, MAX_ABORTS, Run, Standing};
use crate::todo::Todo;
use crate::{endings, forgiven};

/// A blocked node's gates are read again that often, so that one that was mended goes on by itself.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// What the node's record says of this update's present revision, unless the bad end that it speaks of was forgiven.
pub(crate) fn unforgiven<'n>(run: &Run<'_>, node: &'n Node) -> Option<&'n NodeRecord> {
    run.own_record(node).filter(|_| !forgiven::is_forgiven(run, node))
}

/// How the node stands.
pub(crate) fn standing<'a>(run: &Run<'a>, spec: &'a Spec, node: &'a Node, todo: &mut Todo) -> Standing<'a> {
    let skipped = run.is_skipped(node);
    let record = run.own_record(node);
    let settled = match record.and_then(|record| record.end.as_ref()) {
        // What was updated stays updated, while it is.
        Some(NodeEnd::Updated { .. }) if !has_left(spec, node) => record,
        // A failure that was skipped is skipped.
        Some(_) if skipped => None,
        Some(NodeEnd::Updated { .. }) => return left(node),
        Some(NodeEnd::Failed { .. }) => unforgiven(run, node),
        Some(NodeEnd::Aborted { .. }) | None => None,
    };
    if let Some(mut standing) = settled.and_then(endings::of_record) {
        // Its devices count for `cover`, and after a restart nobody knows them.
        let covers = spec.strategy.steps.iter().any(|step| step.cover_device_model);
        standing.ask = covers && matches!(node.agent, Agent::Unasked);
        return standing;
    }
    // Forgiving is asked about only where there is something to forgive.
    let bad = record.filter(|record| record.aborts > 0 || !record.last_failure.is_empty());
    let counted = bad.and_then(|_| unforgiven(run, node));
    let aborts = counted.map_or(0, |record| record.aborts);
    let mut standing = if skipped {
        Standing::new(
            NodeClass::Skipped,
            Reason::Skipped,
            Text::fixed("taken out of the run by the verb skip"),
        )
    } else if aborts >= MAX_ABORTS {
        let last = counted.map_or("", |record| record.last_failure.as_str());
        let last = last.strip_prefix(endings::UNDONE).unwrap_or(last).trim_start_matches(": ");
        let last = if last.is_empty() { String::new() } else { format!("; the last time: {last}") };
        blocked(
            Reason::AbortedRepeatedly,
            format!("undone {aborts} times before the jump; retry it when it is mended{last}"),
        )
    } else {
        unsettled(run, spec, node, todo)
    };
    if standing.class == NodeClass::Blocked && spec.strategy.on_blocked == OnBlocked::Skip {
        standing.class = NodeClass::Skipped;
    }
    standing.remember(counted);
    standing
}

/// Whether a node that was updated runs something else by now, by the kubelet's word. It crashed, most likely, and its
/// guests with it.
fn has_left(spec: &Spec, node: &Node) -> bool {
    !node.release.is_empty() && node.release != spec.release
}

fn left<'a>(node: &Node) -> Standing<'a> {
    let message: Text = format!("was updated and verified; it has booted {} since", node.release).into();
    let mut standing = Standing::new(NodeClass::Failed, Reason::LeftTarget, message.clone());
    standing.last_failure = message;
    standing.end = Some(End::Found(Box::new(NodeEnd::Failed { reason: Reason::LeftTarget })));
    standing
}

fn unsettled<'a>(run: &Run<'a>, spec: &'a Spec, node: &'a Node, todo: &mut Todo) -> Standing<'a> {
    if let Some(why) = &node.malformed {
        return blocked(Reason::NodeMalformed, why);
    }
    if !node.ready {
        return blocked(Reason::NodeNotReady, "the Node object is not Ready");
    }
    if let Some(who) = &node.foreign {
        return blocked(Reason::ForeignMaintenance, who);
    }
    match &node.agent {
        Agent::Unasked => asking("its agent was not asked yet"),
        Agent::Unreachable { never: true, why, .. } => blocked(Reason::AgentMissing, why),
        Agent::Unreachable { why, .. } => blocked(Reason::AgentUnreachable, why),
        Agent::Misbehaves { why } => blocked(Reason::AgentMisbehaves, why),
        Agent::Answered(facts) => answered(run, spec, node, facts, todo),
    }
}

fn answered<'a>(
    run: &Run<'a>,
    spec: &'a Spec,
    node: &'a Node,
    facts: &'a AgentFacts,
    todo: &mut Todo,
) -> Standing<'a> {
    let own =
        |verdict: &&Verdict| verdict.update_uid == run.update.uid && verdict.revision == run.record.revision;
    let verdict = facts.verdict.as_ref().filter(own);
    if facts.boot_id != node.boot_id {
        let message = format!(
            "the agent says boot {}, the kubelet says {}: one of them is late or wrong",
            facts.boot_id, node.boot_id
        );
        let mut standing = blocked(Reason::AgentMisbehaves, message);
        standing.ask = verdict.is_none_or(|verdict| todo.due(verdict.at.after(ASK_AGAIN)));
        return standing;
    }
    // First: a node on the target may have got there by the attempt whose files are kept.
    if let Some((attempt, why)) = &facts.kept {
        let message = format!(
            "files of attempt {attempt} are kept for their holders, and nothing begins before: {why}"
        );
        return blocked(Reason::Quarantined, message);
    }
    if is_on_target(spec, node, facts) {
        let mut standing =
            Standing::new(NodeClass::Updated, Reason::AlreadyOnTarget, Text::fixed("already ran the target"));
        let end = NodeEnd::Updated {
            verified_at: todo.now,
            blackout: None,
            simulated: false,
            devices: Devices::default(),
        };
        standing.end = Some(End::Found(Box::new(end)));
        return standing;
    }
    if run.record.bad_targets.contains(spec.digest.as_str()) {
        return blocked(Reason::BadTarget, "the bundle came up as another kernel on another node");
    }
    let Some(verdict) = verdict else { return asking("its gates are being read") };
    if let Some((reason, message)) = &verdict.blocked {
        let mut standing = blocked(*reason, message);
        standing.ask = todo.due(verdict.at.after(ASK_AGAIN));
        return standing;
    }
    let mut standing = Standing::new(NodeClass::Waiting, Reason::WaitingForTurn, Text::default());
    if node.mark.is_some() {
        standing.message = "the mark of an earlier attempt is being removed".into();
    } else if has_stray(facts) {
        standing.message = "an earlier attempt is being undone".into();
    } else {
        standing.startable = true;
    }
    standing
}

/// Whether the node runs the very target, by the kubelet's word and the agent's.
pub(crate) fn is_on_target(spec: &Spec, node: &Node, facts: &AgentFacts) -> bool {
    node.release == spec.release && facts.release == spec.release && facts.digest == spec.digest
}

/// Whether something came between admission and start: what would have kept the node from being admitted.
pub(crate) fn is_hindered(update_uid: &Text, spec: &Spec, node: &Node, facts: &AgentFacts) -> bool {
    let verdict = facts.verdict.as_ref().is_some_and(|verdict| {
        verdict.update_uid == *update_uid && verdict.revision == spec.revision && verdict.blocked.is_some()
    });
    let node_hinders = node.malformed.is_some() || !node.ready || node.foreign.is_some();
    node_hinders || verdict || facts.kept.is_some() || facts.boot_id != node.boot_id
}

/// Whether the agent is still at an attempt (one in flight is not looked at here).
fn has_stray(facts: &AgentFacts) -> bool {
    facts.attempt.as_ref().is_some_and(|attempt| !attempt.state.is_over())
}

impl AttemptState {
    /// Nothing more will happen on the node.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Returned { .. } | Self::Aborted { .. } | Self::Failed { .. })
    }

    /// The commit may not have happened, so that it can be undone.
    pub fn is_before_jump(&self) -> bool {
        matches!(self, Self::Preparing | Self::AsksPermission { .. } | Self::Permitted)
    }
}

fn blocked<'a>(reason: Reason, message: impl Into<Text>) -> Standing<'a> {
    Standing::new(NodeClass::Blocked, reason, message.into())
}

fn asking<'a>(message: &'static str) -> Standing<'a> {
    let mut standing = Standing::new(NodeClass::Waiting, Reason::Preflight, Text::fixed(message));
    standing.ask = true;
    standing
}
