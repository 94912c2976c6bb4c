//! Which attempts are run now, and which nodes come next.
//!
//! A node is admitted into the record alone; its mark follows when the record is observed, and its run when
//! the mark is observed *and the count, taken again, still fits* (invariant 1): seeing the mark proves that
//! the view of the nodes is newer than our own last write. An admitted attempt that no longer fits leaves
//! again, the last admitted first; a node that came back too late for it does not flap, because it is
//! admitted again only when there is room.

use alloc::vec::Vec;

use crate::amount::count;
use crate::attempt_id;
use crate::attempts::run_action;
use crate::capacity::Capacity;
use crate::fleet::Fleet;
use crate::input::InFlight;
use crate::output::{Action, MAX_IN_FLIGHT};
use crate::run::Run;
use crate::todo::Todo;

/// Runs what was admitted and still fits, then admits.
pub(crate) fn start(run: &mut Run<'_>, capacity: &mut Capacity, fleet: &Fleet<'_>, todo: &mut Todo) {
    run.limit = capacity.limit(run, run.spec);
    let (room, mut surplus) = capacity.room(&run.limit);
    for entry in run.entries.iter_mut().rev().filter(|entry| entry.may_start) {
        if surplus == 0 {
            break;
        }
        surplus -= 1;
        entry.drop = true;
    }
    for entry in run.entries.iter().filter(|entry| entry.may_start && !entry.drop) {
        todo.act(run_action(entry, fleet.at(entry.node), &run.update.name));
    }
    run.record.in_flight =
        run.entries.iter().filter(|entry| !entry.drop).map(|entry| entry.flight.clone()).collect();
    if run.stop.is_none() && run.active().is_some() {
        admit(run, room, capacity, fleet, todo);
    }
}

fn admit(run: &mut Run<'_>, room: u32, capacity: &mut Capacity, fleet: &Fleet<'_>, todo: &mut Todo) {
    let free = count(MAX_IN_FLIGHT.saturating_sub(run.record.in_flight.len()));
    let number = run.progress.open.min(room).min(free) as usize;
    let startable = |position: &usize| run.members[*position].standing.startable;
    let first = run.progress.first.iter().copied().filter(startable);
    let others = (0..run.members.len()).filter(startable).filter(|p| !run.progress.first.contains(p));
    let chosen: Vec<usize> = first.chain(others).take(number).collect();
    if chosen.is_empty() {
        return;
    }
    if !run.update.has_finalizer {
        // First the finalizer: a node in flight whose update vanishes would be nobody's.
        todo.act(Action::AddFinalizer { update: run.update.name.clone() });
        return;
    }
    for position in chosen {
        let member = &mut run.members[position];
        let node = fleet.at(member.node);
        member.standing.message = "admitted; its mark comes next".into();
        capacity.take(member.node);
        run.limit.unavailable += 1;
        run.record.in_flight.push(InFlight {
            node: node.name.clone(),
            uid: node.uid.clone(),
            attempt: attempt_id::next(&run.record.revision, node).into(),
            since: todo.now,
        });
    }
}
