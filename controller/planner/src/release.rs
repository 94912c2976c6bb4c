//! Files in quarantine that an operator gives up: the verb `release`.
//!
//! ```text
//!  verb ─ its node is Quarantined? ─ no ──► refused: said in the status, looked at again
//!            └ yes ─► taken, with a note of the attempt (`node/attempt`) ─ note seen on record ─► Release
//!                 agent: given up ─► RecordEnd, in its words ─ seen ─► note goes ─► Confirm
//! ```
//! What is given up is gone for good. So it is bound to the attempt that the operator saw, and not to the node:
//! a verb that still stands there does not give up what another attempt leaves later. And nothing is given up
//! before the note is on record, so that nobody has to guess afterwards by whose word it was.

use alloc::format;
use alloc::string::String;

use crate::fleet::{Fleet, known};
use crate::input::{Agent, AttemptFacts, AttemptState, Node, NodeEnd, NodeRecord, Text, Verb, VerbKind};
use crate::output::{Action, Reason};
use crate::run::{Flying, Run};
use crate::todo::Todo;
use crate::{forgiven, selection};

/// What is said where the agent has no words of its own.
const GIVEN_UP: &str = "an operator gave up the files that were kept";

/// Takes the verb for a node.
///
/// # Errors
/// Why there is nothing to give up: a sentence for the status.
pub(crate) fn take(run: &mut Run<'_>, name: &str, fleet: &Fleet<'_>) -> Result<(), String> {
    let refused = |why: &str| Err(format!("verb release: node \"{name}\" {why}"));
    let Some(node) = fleet.index_of(name).map(|index| fleet.at(index)) else {
        return refused("does not exist: `kubectl get nodeliveupdates` says which are Quarantined");
    };
    let own = run.own_record(node);
    let wanted = run.spec.is_some_and(|spec| selection::selects(run.update, spec, node));
    if own.is_none() && !wanted {
        return refused("is no part of this update: give the verb to the one that it is a part of");
    }
    if forgiven::is_forgiven(run, node) {
        return refused("is being tried again, and what its record said is forgotten");
    }
    // The record speaks of this update's attempt; what the agent keeps may be of one before.
    let attempt = match (own.filter(|record| is_quarantined(record)), kept(node)) {
        (Some(record), _) => record.attempt.clone(),
        (None, Some(attempt)) => attempt.clone(),
        (None, None) => {
            let says = match own.and_then(|record| record.end) {
                None => "of no end yet",
                Some(NodeEnd::Updated { .. }) => "Updated",
                Some(NodeEnd::Aborted { .. }) => "Aborted",
                Some(NodeEnd::Failed { reason }) => reason.as_str(),
            };
            return refused(&format!(
                "is not Quarantined, its record says {says}: there is nothing to give up"
            ));
        }
    };
    let note = note(run, name, &attempt);
    run.record.verbs.insert(note);
    Ok(())
}

fn is_quarantined(record: &NodeRecord) -> bool {
    matches!(record.end, Some(NodeEnd::Failed { reason: Reason::Quarantined }))
}

/// The attempt of which the node's agent says that files are kept.
fn kept(node: &Node) -> Option<&Text> {
    match &node.agent {
        Agent::Answered(facts) => facts.kept.as_ref().map(|(attempt, _)| attempt),
        _ => None,
    }
}

/// The agent would not give them up; why.
fn refusal<'n>(node: &'n Node, attempt: &str) -> Option<&'n str> {
    match &node.agent {
        Agent::Answered(facts) => {
            facts.refusal.as_ref().filter(|(of, _)| *of == *attempt).map(|(_, why)| why.as_str())
        }
        _ => None,
    }
}

/// The note that what is kept of an attempt is to be given up.
fn note(run: &Run<'_>, node: &str, attempt: &str) -> Verb {
    run.note(VerbKind::Release, node, attempt)
}

/// Node and attempt of a note; none for other verbs.
fn parts(verb: &Verb) -> Option<(&str, &str)> {
    if verb.kind == VerbKind::Release { verb.argument.split_once('/') } else { None }
}

/// The attempt whose files are to be given up, and the position of its node.
fn of_note<'v>(verb: &'v Verb, fleet: &Fleet<'_>) -> Option<(usize, &'v str)> {
    let (name, attempt) = parts(verb)?;
    Some((fleet.index_of(name)?, attempt))
}

/// Whether a note is still needed: files may be kept, or the record still says so.
pub(crate) fn is_needed(run: &Run<'_>, verb: &Verb, fleet: &Fleet<'_>) -> bool {
    let Some((index, attempt)) = of_note(verb, fleet) else { return false };
    let node = fleet.at(index);
    if given_up(node, attempt).is_some() {
        return unsaid(run, node, attempt).is_some();
    }
    // Another attempt began: the keeper let go of this one before.
    let replaced = known(node).is_some_and(|known| known.attempt != *attempt);
    let of_it = run.own_record(node).is_some_and(|record| record.attempt == *attempt)
        || kept(node).is_some_and(|kept| *kept == *attempt);
    !replaced && (of_it || refusal(node, attempt).is_none())
}

/// The agent says that it keeps nothing of the attempt any more; in which words.
fn given_up<'n>(node: &'n Node, attempt: &str) -> Option<&'n str> {
    match known(node)? {
        AttemptFacts { attempt: of, state: AttemptState::Failed { why, .. } }
            if *of == *attempt && kept(node).is_none_or(|kept| *kept != *attempt) =>
        {
            Some(if why.is_empty() { GIVEN_UP } else { why.as_str() })
        }
        _ => None,
    }
}

/// What the node's record shall say of the attempt's end from now on, if it does not yet.
fn unsaid<'n>(run: &Run<'_>, node: &'n Node, attempt: &str) -> Option<&'n str> {
    let words = given_up(node, attempt)?;
    let record =
        run.own_record(node).filter(|record| is_quarantined(record) && record.attempt == *attempt)?;
    (record.last_failure != *words).then_some(words)
}

/// Has agents give up what is to be given up, and what they say of it recorded. Of what flies an agent may say that it is
/// Quarantined before its end is on record.
pub(crate) fn advance(run: &mut Run<'_>, flying: &Flying<'_>, fleet: &Fleet<'_>, todo: &mut Todo) {
    let mut remarks = core::mem::take(&mut run.remarks);
    for verb in &run.record.verbs {
        let Some((index, attempt)) = of_note(verb, fleet) else { continue };
        let node = fleet.at(index);
        if given_up(node, attempt).is_some() {
            if unsaid(run, node, attempt).is_some() {
                todo.act(Action::RecordEnd { node: node.name.clone(), attempt: Text::copy(attempt) });
            }
            continue;
        }
        let ended = !flying.contains(&(index, attempt));
        let waits = match &node.agent {
            Agent::Answered(_) if !ended => "its end is not on record yet",
            Agent::Answered(_) => refusal(node, attempt).unwrap_or("its agent is being told"),
            Agent::Unasked => "its agent was not asked yet",
            Agent::Unreachable { why, .. } | Agent::Misbehaves { why } => why.as_str(),
        };
        let name = &node.name;
        remarks.push(format!(
            "verb release: files of {attempt} on node \"{name}\" are not given up yet: {waits}"
        ));
        if ended && matches!(node.agent, Agent::Answered(_)) && run.update.record.verbs.contains(verb) {
            todo.act(Action::Release {
                node: node.name.clone(),
                update: run.update.name.clone(),
                attempt: Text::copy(attempt),
            });
        }
    }
    run.remarks = remarks;
}

/// What the report of a failed node says instead, once its files were given up and its record does not say so yet.
pub(crate) fn news(run: &Run<'_>, node: &Node) -> Option<Text> {
    // Asked of every node, and hardly one is: whose its record is comes after.
    node.record.as_ref().filter(|record| is_quarantined(record))?;
    let attempt = &run.own_record(node)?.attempt;
    let words = unsaid(run, node, attempt)?;
    run.record.verbs.contains(&note(run, &node.name, attempt)).then(|| Text::copy(words))
}

/// Whether files of the node are still to be given up: whoever forgets its record would forget the verb with it.
pub(crate) fn is_pending(run: &Run<'_>, node: &str) -> bool {
    run.record.verbs.iter().any(|verb| parts(verb).is_some_and(|(name, _)| name == node))
}

/// Whether the note of an attempt that an agent knows has still to go: until then the agent must not forget what it
/// said of it.
pub(crate) fn is_noted(runs: &[Run<'_>], node: &Node, of: &AttemptFacts) -> bool {
    given_up(node, &of.attempt).is_some()
        && runs.iter().any(|run| {
            let note = note(run, &node.name, &of.attempt);
            run.record.verbs.contains(&note) || run.update.record.verbs.contains(&note)
        })
}
