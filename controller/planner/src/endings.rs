//! How attempts leave the status, and what that counts.
//!
//! ```text
//! end on record ─ Updated, Aborted ─ mark seen gone ──► leaves
//!               └ Failed ─────────────────────────────► leaves, failures + 1 in the same write; mark stays
//! node gone ──────────────────────────────────────────► leaves, failures + 1
//! ```
//! An attempt leaves in the very write that counts it, so that no kill between two writes counts it twice
//! or not at all. A node that is gone counts as failed: nobody can say that it had not jumped.

use alloc::vec::Vec;

use crate::attempt_id;
use crate::fleet::Fleet;
use crate::input::{InFlight, Node, NodeEnd, NodeRecord, Text};
use crate::output::{Action, Reason};
use crate::run::{End, Entry, Run, Standing};
use crate::todo::Todo;
use crate::{NodeClass, forgiven, verbs};

/// What is said of an attempt that its node has undone; the node's own words may follow.
pub(crate) const UNDONE: &str = "undone before the jump";

/// Sorts the run's attempts into those that leave and those that stay.
pub(crate) fn collect<'a>(run: &mut Run<'a>, fleet: &Fleet<'a>, todo: &mut Todo) {
    let mut entries = Vec::new();
    for number in 0..run.flights.len() {
        let (flight, named) = run.flights[number];
        let current = attempt_id::is_of(&flight.attempt, &run.record.revision);
        let Some(index) = named.filter(|&index| fleet.is_same(index, &flight.uid)) else {
            count_failure(run, current, Reason::NodeGone);
            continue;
        };
        let node = fleet.at(index);
        let end = recorded_end(run, node, flight);
        match end {
            Some(NodeEnd::Failed { reason }) => count_failure(run, current, *reason),
            Some(_) if !is_marked(node, flight) => {}
            _ => {
                if let (Some(_), Some(mark)) = (end, &node.mark) {
                    todo.act(Action::Unmark { node: node.name.clone(), mark: mark.clone() });
                }
                entries.push(entry(flight, index, current, end.and(node.record.as_ref())));
            }
        }
    }
    run.entries = entries;
}

fn entry<'a>(
    flight: &'a InFlight,
    node: usize,
    current: bool,
    recorded: Option<&'a NodeRecord>,
) -> Entry<'a> {
    let standing = match recorded {
        Some(record) => of_record(record).unwrap_or_else(in_progress),
        None => in_progress(),
    };
    let recorded = recorded.is_some();
    Entry { flight, node, current, recorded, standing, may_start: false, drop: false }
}

fn in_progress<'a>() -> Standing<'a> {
    Standing::new(NodeClass::InFlight, Reason::InProgress, Text::fixed("the attempt is under way"))
}

/// The end of this very attempt, if it stands in the node's record.
fn recorded_end<'n>(run: &Run<'_>, node: &'n Node, flight: &InFlight) -> Option<&'n NodeEnd> {
    let record = node.record.as_ref()?;
    let same = record.attempt == flight.attempt && record.update_uid == run.update.uid;
    record.end.as_ref().filter(|_| same)
}

fn is_marked(node: &Node, flight: &InFlight) -> bool {
    node.mark.as_ref().is_some_and(|mark| mark.attempt == flight.attempt)
}

/// Attempts of an older revision do not count into this one.
fn count_failure(run: &mut Run<'_>, current: bool, reason: Reason) {
    if !current {
        return;
    }
    // What was accepted beyond the failures so far (blocked nodes) must not swallow this one.
    run.record.accepted_failures = run.record.accepted_failures.min(run.record.failures);
    run.record.failures = run.record.failures.saturating_add(1);
    if reason == Reason::WrongKernel
        && let Some(spec) = run.spec
    {
        run.record.bad_targets.insert(spec.digest.as_str().into());
    }
}

/// How a node stands by what its record says of an end.
pub(crate) fn of_record(record: &NodeRecord) -> Option<Standing<'_>> {
    let end = record.end.as_ref()?;
    let mut standing = match end {
        NodeEnd::Updated { .. } if !attempt_id::is_of(&record.attempt, &record.revision) => {
            Standing::new(NodeClass::Updated, Reason::AlreadyOnTarget, Text::fixed("already ran the target"))
        }
        NodeEnd::Updated { .. } => Standing::new(
            NodeClass::Updated,
            Reason::Updated,
            Text::fixed("runs the target and was verified"),
        ),
        NodeEnd::Failed { reason } => Standing::new(NodeClass::Failed, *reason, told(*reason, record)),
        NodeEnd::Aborted { reason } => Standing::new(NodeClass::Waiting, *reason, told(*reason, record)),
    };
    standing.end = Some(End::Recorded(end));
    standing.aborts = record.aborts;
    standing.last_failure = record.last_failure.clone();
    Some(standing)
}

/// What was said of a bad end when it was written.
fn told(reason: Reason, record: &NodeRecord) -> Text {
    if record.last_failure.is_empty() { Text::fixed(reason.meaning()) } else { record.last_failure.clone() }
}

/// Whether the node carries our mark for a failure that still counts: it stays tainted until it is Ready
/// and somebody accepted the failure (or retried it, skipped the node, edited the target, or deleted or
/// aborted the update).
pub(crate) fn is_counted_failure(run: &Run<'_>, node: &Node) -> bool {
    let (Some(mark), Some(record)) = (&node.mark, &node.record) else { return false };
    let failed = mark.update_uid == run.update.uid
        && record.update_uid == run.update.uid
        && record.revision == run.record.revision
        && record.attempt == mark.attempt
        && matches!(record.end, Some(NodeEnd::Failed { .. }));
    let let_go = run.update.deleting
        || forgiven::is_forgiven(run, node)
        || run.is_skipped(node)
        || (node.ready && (run.all_accepted() || verbs::is_aborted(run)));
    failed && !let_go
}
