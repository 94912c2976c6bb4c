//! Which verdicts to ask for: all of the fleet's, so that they are known before a node's turn comes, in plan
//! order and a bounded number at a time. Agents that do not answer are not asked from here: whoever holds
//! their connections tries again, and a knock tells when they are back.

use crate::fleet::Fleet;
use crate::output::Action;
use crate::run::Run;
use crate::todo::Todo;

/// Asked for in one pass, over all updates.
const MAX_ASKED: usize = 256;

/// Asks for what is missing.
pub(crate) fn ask(runs: &[Run<'_>], fleet: &Fleet<'_>, todo: &mut Todo) {
    let asked = runs
        .iter()
        .flat_map(|run| run.members.iter().map(move |member| (run, member)))
        .filter(|(_, member)| member.standing.ask)
        .take(MAX_ASKED);
    for (run, member) in asked {
        let node = fleet.at(member.node).name.clone();
        todo.act(Action::Preflight { node, update: run.update.name.clone() });
    }
}
