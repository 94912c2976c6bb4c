//! How many nodes are unavailable, and how many may be (invariant 1).
//!
//! Unavailable is what is in flight, what is not Ready, and what failed and was neither accepted nor has
//! lost its mark. An update counts the nodes that it selects and those that it has in flight; the policy's
//! limit counts those of all updates together.

use alloc::vec::Vec;

use crate::amount::count;
use crate::fleet::Fleet;
use crate::input::{Policy, Spec};
use crate::output::{Bound, MAX_IN_FLIGHT, NodeClass};
use crate::ownership::Owners;
use crate::run::{Limit, Run};

/// Which nodes are unavailable.
pub(crate) struct Capacity {
    down: Vec<bool>,
    /// Some update selects it or has it in flight.
    counted: Vec<bool>,
    /// Counted and unavailable.
    all: u32,
    policy: Option<u32>,
}

impl Capacity {
    pub(crate) fn new(runs: &[Run<'_>], owners: &Owners, fleet: &Fleet<'_>, policy: &Policy) -> Self {
        let mut down: Vec<bool> =
            fleet.ready().iter().zip(&owners.failed).map(|(ready, failed)| !ready || *failed).collect();
        // A failure counts until somebody has accepted it, whatever became of its update.
        let mut counted = owners.failed.clone();
        for run in runs {
            let accepted = run.all_accepted();
            for member in &run.members {
                counted[member.node] = true;
                let failed = member.standing.class == NodeClass::Failed;
                down[member.node] |= failed && (!accepted || fleet.at(member.node).mark.is_some());
            }
            for entry in &run.entries {
                counted[entry.node] = true;
                down[entry.node] = true;
            }
        }
        let all = counted.iter().zip(&down).filter(|(counted, down)| **counted && **down).count();
        Self {
            down,
            counted,
            all: count(all),
            policy: policy.max_unavailable.map(|amount| amount.of(count(fleet.len()))),
        }
    }

    /// The numbers in force for a run.
    pub(crate) fn limit(&self, run: &Run<'_>, spec: Option<&Spec>) -> Limit {
        let asked = spec.map_or(0, |spec| spec.strategy.max_unavailable.of(run.tally.eligible));
        let mut limit = Limit { max_unavailable: asked, bounded_by: Bound::Spec, ..run.limit };
        let mut bound = |number: u32, by: Bound| {
            if number < limit.max_unavailable {
                limit.max_unavailable = number;
                limit.bounded_by = by;
            }
        };
        bound(self.policy.unwrap_or(u32::MAX), Bound::Policy);
        bound(count(MAX_IN_FLIGHT), Bound::InFlightLimit);
        limit.unavailable = self.unavailable(run);
        limit
    }

    fn unavailable(&self, run: &Run<'_>) -> u32 {
        let members = run.members.iter().filter(|member| self.down[member.node]);
        // In flight but not selected any more. A member in flight has this class for a placeholder.
        let selected = run.members.iter().filter(|m| m.standing.class == NodeClass::InFlight).count();
        count(members.count() + run.entries.len().saturating_sub(selected))
    }

    /// How many more nodes the run may make unavailable; how many it has too many.
    pub(crate) fn room(&self, limit: &Limit) -> (u32, u32) {
        let policy = self.policy.unwrap_or(u32::MAX);
        let room = limit.max_unavailable.saturating_sub(limit.unavailable);
        let surplus = limit.unavailable.saturating_sub(limit.max_unavailable);
        (room.min(policy.saturating_sub(self.all)), surplus.max(self.all.saturating_sub(policy)))
    }

    /// A node is taken.
    pub(crate) fn take(&mut self, node: usize) {
        if !self.down[node] {
            self.down[node] = true;
            self.all += u32::from(self.counted[node]);
        }
    }
}
