//! Whose a node is.
//!
//! An attempt in flight holds its node, and so does a failure that still carries our mark (its facts must
//! not be written over). Otherwise the oldest update that is not over has it; a dry run, which starts
//! nothing, stands behind those that do. All others are told whom they wait for.

use alloc::vec;
use alloc::vec::Vec;

use crate::endings::is_counted_failure;
use crate::fleet::Fleet;
use crate::run::Run;
use crate::selection;

/// Whose each node of the fleet is.
pub(crate) struct Owners {
    /// The position of the run that has it.
    pub(crate) of: Vec<Option<usize>>,
    /// It carries the mark of a failure that still counts.
    pub(crate) failed: Vec<bool>,
}

/// Runs in the order in which they are served: real ones before dry runs, then by age.
pub(crate) fn sort(runs: &mut [Run<'_>]) {
    runs.sort_by(|a, b| {
        let key = |run: &Run<'_>| (run.spec.is_some_and(|spec| spec.strategy.dry_run), run.update.created);
        key(a).cmp(&key(b)).then_with(|| a.update.name.cmp(&b.update.name))
    });
}

/// Gives every node to a run, and to every run the nodes that it wants (with who has them).
pub(crate) fn assign(runs: &mut [Run<'_>], fleet: &Fleet<'_>) -> (Owners, Vec<Vec<usize>>) {
    let mut owners = vec![None; fleet.len()];
    for (position, run) in runs.iter().enumerate() {
        for (flight, named) in &run.flights {
            if let Some(node) = named.filter(|&node| fleet.is_same(node, &flight.uid)) {
                owners[node].get_or_insert(position);
            }
        }
    }
    let mut failed = vec![false; fleet.len()];
    for (index, node) in fleet.busy() {
        let holder = runs.iter().position(|run| is_counted_failure(run, node));
        if let Some(position) = holder {
            owners[index].get_or_insert(position);
            failed[index] = true;
        }
    }
    let mut wanted = Vec::with_capacity(runs.len());
    for (position, run) in runs.iter_mut().enumerate() {
        let selected = match run.active() {
            Some(spec) => selection::select(run.update, spec, fleet),
            None => Vec::new(),
        };
        for &node in &selected {
            let owner = *owners[node].get_or_insert(position);
            if owner != position {
                run.conflicts.insert(owner);
            }
        }
        wanted.push(selected);
    }
    (Owners { of: owners, failed }, wanted)
}
