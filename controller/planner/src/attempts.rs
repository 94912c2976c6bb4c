//! The way of one attempt from its admission to its end, derived anew from what is observed in every pass.
//!
//! ```text
//!  admitted ─► Mark, Claim ─seen─► agent knows it?
//!                 no ──► Run, if the count still fits (admission.rs); stopped, hindered or surplus: leaves
//!                 Preparing ──► Run (joins)          ┐ hard stop, bad target or
//!                 AsksPermission ──► Permit          ├ preparation too long: Abort
//!                 Permitted ──► wait                 ┘
//!                 Jumping ──► AskOutcome; overdue: Failed DidNotReturn
//!                 Reclaiming, Returned ──► proof ─ bad: Failed WrongKernel
//!                                            └ good ─► verify ─ overdue: Failed VerifyFailed
//!                                                        └ RecordEnd: Updated, or Failed BlackoutOverBudget
//!                 Aborted, Failed ──► RecordEnd
//!                 silent ──► AskOutcome; overdue: Failed DidNotReturn
//! ```
//! What happens after the end is on record is in endings.rs.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::time::Duration;

use crate::amount::count;
use crate::eligibility::{is_hindered, is_on_target, unforgiven};
use crate::endings::UNDONE;
use crate::fleet::Fleet;
use crate::input::{Agent, AgentFacts, AttemptState, Mark, Node, NodeEnd, Policy, Proof, Spec, Text};
use crate::output::{Action, NodeClass, Reason};
use crate::proof::{self, Missing};
use crate::run::{End, Entry, Run, Standing, Stop};
use crate::stop;
use crate::todo::Todo;

/// A permission's length: far more than the commit takes, and within the lease.
pub(crate) const PERMISSION: Duration = Duration::from_secs(30);

/// A kubelet renews its node's Lease every ten seconds; so long every return takes.
const HEARTBEAT: Duration = Duration::from_secs(12);

/// What an attempt is measured by.
struct Terms<'a> {
    update: &'a Text,
    update_uid: &'a Text,
    /// The spec, for an attempt of its revision.
    spec: Option<&'a Spec>,
    prepare: Duration,
    back: Duration,
    verify: Duration,
    blackout_budget: Option<Duration>,
    stop: Option<Stop>,
    /// Why it is undone, if it still can be.
    undo: Option<Reason>,
}

impl<'a> Terms<'a> {
    fn new(run: &Run<'a>, entry: &Entry<'a>) -> Self {
        let hard = run.stop.filter(|stop| stop.hard).map(|stop| stop.reason);
        let bad = |spec: &&Spec| entry.current && run.record.bad_targets.contains(spec.digest.as_str());
        let undo = hard.or_else(|| run.spec.filter(bad).map(|_| Reason::BadTarget));
        Self {
            update: &run.update.name,
            update_uid: &run.update.uid,
            spec: run.spec.filter(|_| entry.current),
            // The schema's defaults, for a spec that cannot be read any more.
            prepare: run.spec.map_or(Duration::from_mins(17), |spec| spec.prepare_deadline),
            back: run.spec.map_or(Duration::from_mins(5), |spec| spec.return_deadline),
            verify: run.spec.map_or(Duration::from_mins(10), |spec| spec.verify_deadline),
            blackout_budget: run.spec.and_then(|spec| spec.blackout_budget),
            stop: run.stop,
            undo,
        }
    }
}

/// Finds out what stops the run, and takes every attempt of it a step further. What has failed by now stops the others in
/// this very pass: until its end is on record many could start.
pub(crate) fn advance<'a>(run: &mut Run<'a>, policy: &Policy, fleet: &Fleet<'a>, todo: &mut Todo) {
    run.stop = stop::of(run, policy);
    let mut first = Todo::new(todo.now);
    every(run, fleet, &mut first);
    let failed =
        |entry: &&Entry<'_>| entry.current && !entry.recorded && entry.standing.class == NodeClass::Failed;
    let found = run.entries.iter().filter(failed).count();
    if found == 0 {
        return todo.join(first);
    }
    let wrong = |entry: &Entry<'_>| entry.standing.reason == Reason::WrongKernel;
    if let Some(spec) = run.spec
        && run.entries.iter().filter(failed).any(wrong)
    {
        run.record.bad_targets.insert(spec.digest.as_str().into());
    }
    run.found_failures = count(found);
    run.stop = stop::of(run, policy);
    every(run, fleet, todo);
}

fn every<'a>(run: &mut Run<'a>, fleet: &Fleet<'a>, todo: &mut Todo) {
    let mut entries = core::mem::take(&mut run.entries);
    for entry in entries.iter_mut().filter(|entry| !entry.recorded) {
        let node = fleet.at(entry.node);
        let terms = Terms::new(run, entry);
        (entry.may_start, entry.drop) = (false, false);
        entry.standing =
            Standing::new(NodeClass::InFlight, Reason::InProgress, Text::fixed("the attempt is under way"));
        if entry.current {
            entry.standing.remember(unforgiven(run, node));
        }
        step(entry, node, &terms, todo);
    }
    run.entries = entries;
}

fn step<'a>(entry: &mut Entry<'a>, node: &'a Node, terms: &Terms<'a>, todo: &mut Todo) {
    match &node.agent {
        Agent::Answered(facts) => match &facts.attempt {
            Some(known) if known.attempt == entry.flight.attempt => {
                if known.state.is_before_jump() {
                    place(entry, node, terms, todo);
                }
                known_attempt(entry, node, &known.state, terms, todo);
            }
            _ => unknown_attempt(entry, node, facts, terms, todo),
        },
        Agent::Unasked => {
            ask(entry, node, todo);
            say(entry, Reason::InProgress, "its agent is being asked");
        }
        Agent::Unreachable { since, why, .. } => {
            let silent = (*since).max(entry.flight.since);
            overdue_or_ask(entry, node, silent.after(terms.back), Reason::DidNotReturn, todo);
            say(entry, Reason::InProgress, why);
        }
        Agent::Misbehaves { why } => {
            let last = entry.flight.since.after(terms.prepare).after(terms.back);
            overdue_or_ask(entry, node, last, Reason::AgentMisbehaves, todo);
            say(entry, Reason::AgentMisbehaves, why);
        }
    }
}

/// Puts mark and claim where they are missing; true when both are seen.
fn place(entry: &Entry<'_>, node: &Node, terms: &Terms<'_>, todo: &mut Todo) -> bool {
    let mark = Mark { update_uid: terms.update_uid.clone(), attempt: entry.flight.attempt.clone() };
    let marked = match &node.mark {
        Some(found) if *found == mark => true,
        // Another attempt's is removed first (cleanup.rs).
        Some(_) => false,
        None => {
            todo.act(Action::Mark { node: node.name.clone(), update: terms.update.clone(), mark });
            false
        }
    };
    let claimed = node.record.as_ref().is_some_and(|r| r.claimed_attempt == entry.flight.attempt);
    if !claimed {
        todo.act(Action::Claim {
            node: node.name.clone(),
            update: terms.update.clone(),
            attempt: entry.flight.attempt.clone(),
        });
    }
    marked && claimed
}

/// The agent answers and does not know the attempt: it never began.
fn unknown_attempt(
    entry: &mut Entry<'_>,
    node: &Node,
    facts: &AgentFacts,
    terms: &Terms<'_>,
    todo: &mut Todo,
) {
    let Some(spec) = terms.spec else {
        // Its target is not known any more.
        entry.drop = true;
        return;
    };
    if is_on_target(spec, node, facts) {
        // It may have jumped and lost its journal; nobody knows what became of the devices.
        let message = "the node runs the target, but its agent knows nothing of the attempt";
        return end(entry, node, failed(Reason::VerifyFailed), message, todo);
    }
    let hindered = is_hindered(terms.update_uid, spec, node, facts);
    if hindered || terms.stop.is_some() || terms.undo.is_some() {
        entry.drop = true;
        return;
    }
    if todo.due(entry.flight.since.after(terms.prepare)) {
        entry.standing.aborts += 1;
        let message = "the agent did not take the attempt in time";
        return end(entry, node, NodeEnd::Aborted { reason: Reason::AttemptAborted }, message, todo);
    }
    entry.may_start = place(entry, node, terms, todo);
    say(entry, Reason::InProgress, "the node is being marked");
}

fn known_attempt<'a>(
    entry: &mut Entry<'a>,
    node: &'a Node,
    state: &'a AttemptState,
    terms: &Terms<'a>,
    todo: &mut Todo,
) {
    match state {
        AttemptState::Preparing | AttemptState::AsksPermission { .. } | AttemptState::Permitted => {
            before_jump(entry, node, state, terms, todo);
        }
        AttemptState::Jumping { since } => {
            overdue_or_ask(entry, node, since.after(terms.back), Reason::DidNotReturn, todo);
            say(entry, Reason::Jumping, "it jumped and is expected back");
        }
        AttemptState::Reclaiming { since, proof } => {
            if proven(entry, node, proof, terms, todo) {
                overdue_or_ask(entry, node, since.after(terms.verify), Reason::VerifyFailed, todo);
                say(entry, Reason::Verifying, "back; holders take their files");
            }
        }
        AttemptState::Returned { since, proof, blackout, simulated, devices } => {
            if !proven(entry, node, proof, terms, todo) {
                return;
            }
            if let Some(missing) = proof::missing(proof, node) {
                return verify(entry, node, missing, (*since, terms.verify), todo);
            }
            let over = matches!((blackout, terms.blackout_budget), (Some(b), Some(budget)) if *b > budget);
            if over {
                let message = "it runs the target, but its blackout was longer than the budget";
                return end(entry, node, failed(Reason::BlackoutOverBudget), message, todo);
            }
            let updated = NodeEnd::Updated {
                verified_at: todo.now,
                blackout: *blackout,
                simulated: *simulated,
                devices: *devices,
            };
            end(entry, node, updated, "runs the target and was verified", todo);
        }
        AttemptState::Aborted { reason, why } => {
            // What we undid ourselves does not count against the node.
            if let Some(reason) = terms.undo {
                return end(entry, node, NodeEnd::Aborted { reason }, reason.meaning(), todo);
            }
            entry.standing.aborts += 1;
            end(entry, node, NodeEnd::Aborted { reason: *reason }, because(UNDONE, why), todo);
        }
        AttemptState::Failed { reason, why } => {
            end(entry, node, failed(*reason), because(reason.meaning(), why), todo);
        }
    }
}

fn before_jump(entry: &mut Entry<'_>, node: &Node, state: &AttemptState, terms: &Terms<'_>, todo: &mut Todo) {
    let prepared = entry.flight.since.after(terms.prepare);
    let late = todo.due(prepared);
    if late && todo.due(prepared.after(terms.back)) {
        let message = "the agent did not undo the attempt when it was told to";
        return end(entry, node, failed(Reason::AgentMisbehaves), message, todo);
    }
    if late || terms.undo.is_some() {
        let why = terms.undo.map_or("the preparation took too long", Reason::meaning);
        todo.act(Action::Abort {
            node: node.name.clone(),
            attempt: entry.flight.attempt.clone(),
            why: why.to_string(),
        });
        return say(entry, Reason::InProgress, "the attempt is being undone");
    }
    match state {
        AttemptState::AsksPermission { receipt, boot_id } => {
            let marked = node.mark.as_ref().is_some_and(|mark| mark.attempt == entry.flight.attempt);
            if marked && node.boot_id == *boot_id {
                todo.act(Action::Permit {
                    node: node.name.clone(),
                    attempt: entry.flight.attempt.clone(),
                    receipt: receipt.clone(),
                    boot_id: boot_id.clone(),
                    duration: PERMISSION,
                });
                say(entry, Reason::InProgress, "it is permitted to jump");
            } else {
                say(entry, Reason::InProgress, "its receipt is for another boot than the kubelet's");
            }
        }
        AttemptState::Permitted => say(entry, Reason::InProgress, "it may jump"),
        _ => {
            if terms.spec.is_some() {
                todo.act(run_action(entry, node, terms.update));
            } else {
                ask(entry, node, todo);
            }
            say(entry, Reason::InProgress, "it prepares while its guests run");
        }
    }
}

/// Run the attempt, or join it.
pub(crate) fn run_action(entry: &Entry<'_>, node: &Node, update: &Text) -> Action {
    Action::Run { node: node.name.clone(), update: update.clone(), attempt: entry.flight.attempt.clone() }
}

/// False, and the end, when the proof is none.
fn proven(entry: &mut Entry<'_>, node: &Node, proof: &Proof, terms: &Terms<'_>, todo: &mut Todo) -> bool {
    match proof::jump(proof, terms.spec.map(|spec| spec.release.as_str())) {
        Ok(()) => true,
        Err(reason) => {
            let message = alloc::format!("came back as release {} and is not the target", proof.release);
            end(entry, node, failed(reason), message, todo);
            false
        }
    }
}

fn verify(
    entry: &mut Entry<'_>,
    node: &Node,
    missing: Missing,
    (since, limit): (crate::Time, Duration),
    todo: &mut Todo,
) {
    if todo.due(since.after(limit)) {
        return end(entry, node, failed(Reason::VerifyFailed), missing.message(), todo);
    }
    if missing == Missing::Lease {
        todo.act(Action::ReadLease { node: node.name.clone() });
    }
    // What every return takes is no news.
    let expected = !todo.due(since.after(HEARTBEAT));
    let reason = if expected { Reason::InProgress } else { Reason::Verifying };
    say(entry, reason, missing.message());
}

fn failed(reason: Reason) -> NodeEnd {
    NodeEnd::Failed { reason }
}

/// Asks what became of it, until it is too late.
fn overdue_or_ask(entry: &mut Entry<'_>, node: &Node, until: crate::Time, reason: Reason, todo: &mut Todo) {
    if todo.due(until) {
        end(entry, node, failed(reason), reason.meaning(), todo);
    } else {
        ask(entry, node, todo);
    }
}

fn ask(entry: &Entry<'_>, node: &Node, todo: &mut Todo) {
    todo.act(Action::AskOutcome { node: node.name.clone(), attempt: entry.flight.attempt.clone() });
}

/// What happened, with the node's own words where it has any.
fn because(what: &'static str, why: &str) -> Text {
    match why {
        "" => Text::fixed(what),
        why => alloc::format!("{}: {why}", what.trim_end_matches('.')).into(),
    }
}

/// Reason and message, unless the attempt has come to its end in this pass.
fn say(entry: &mut Entry<'_>, reason: Reason, message: impl Into<Text>) {
    if entry.standing.end.is_none() {
        entry.standing.reason = reason;
        entry.standing.message = message.into();
    }
}

/// The end, to be written into the node's record; the attempt leaves once it is seen there.
fn end(entry: &mut Entry<'_>, node: &Node, end: NodeEnd, message: impl Into<Text>, todo: &mut Todo) {
    let (class, reason) = match &end {
        NodeEnd::Updated { .. } => (NodeClass::Updated, Reason::Updated),
        NodeEnd::Aborted { reason } => (NodeClass::Waiting, *reason),
        NodeEnd::Failed { reason } => (NodeClass::Failed, *reason),
    };
    entry.standing.class = class;
    entry.standing.reason = reason;
    entry.standing.message = message.into();
    entry.standing.last_failure =
        if class == NodeClass::Updated { Text::default() } else { entry.standing.message.clone() };
    entry.standing.end = Some(End::Found(Box::new(end)));
    todo.act(Action::RecordEnd { node: node.name.clone(), attempt: entry.flight.attempt.clone() });
}
