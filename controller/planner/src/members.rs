//! The nodes of an update: how each stands, and how many there are of each kind.

use alloc::vec;
use alloc::vec::Vec;

use crate::amount::count;
use crate::eligibility::standing;
use crate::fleet::Fleet;
use crate::input::{Agent, Spec, Text};
use crate::output::{NodeClass, Reason};
use crate::ownership::Owners;
use crate::run::{Member, Run, Standing, Tally};
use crate::todo::Todo;

/// Finds out how every wanted node stands towards the run at `position`, and counts them.
pub(crate) fn collect<'a>(
    run: &mut Run<'a>,
    position: usize,
    wanted: Vec<usize>,
    owners: &Owners,
    fleet: &Fleet<'a>,
    todo: &mut Todo,
) {
    let Some(spec) = run.active() else { return };
    let mut flying = vec![false; fleet.len()];
    for entry in &run.entries {
        flying[entry.node] = true;
    }
    let mut members = Vec::with_capacity(wanted.len());
    for node in wanted {
        let standing = if flying[node] {
            Standing::new(NodeClass::InFlight, Reason::InProgress, Text::default())
        } else if owners.of[node] != Some(position) && !run.is_skipped(fleet.at(node)) {
            Standing::new(NodeClass::Waiting, Reason::Conflicted, Text::fixed(whose(owners, node)))
        } else {
            standing(run, spec, fleet.at(node), todo)
        };
        members.push(Member { node, standing });
    }
    run.members = members;
    tally(run, spec, fleet);
}

/// Why a node is another update's.
fn whose(owners: &Owners, node: usize) -> &'static str {
    if owners.failed[node] {
        "it failed in an older update, until `kubectl liveupdate accept-failure` of that one, or until that is deleted"
    } else {
        "an older update has the node"
    }
}

fn tally(run: &mut Run<'_>, spec: &Spec, fleet: &Fleet<'_>) {
    let mut tally = Tally { total: count(run.members.len()), ..Tally::default() };
    for member in &run.members {
        let number = match member.standing.class {
            NodeClass::Updated => &mut tally.updated,
            NodeClass::Failed => &mut tally.failed,
            NodeClass::Blocked => &mut tally.blocked,
            NodeClass::Skipped => &mut tally.skipped,
            NodeClass::Waiting | NodeClass::Idle => &mut tally.waiting,
            // Counted below, from the attempts.
            NodeClass::InFlight => continue,
        };
        *number += 1;
        let left = member.standing.class == NodeClass::Failed && member.standing.reason == Reason::LeftTarget;
        tally.left += u32::from(left);
        tally.conflicted += u32::from(member.standing.reason == Reason::Conflicted);
        tally.unasked += u32::from(
            member.standing.class == NodeClass::Waiting
                && matches!(fleet.at(member.node).agent, Agent::Unasked),
        );
    }
    for entry in run.entries.iter().filter(|entry| entry.current) {
        if !entry.recorded {
            tally.in_flight += 1;
        } else if entry.standing.class == NodeClass::Updated {
            tally.updated += 1;
        }
    }
    run.tally = tally;
    if run.accepts {
        let all = run.record.failures.saturating_add(run.failures_of_nodes());
        run.record.accepted_failures = run.record.accepted_failures.max(all);
    }
    run.tally.eligible = tally.total.saturating_sub(tally.skipped).saturating_sub(let_go(run));
    run.limit.max_failures = spec.strategy.max_failures.rounded_down(run.tally.eligible);
}

/// Failed nodes whose failure somebody accepted: the run goes on to its end without them.
pub(crate) fn let_go(run: &Run<'_>) -> u32 {
    if run.open_failures() == 0 { run.tally.failed.saturating_add(run.blocked_failures()) } else { 0 }
}
