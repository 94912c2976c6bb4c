//! Folding what agents answer into the snapshot. Volatile: after a restart it is asked for again.

use std::rc::Rc;
use std::time::Duration;

use liveupdate_planner::{Agent, AgentFacts, AttemptFacts, AttemptState, Node, Reason, Text, Time, Verdict};
use liveupdate_proto::common::v1::{AttemptReport, NodeState};
use liveupdate_proto::node::v1::{InspectReply, OutcomeReply, PreflightReply, Receipt};

use super::{NodeSide, World};
use crate::agents::{AgentError, check, facts};

/// Longest sentence about an agent that does not answer, or not in order.
const UNHEARD: usize = 512;

/// Who a preflight was for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// UID of the update.
    pub update_uid: Text,
    /// Its revision.
    pub revision: Text,
}

impl World {
    /// A preflight for that update, as it is now.
    pub fn asked(&self, update: &str) -> Option<Asked> {
        let update = self.snapshot.updates.iter().find(|other| other.name == *update)?;
        let spec = update.spec.as_ref().ok()?;
        Some(Asked { update_uid: update.uid.clone(), revision: spec.revision.clone() })
    }

    /// The agent told all that it knows; it was asked at that turn.
    pub fn inspected(&mut self, node: &str, turn: u64, reply: &InspectReply, now: Time) {
        let wanted = self.is_wanted(node);
        let silent = facts::keeper_is_silent(reply);
        let flight = if silent { self.flight(node).cloned() } else { None };
        let Some((node, side)) = self.node_mut(node) else { return };
        let mut judged = false;
        if flight.is_some_and(|attempt| !is_told(node, side, &attempt)) {
            // An agent that answers and knows of no attempt says that it never began. This one says nothing of it,
            // as it would if it were asked for the outcome.
            (side.answered, side.failures) = (true, 0);
            let why = format!("its agent cannot ask the keeper: {}", facts::custody(reply));
            falls_silent(node, side, &why, now);
        } else {
            answer(node, side, (&reply.boot_id, &reply.release), |known| {
                known.digest = Text::copy(&reply.bundle_digest);
                known.models = facts::models(&reply.devices);
                judged = wanted && known.verdict.is_some();
            });
        }
        side.facts.simulated = reply.simulated;
        side.facts.digest.clone_from(&reply.bundle_digest);
        let devices = facts::devices(&reply.devices, &side.facts.devices);
        // An Inspect knows of no target. The verdict's gates stand as long as it does; what fails since is said.
        let found = facts::gates(&reply.gates);
        let gates = if judged { facts::with_failures(&side.preflight_gates, found) } else { found };
        side.facts_changed |= share(&mut side.facts.gates, gates);
        side.facts_changed |= renew(&mut side.facts.devices, devices);
        side.facts_changed |= renew(&mut side.facts.holders, facts::holders(&reply.holders));
        if side.is_news(turn) {
            match &reply.attempt {
                Some(report) if !report.confirmed => attempt(node, side, report, now),
                None if silent => {}
                told => {
                    forget_attempt(node);
                    keeps(node, told.as_ref());
                }
            }
        }
    }

    /// The agent answered a preflight.
    pub fn preflighted(&mut self, node: &str, asked: Asked, reply: &PreflightReply, now: Time) {
        let Some((node, side)) = self.node_mut(node) else { return };
        let blocked = (!reply.clear).then(|| {
            // A word that nobody knows blocks all the same: a newer agent has newer reasons.
            let reason = facts::reason(&reply.reason).unwrap_or(Reason::GateNotPassed);
            (reason, Text::copy(check::cut(&reply.message, 512)))
        });
        let verdict = Verdict { update_uid: asked.update_uid, revision: asked.revision, at: now, blocked };
        answer(node, side, (&reply.boot_id, &reply.release), |known| {
            known.digest = Text::copy(&reply.bundle_digest);
            known.models = facts::models(reply.devices.iter().filter_map(|verdict| verdict.device.as_ref()));
            known.verdict = Some(verdict);
        });
        side.facts.simulated = reply.simulated;
        side.facts.digest.clone_from(&reply.bundle_digest);
        side.facts.devices = facts::verdicts(&reply.devices, &side.facts.devices);
        share(&mut side.facts.gates, facts::gates(&reply.gates));
        side.preflight_gates = Rc::clone(&side.facts.gates);
    }

    /// The update that its last verdict is about is still there.
    fn is_wanted(&self, node: &str) -> bool {
        let verdict = self.node(node).and_then(|(node, _)| match &node.agent {
            Agent::Answered(known) => known.verdict.as_ref(),
            _ => None,
        });
        verdict.is_some_and(|verdict| self.update_by_uid(&verdict.update_uid).is_some())
    }

    /// The agent will not even look at the update: that is in its way.
    pub fn preflight_refused(&mut self, node: &str, asked: Asked, why: &str, now: Time) {
        let Some((node, _)) = self.node_mut(node) else { return };
        let blocked =
            Some((Reason::GateNotPassed, format!("its agent refuses: {}", check::plain(why, 400)).into()));
        let verdict = Verdict { update_uid: asked.update_uid, revision: asked.revision, at: now, blocked };
        if let Agent::Answered(known) = &mut node.agent {
            known.verdict = Some(verdict);
        } else {
            let facts = AgentFacts {
                boot_id: node.boot_id.clone(),
                release: node.release.clone(),
                verdict: Some(verdict),
                ..AgentFacts::default()
            };
            node.agent = Agent::Answered(facts);
        }
    }

    /// The agent told what became of the attempt; none: it never began there. It was asked at that turn.
    pub fn outcome(
        &mut self,
        node: &str,
        (attempt_id, turn): (&str, u64),
        reply: Option<&OutcomeReply>,
        now: Time,
    ) {
        let Some((node, side)) = self.node_mut(node) else { return };
        let Some(reply) = reply else {
            side.failures = 0;
            side.answered = true;
            // The call was understood: whatever else is known of the agent stays.
            match &mut node.agent {
                Agent::Answered(known) if side.is_news(turn) => known.attempt = None,
                Agent::Answered(_) => {}
                _ => {
                    side.inspect_due = Duration::ZERO;
                    if side.is_news(turn) {
                        side.never_began = Some(attempt_id.to_owned());
                    }
                }
            }
            return;
        };
        // Only an Inspect tells which bundle runs in another boot.
        answer(node, side, (&reply.boot_id, &reply.release), |_| {});
        if let Some(report) = &reply.attempt
            && side.turns == turn
        {
            attempt(node, side, report, now);
        }
    }

    /// An attempt goes on, as its run tells.
    pub fn run_state(&mut self, node: &str, attempt_id: &str, state: NodeState, at: i64) {
        let Some((node, side)) = self.node_mut(node) else { return };
        if state == NodeState::Unspecified {
            return;
        }
        side.facts.state = Some(state);
        if side.facts.states.last().map(|(last, _)| *last) != Some(state) && side.facts.states.len() < 32 {
            side.facts.states.push((state, at));
        }
        let permitted = side.permitted.as_deref() == Some(attempt_id);
        let state = if permitted { AttemptState::Permitted } else { AttemptState::Preparing };
        // A state that was on its way does not take back the request for the permission.
        if !matches!(known_state(node), Some(AttemptState::AsksPermission { .. })) || permitted {
            set_attempt(node, attempt_id, state);
        }
    }

    /// A run began: the attempt is known to be under way from here on.
    pub fn run_began(&mut self, node: &str, attempt_id: &str) {
        let Some((node, side)) = self.node_mut(node) else { return };
        side.facts.states.clear();
        side.facts.state = None;
        side.facts.blackout = None;
        let permitted = side.permitted.as_deref() == Some(attempt_id);
        let state = if permitted { AttemptState::Permitted } else { AttemptState::Preparing };
        set_attempt(node, attempt_id, state);
    }

    /// The node is ready to jump.
    pub fn run_asks(&mut self, node: &str, attempt_id: &str, receipt: &Receipt) {
        let Some((node, side)) = self.node_mut(node) else { return };
        if side.permitted.as_deref() == Some(attempt_id) {
            // It asks again, so that the first permission did not reach it or ran out.
            side.permitted = None;
        }
        let state =
            AttemptState::AsksPermission { receipt: receipt.id.clone(), boot_id: receipt.boot_id.clone() };
        set_attempt(node, attempt_id, state);
    }

    /// The permission was sent.
    pub fn permitted(&mut self, node: &str, attempt_id: &str) {
        let Some((node, side)) = self.node_mut(node) else { return };
        side.permitted = Some(attempt_id.to_owned());
        set_attempt(node, attempt_id, AttemptState::Permitted);
    }

    /// The node jumps.
    pub fn jumping(&mut self, node: &str, attempt_id: &str, now: Time) {
        let Some((node, side)) = self.node_mut(node) else { return };
        side.facts.state = Some(NodeState::Jumping);
        side.lease_base = None;
        node.lease_renewed = false;
        set_attempt(node, attempt_id, AttemptState::Jumping { since: now });
    }

    /// The attempt ended without a jump, or an agent told of one outside of its run.
    pub fn attempt_report(&mut self, node: &str, report: &AttemptReport, now: Time) {
        let Some((node, side)) = self.node_mut(node) else { return };
        attempt(node, side, report, now);
    }

    /// A run broke off without saying why. After the permission the likeliest cause is the jump itself.
    pub fn run_broke(&mut self, node: &str, attempt_id: &str, error: &AgentError, now: Time) {
        let Some((node_ref, side)) = self.node_mut(node) else { return };
        side.outcome_due = Duration::ZERO;
        if side.permitted.as_deref() == Some(attempt_id) {
            side.facts.state = Some(NodeState::Jumping);
            side.lease_base = None;
            node_ref.lease_renewed = false;
            set_attempt(node_ref, attempt_id, AttemptState::Jumping { since: now });
        } else if let AgentError::Misbehaves(why) = error {
            misbehaves(node_ref, why);
        } else if let AgentError::Unreachable(why) = error {
            self.unreachable(node, why, now);
        } else {
            // Refused: whatever it thinks of the attempt, it says so when it is asked.
            set_attempt(node_ref, attempt_id, AttemptState::Preparing);
        }
    }

    /// The agent forgot the attempt, as it was told to.
    pub fn confirmed(&mut self, node: &str, attempt_id: &str) {
        let Some((node, side)) = self.node_mut(node) else { return };
        if side.permitted.as_deref() == Some(attempt_id) {
            side.permitted = None;
        }
        if let Agent::Answered(known) = &mut node.agent
            && known.attempt.as_ref().is_some_and(|known| known.attempt == attempt_id)
        {
            known.attempt = None;
        }
    }

    /// The agent would not give up what it keeps of an attempt.
    pub fn release_refused(&mut self, node: &str, attempt_id: &str, why: &str) {
        let Some((node, _)) = self.node_mut(node) else { return };
        if let Agent::Answered(known) = &mut node.agent {
            known.refusal = Some((Text::copy(attempt_id), check::plain(why, 400).into()));
        }
    }

    /// A call failed.
    pub fn call_failed(&mut self, node: &str, error: &AgentError, now: Time) {
        match error {
            AgentError::Unreachable(why) => self.unreachable(node, why, now),
            AgentError::Misbehaves(why) => {
                if let Some((node, side)) = self.node_mut(node) {
                    side.failures += 1;
                    misbehaves(node, why);
                }
            }
            // It is there and answers in order; that it will not is for whoever asked.
            AgentError::NotFound(_) | AgentError::Refused(_) | AgentError::CannotStage(_) => {}
        }
    }

    fn unreachable(&mut self, node: &str, why: &str, now: Time) {
        let Some((node, side)) = self.node_mut(node) else { return };
        side.failures += 1;
        falls_silent(node, side, why, now);
    }
}

/// Nobody there says what the node does.
fn falls_silent(node: &mut Node, side: &NodeSide, why: &str, now: Time) {
    let never = !side.answered;
    // It may begin with the agent's address, which is whatever the node's annotation says.
    let why = Text::from(check::plain(why, UNHEARD));
    match &mut node.agent {
        // A node that jumps is silent by nature.
        Agent::Answered(AgentFacts {
            attempt: Some(AttemptFacts { state: AttemptState::Jumping { .. }, .. }),
            ..
        }) => {}
        Agent::Unreachable { never: before, why: known, .. } => {
            *before = never;
            *known = why;
        }
        Agent::Unasked | Agent::Misbehaves { .. } | Agent::Answered(_) => {
            node.agent = Agent::Unreachable { since: now, never, why };
        }
    }
}

/// Whether it is known how far the attempt is, or that it never began.
fn is_told(node: &Node, side: &NodeSide, attempt: &str) -> bool {
    matches!(node.agent, Agent::Answered(_)) || side.never_began.as_deref() == Some(attempt)
}

fn misbehaves(node: &mut Node, why: &str) {
    node.agent = Agent::Misbehaves { why: check::plain(why, UNHEARD).into() };
}

/// The agent answered: from here on it is known by this boot.
fn answer(
    node: &mut Node,
    side: &mut NodeSide,
    (boot_id, release): (&str, &str),
    fill: impl FnOnce(&mut AgentFacts),
) {
    side.failures = 0;
    side.answered = true;
    let mut known = match std::mem::replace(&mut node.agent, Agent::Unasked) {
        Agent::Answered(known) => known,
        Agent::Unasked | Agent::Unreachable { .. } | Agent::Misbehaves { .. } => AgentFacts::default(),
    };
    if known.boot_id != boot_id {
        // What was found out in another boot says nothing about this one.
        known.verdict = None;
        (known.kept, known.refusal) = (None, None);
        known.digest = Text::default();
        side.facts.digest.clear();
        known.boot_id = if node.boot_id == *boot_id { node.boot_id.clone() } else { Text::copy(boot_id) };
    }
    known.release = Text::copy(release);
    fill(&mut known);
    node.agent = Agent::Answered(known);
}

fn known_state(node: &Node) -> Option<&AttemptState> {
    match &node.agent {
        Agent::Answered(known) => known.attempt.as_ref().map(|attempt| &attempt.state),
        _ => None,
    }
}

fn forget_attempt(node: &mut Node) {
    if let Agent::Answered(known) = &mut node.agent {
        known.attempt = None;
    }
}

fn set_attempt(node: &mut Node, attempt: &str, state: AttemptState) {
    if let Agent::Answered(known) = &mut node.agent {
        known.attempt = Some(AttemptFacts { attempt: Text::copy(attempt), state });
    } else {
        // It answered on a stream; the rest is filled in by the next Inspect.
        let facts = AgentFacts {
            boot_id: node.boot_id.clone(),
            release: node.release.clone(),
            attempt: Some(AttemptFacts { attempt: Text::copy(attempt), state }),
            ..AgentFacts::default()
        };
        node.agent = Agent::Answered(facts);
    }
}

/// Takes what an agent says of files that it keeps; nothing of an attempt: it keeps none.
fn keeps(node: &mut Node, told: Option<&AttemptReport>) {
    let Agent::Answered(known) = &mut node.agent else { return };
    known.kept = told
        .filter(|report| facts::keeps(report))
        .map(|report| (Text::copy(&report.attempt), Text::copy(check::cut(&report.message, facts::WHY))));
    if known.kept.is_none() {
        known.refusal = None;
    }
}

/// Takes a report of an attempt; one that makes no sense is no report.
fn attempt(node: &mut Node, side: &mut NodeSide, report: &AttemptReport, now: Time) {
    // A permission counts as long as the run lives that it was sent on: it may have been lost with it, and
    // a node that is still before its jump is joined and asks again.
    if side.session.is_none() {
        side.permitted = None;
    }
    let permitted = side.permitted.as_deref() == Some(report.attempt.as_str());
    match facts::attempt_state(report, permitted, now) {
        Ok(state) => {
            // The first sight of a state counts, not the last: deadlines begin there.
            let state = match (known_attempt(node, &report.attempt), state) {
                (Some(AttemptState::Jumping { since }), AttemptState::Jumping { .. }) => {
                    AttemptState::Jumping { since: *since }
                }
                (
                    Some(AttemptState::Reclaiming { since, .. } | AttemptState::Returned { since, .. }),
                    AttemptState::Reclaiming { proof, .. },
                ) => AttemptState::Reclaiming { since: *since, proof },
                (
                    Some(AttemptState::Reclaiming { since, .. } | AttemptState::Returned { since, .. }),
                    AttemptState::Returned { proof, blackout, simulated, devices, .. },
                ) => AttemptState::Returned { since: *since, proof, blackout, simulated, devices },
                (_, state) => state,
            };
            let before_jump = matches!(
                state,
                AttemptState::Preparing | AttemptState::Permitted | AttemptState::AsksPermission { .. }
            );
            side.facts.state = Some(report.state());
            side.facts.states = report.states.iter().map(|s| (s.state(), s.unix_ms)).take(32).collect();
            facts::outcomes(report, &mut side.facts.devices);
            side.facts.blackout = report
                .blackout
                .as_ref()
                .filter(|blackout| blackout.measured)
                .map(|blackout| Duration::from_millis(blackout.milliseconds));
            // Only its run brings the receipt: a request for permission is not taken back by a report.
            let asks =
                matches!(known_attempt(node, &report.attempt), Some(AttemptState::AsksPermission { .. }));
            if !(asks && before_jump && side.session.is_some()) {
                set_attempt(node, &report.attempt, state);
            }
            keeps(node, Some(report));
        }
        Err(why) => misbehaves(node, &why),
    }
}

fn known_attempt<'a>(node: &'a Node, attempt: &str) -> Option<&'a AttemptState> {
    match &node.agent {
        Agent::Answered(known) => {
            known.attempt.as_ref().filter(|known| known.attempt == attempt).map(|known| &known.state)
        }
        _ => None,
    }
}

/// Takes what is told now, and whether that is something else than before.
fn renew<T: PartialEq>(kept: &mut T, told: T) -> bool {
    let changed = *kept != told;
    *kept = told;
    changed
}

/// Keeps the old list when nothing changed, so that equal ones stay shared.
fn share<T: PartialEq>(kept: &mut Rc<Vec<T>>, new: Vec<T>) -> bool {
    let changed = **kept != new;
    if changed {
        *kept = Rc::new(new);
    }
    changed
}
