//! `cover`: a step that must have seen one node of each device model.
//!
//! The count is raised by as few nodes as in-order picking needs: the first startable node with a model
//! that no updated or flying node has, and so on; models that only nodes have which cannot start now are
//! waited for.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::fleet::Fleet;
use crate::input::{Agent, Node};
use crate::output::{NodeClass, Reason};
use crate::run::Run;

/// What is still needed to cover every model.
#[derive(Default)]
pub(crate) struct Cover {
    /// Members that can start, in plan order.
    pub(crate) picks: Vec<usize>,
    /// Nodes that cannot start now.
    pub(crate) waiting: u32,
    /// A node that was or is being updated, or was never asked, may have any model: nothing is picked and
    /// the step does not pass before it answers.
    pub(crate) unknown: bool,
}

/// Finds out what is needed.
pub(crate) fn needed(run: &Run<'_>, fleet: &Fleet<'_>) -> Cover {
    let mut covered: BTreeSet<&str> = BTreeSet::new();
    let mut cover = Cover { unknown: run.tally.unasked > 0, ..Cover::default() };
    let flying = run.entries.iter().filter(|entry| entry.current).map(|entry| (entry.node, !entry.recorded));
    let updated = run.members.iter().filter(|member| member.standing.class == NodeClass::Updated);
    for (node, in_flight) in flying.chain(updated.map(|member| (member.node, false))) {
        let node = fleet.at(node);
        match models(node) {
            Some(models) => covered.extend(models.iter().map(String::as_str)),
            None => cover.unknown |= in_flight || matches!(node.agent, Agent::Unasked),
        }
    }
    let mut pick = |startable: bool| {
        let mut picks = Vec::new();
        for (position, member) in run.members.iter().enumerate() {
            let standing = &member.standing;
            let counts = matches!(standing.class, NodeClass::Waiting | NodeClass::Blocked)
                && standing.reason != Reason::Conflicted;
            if !counts || standing.startable != startable {
                continue;
            }
            let Some(models) = models(fleet.at(member.node)) else { continue };
            let before = covered.len();
            covered.extend(models.iter().map(String::as_str));
            if covered.len() > before {
                picks.push(position);
            }
        }
        picks
    };
    let picks = pick(true);
    cover.waiting = crate::amount::count(pick(false).len());
    // Before every agent has answered, the picks are right already unless a flying one is unknown.
    cover.picks = picks;
    cover
}

fn models(node: &Node) -> Option<&BTreeSet<String>> {
    match &node.agent {
        Agent::Answered(facts) => Some(&facts.models),
        _ => None,
    }
}
