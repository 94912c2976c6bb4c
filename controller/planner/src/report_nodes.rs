//! What every node's status shall say (invariant 10: a node that waits says on what).
//!
//! Reasons are chosen so that a status is written when something changes *for the node*. What holds the
//! whole run (a bake, an approval, a pause, a hold, a spent budget) is said once, on the update; its nodes
//! say [`Reason::WaitingForTurn`] meanwhile, which is true and needs no write for each of thousands of
//! nodes, least of all in an emergency stop. Their message names the cause where it is written anyway.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use crate::attempt_id;
use crate::endings;
use crate::fleet::Fleet;
use crate::input::{Agent, Node, NodeRecord, Text};
use crate::output::{NodeClass, NodeReport, NodeReports, Reason};
use crate::ownership::Owners;
use crate::release;
use crate::run::{End, Run, Standing};

/// Where a node's report comes from.
#[derive(Clone, Copy)]
enum Source {
    Nobody,
    /// Its record says all that there is to say.
    Said,
    /// An attempt in flight: positions of the run and of the attempt in it.
    Entry(usize, usize),
    /// A node that waits or has its end: positions of the run and of the member in it.
    Member(usize, usize),
}

/// Which nodes are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// Every one that an update has, that has an end on record, or whose agent answers.
    All,
    /// Of those, the ones whose records do not say the same yet: enough for whoever only writes records.
    News,
}

/// The reports of nodes. It is the pass's last word: messages are taken out of the runs.
pub(crate) fn of(
    runs: &mut [Run<'_>],
    owners: &Owners,
    fleet: &Fleet<'_>,
    reported: Reported,
) -> NodeReports {
    let mut sources = vec![Source::Nobody; fleet.len()];
    for (position, run) in runs.iter().enumerate() {
        for (index, entry) in run.entries.iter().enumerate() {
            sources[entry.node] = Source::Entry(position, index);
        }
        for (index, member) in run.members.iter().enumerate() {
            if owners.of[member.node] == Some(position) && member.standing.class != NodeClass::InFlight {
                sources[member.node] =
                    if member.said { Source::Said } else { Source::Member(position, index) };
            }
        }
    }
    let turns: Vec<Text> = runs.iter().map(turn_message).collect();
    let mut reports = NodeReports::new(fleet.len(), if reported == Reported::All { fleet.len() } else { 0 });
    for (index, node) in fleet.iter() {
        let report = match sources[index] {
            Source::Entry(run, entry) => {
                let message = core::mem::take(&mut runs[run].entries[entry].standing.message);
                let run = &runs[run];
                let entry = &run.entries[entry];
                let attempt = &entry.flight.attempt;
                let revision = match attempt_id::revision_of(attempt) {
                    revision if run.record.revision == *revision => run.record.revision.clone(),
                    older => Text::copy(older),
                };
                let report = of_standing(run, node, &entry.standing, message);
                Some(NodeReport { revision, attempt: Some(attempt.clone()), ..report })
            }
            Source::Said => None,
            Source::Member(run, member) => {
                let mut message = core::mem::take(&mut runs[run].members[member].standing.message);
                if message.is_empty() {
                    message.clone_from(&turns[run]);
                }
                let report = of_standing(&runs[run], node, &runs[run].members[member].standing, message);
                Some(given_up(&runs[run], node, report))
            }
            Source::Nobody => unowned(runs, owners.of[index], node),
        };
        if let Some(report) = report {
            reports.push(fleet.position(index), node.name.clone(), report);
        }
    }
    reports
}

/// The node's record says all of that.
pub(crate) fn is_on_record(run: &Run<'_>, node: &Node, standing: &Standing<'_>) -> bool {
    let Some(record) = &node.record else { return false };
    if release::news(run, node).is_some() {
        return false;
    }
    if let Some(End::Recorded(_)) = standing.end {
        // All of the standing was read from there, but for what may be missing.
        return record.skipped.is_none()
            && (standing.reason != Reason::AlreadyOnTarget || record.attempt.is_empty());
    }
    let skipped = (standing.class == NodeClass::Skipped).then_some(standing.reason);
    record.update_uid == run.update.uid
        && record.revision == run.record.revision
        && record.aborts == standing.aborts
        && record.last_failure == standing.last_failure
        && record.end.as_ref() == standing.end.as_deref()
        && record.skipped == skipped
        && (standing.reason != Reason::AlreadyOnTarget || record.attempt.is_empty())
}

fn of_standing(run: &Run<'_>, node: &Node, standing: &Standing<'_>, message: Text) -> NodeReport {
    NodeReport {
        update: Some(run.update.name.clone()),
        class: standing.class,
        reason: standing.reason,
        message,
        revision: run.record.revision.clone(),
        attempt: last_attempt(node).filter(|_| standing.reason != Reason::AlreadyOnTarget),
        aborts: standing.aborts,
        last_failure: standing.last_failure.clone(),
        end: standing.end.as_deref().copied(),
    }
}

/// A failed node whose files were given up says that from then on.
fn given_up(run: &Run<'_>, node: &Node, report: NodeReport) -> NodeReport {
    match release::news(run, node) {
        Some(words) => NodeReport { message: words.clone(), last_failure: words, ..report },
        None => report,
    }
}

/// A node that no update wants keeps the end that it had; otherwise it is idle, if its agent answers. One
/// whose attempt leaves an update in this very pass is free for others in the next.
fn unowned(runs: &[Run<'_>], owner: Option<usize>, node: &Node) -> Option<NodeReport> {
    let record = node.record.as_ref();
    if let Some(record) = record
        && let Some(standing) = past(runs, record)
    {
        let run = update_of(runs, record);
        let report = NodeReport {
            update: run.map(|run| run.update.name.clone()),
            class: standing.class,
            reason: standing.reason,
            message: standing.message,
            revision: record.revision.clone(),
            attempt: last_attempt(node),
            aborts: record.aborts,
            last_failure: record.last_failure.clone(),
            end: record.end,
        };
        return Some(match run {
            Some(run) => given_up(run, node, report),
            None => report,
        });
    }
    if let Some(owner) = owner {
        let message = Text::fixed("its last attempt is being closed");
        let standing = Standing::new(NodeClass::Waiting, Reason::Conflicted, Text::default());
        return Some(of_standing(&runs[owner], node, &standing, message));
    }
    matches!(node.agent, Agent::Answered(_)).then(|| NodeReport {
        update: None,
        class: NodeClass::Idle,
        reason: Reason::Idle,
        message: Text::fixed(Reason::Idle.meaning()),
        revision: Text::default(),
        attempt: last_attempt(node),
        aborts: 0,
        last_failure: Text::default(),
        end: None,
    })
}

/// What the node's record says of a run that is over.
fn past<'n>(runs: &[Run<'_>], record: &'n NodeRecord) -> Option<Standing<'n>> {
    match record.skipped {
        Some(reason) if update_of(runs, record).is_some_and(|run| run.was_finished) => {
            Some(Standing::new(NodeClass::Skipped, reason, Text::fixed(reason.meaning())))
        }
        _ => endings::of_record(record).filter(|standing| standing.class != NodeClass::Waiting),
    }
}

fn update_of<'r, 'a>(runs: &'r [Run<'a>], record: &NodeRecord) -> Option<&'r Run<'a>> {
    runs.iter().find(|run| run.update.uid == record.update_uid)
}

fn last_attempt(node: &Node) -> Option<Text> {
    node.record.as_ref().map(|record| record.attempt.clone()).filter(|attempt| !attempt.is_empty())
}

/// Why nodes that could start do not.
fn turn_message(run: &Run<'_>) -> Text {
    match run.stop {
        Some(stop) => format!("the run stands: {}", stop.reason.meaning()).into(),
        None if run.progress.open > 0 => Text::fixed("all slots are taken"),
        None => format!("its step is not open yet; the run is at \"{}\"", run.progress.name).into(),
    }
}
