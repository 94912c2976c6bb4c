//! The nodes of an update: how each stands, and how many there are of each kind.

use alloc::vec;
use alloc::vec::Vec;

use crate::amount::count;
use crate::eligibility::standing;
use crate::fleet::Fleet;
use crate::input::{Agent, Node, NodeEnd, Spec, Text};
use crate::output::{NodeClass, Reason};
use crate::ownership::Owners;
use crate::report_nodes::{self, Reported};
use crate::run::{Member, Run, Standing, Tally};
use crate::todo::Todo;

/// Finds out how every wanted node stands towards the run at `position`, and counts them.
pub(crate) fn collect<'a>(
    run: &mut Run<'a>,
    position: usize,
    wanted: Vec<usize>,
    owners: &Owners,
    fleet: &Fleet<'a>,
    reported: Reported,
    todo: &mut Todo,
) {
    let Some(spec) = run.active() else { return };
    let mut flying = vec![false; fleet.len()];
    for entry in &run.entries {
        flying[entry.node] = true;
    }
    let mut members = Vec::with_capacity(wanted.len());
    let mut tally = Tally { total: count(wanted.len()), ..Tally::default() };
    for index in wanted {
        let node = fleet.at(index);
        let standing = if flying[index] {
            Standing::new(NodeClass::InFlight, Reason::InProgress, Text::default())
        } else if owners.of[index] != Some(position) && !run.is_skipped(node) {
            Standing::new(NodeClass::Waiting, Reason::Conflicted, Text::fixed(whose(owners, index)))
        } else {
            standing(run, spec, node, todo)
        };
        // Here, while the node is at hand: to come back to each of a large fleet costs more than to read it.
        tally.add(&standing, node);
        let said = reported == Reported::News && report_nodes::is_on_record(run, node, &standing);
        members.push(Member { node: index, standing, said });
    }
    run.members = members;
    sum_up(run, tally, spec);
}

/// Why a node is another update's.
fn whose(owners: &Owners, node: usize) -> &'static str {
    if owners.failed[node] {
        "it failed in an older update, until `kubectl liveupdate accept-failure` of that one, or until that is deleted"
    } else {
        "an older update has the node"
    }
}

impl Tally {
    /// Counts a node without an attempt in flight.
    fn add(&mut self, standing: &Standing<'_>, node: &Node) {
        let number = match standing.class {
            NodeClass::Updated => &mut self.updated,
            NodeClass::Failed => &mut self.failed,
            NodeClass::Blocked => &mut self.blocked,
            NodeClass::Skipped => &mut self.skipped,
            NodeClass::Waiting | NodeClass::Idle => &mut self.waiting,
            // Counted from the attempts.
            NodeClass::InFlight => return,
        };
        *number += 1;
        let left = standing.class == NodeClass::Failed && standing.reason == Reason::LeftTarget;
        self.left += u32::from(left);
        self.conflicted += u32::from(standing.reason == Reason::Conflicted);
        self.unasked +=
            u32::from(standing.class == NodeClass::Waiting && matches!(node.agent, Agent::Unasked));
        self.verify(standing);
    }

    /// Takes note of when an attempt of the run was verified, if it was.
    fn verify(&mut self, standing: &Standing<'_>) {
        if let (Reason::Updated, Some(NodeEnd::Updated { verified_at, .. })) =
            (standing.reason, standing.end.as_deref())
        {
            self.verified += 1;
            self.first_verified =
                Some(self.first_verified.map_or(*verified_at, |first| first.min(*verified_at)));
            self.last_verified = self.last_verified.max(Some(*verified_at));
        }
    }
}

/// The numbers of the run: of its members, to which come its attempts.
fn sum_up(run: &mut Run<'_>, mut tally: Tally, spec: &Spec) {
    for entry in run.entries.iter().filter(|entry| entry.current) {
        if !entry.recorded {
            tally.in_flight += 1;
            continue;
        }
        tally.updated += u32::from(entry.standing.class == NodeClass::Updated);
        tally.verify(&entry.standing);
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
