//! Decides what happens next in a fleet: [`plan`] is a pure function of a [`Snapshot`] and the time.
//!
//! No clock, no network, no disk: `#![no_std]`, so that it cannot. Every decision is taken from what was
//! observed, so that a controller which was killed anywhere plans the same again (invariant 6).
//!
//! ```text
//! verbs, revision ─► endings ─► ownership ─► members ─► stop ─► attempts, release ─► capacity ─► steps ─► admission
//!                                                                                     └─► finish, cleanup, report
//! ```
#![no_std]
extern crate alloc;

mod admission;
mod amount;
mod attempt_id;
mod attempts;
mod capacity;
mod cleanup;
mod cover;
mod devices;
mod eligibility;
mod endings;
mod finish;
mod fleet;
mod forgiven;
pub mod input;
mod members;
mod node_reports;
mod nodes;
pub mod output;
mod ownership;
mod preflight;
mod progress;
mod proof;
pub mod reason;
mod release;
mod report_nodes;
mod report_update;
mod revision;
mod run;
mod selection;
pub mod simulation;
mod steps;
mod stop;
mod text;
pub mod time;
mod todo;
mod verbs;

use alloc::vec::Vec;

pub use input::*;
pub use output::*;
pub use time::Time;
pub use verbs::MIN_REVISION;

use fleet::Fleet;
use report_nodes::Reported;
use run::Run;
use todo::Todo;

/// What to do now, what to write, and when to look again. Pure: the same snapshot and time give the same
/// plan.
pub fn plan(snapshot: &Snapshot, now: Time) -> Plan {
    pass(snapshot, now, Reported::All)
}

fn pass(snapshot: &Snapshot, now: Time, reported: Reported) -> Plan {
    let mut todo = Todo::new(now);
    let policy = &snapshot.policy;
    let fleet = Fleet::new(&snapshot.nodes);
    let mut runs: Vec<Run<'_>> =
        snapshot.updates.iter().map(|update| Run::new(update, policy, &fleet)).collect();
    ownership::sort(&mut runs);
    for run in &mut runs {
        verbs::take(run, &fleet);
        endings::collect(run, &fleet, &mut todo);
    }
    let (owners, wanted) = ownership::assign(&mut runs, &fleet);
    let flying = run::flying(&runs);
    for (position, (run, wanted)) in runs.iter_mut().zip(wanted).enumerate() {
        members::collect(run, position, wanted, &owners, &fleet, reported, &mut todo);
        attempts::advance(run, policy, &fleet, &mut todo);
        release::advance(run, &flying, &fleet, &mut todo);
    }
    let mut capacity = capacity::Capacity::new(&runs, &owners, &fleet, policy);
    for run in &mut runs {
        if let Some(spec) = run.active() {
            steps::advance(run, spec, &fleet, &mut todo);
        }
        admission::start(run, &mut capacity, &fleet, &mut todo);
        finish::decide(run, now);
    }
    for run in runs.iter().filter(|run| run.record != run.update.record) {
        todo.act(Action::CommitRecord { update: run.update.name.clone() });
    }
    cleanup::nodes(&runs, &flying, &owners, &fleet, &mut todo);
    cleanup::finalizers(&runs, &fleet, &mut todo);
    preflight::ask(&runs, &fleet, &mut todo);
    let updates = runs
        .iter()
        .map(|run| (run.update.name.clone(), report_update::of(run, &runs, &fleet, now)))
        .collect();
    let nodes = report_nodes::of(&mut runs, &owners, &fleet, reported);
    Plan { actions: todo.actions, report: Report { updates, nodes }, wake: todo.wake }
}
