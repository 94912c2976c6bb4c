//! What nobody needs any more: marks, attempts that agents still know, finalizers.
//!
//! A mark goes when its attempt is in no status and is no failure that still counts, even when its update
//! is gone. An attempt that an agent knows and no status has is undone where it can be, asked about where
//! it cannot, and confirmed at its end so that the agent forgets it.

use alloc::collections::BTreeSet;
use alloc::string::ToString;

use crate::fleet::{Fleet, known};
use crate::input::{AttemptFacts, Node};
use crate::output::Action;
use crate::ownership::Owners;
use crate::release;
use crate::run::{Flying, Run};
use crate::todo::Todo;

/// Removes marks and settles attempts that are in no status.
pub(crate) fn nodes(
    runs: &[Run<'_>],
    flying: &Flying<'_>,
    owners: &Owners,
    fleet: &Fleet<'_>,
    todo: &mut Todo,
) {
    for (index, node) in fleet.busy() {
        let stray = known(node).filter(|k| !flying.contains(&(index, k.attempt.as_str())));
        if let Some(known) = stray
            && !release::is_noted(runs, node, known)
        {
            settle(node, known, todo);
        }
        let Some(mark) = &node.mark else { continue };
        let busy = stray.is_some_and(|known| known.attempt == mark.attempt && !known.state.is_over());
        let needed = busy || owners.failed[index] || flying.contains(&(index, mark.attempt.as_str()));
        if !needed {
            todo.act(Action::Unmark { node: node.name.clone(), mark: mark.clone() });
        }
    }
}

fn settle(node: &Node, known: &AttemptFacts, todo: &mut Todo) {
    let (node, attempt) = (node.name.clone(), known.attempt.clone());
    todo.act(if known.state.is_over() {
        Action::Confirm { node, attempt }
    } else if known.state.is_before_jump() {
        Action::Abort { node, attempt, why: "no update has this attempt in flight".to_string() }
    } else {
        Action::AskOutcome { node, attempt }
    });
}

/// Finalizers are there only while something is in flight or marked.
pub(crate) fn finalizers(runs: &[Run<'_>], fleet: &Fleet<'_>, todo: &mut Todo) {
    let marked: BTreeSet<&str> = fleet
        .busy()
        .filter_map(|(_, node)| node.mark.as_ref())
        .map(|mark| mark.update_uid.as_str())
        .collect();
    for run in runs {
        let update = run.update;
        let observed = !update.record.in_flight.is_empty();
        let needed = observed || !run.record.in_flight.is_empty() || marked.contains(update.uid.as_str());
        if update.has_finalizer && !needed {
            todo.act(Action::RemoveFinalizer { update: update.name.clone() });
        } else if !update.has_finalizer && !update.deleting && observed {
            todo.act(Action::AddFinalizer { update: update.name.clone() });
        }
    }
}
