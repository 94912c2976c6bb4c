//! One-shot verbs: annotations bound to a revision, each taken once and echoed in the record.
//!
//! A verb that was taken is forgotten when its annotation is gone, so that it can be given again; with two
//! exceptions that stand for a state: `hold` stands until a `resume`, `approve` until its step has passed.
//! Where `hold` and `resume` stand side by side, `resume` wins. `abort` is never forgotten.
//!
//! `retry` has to be exactly once although what it forgets stands in another object: it is taken together
//! with a note of the attempt that is forgiven (`node/attempt`), which lasts until the node's own record
//! says nothing bad of that attempt any more (forgiven.rs). `release` has such a note, too (release.rs).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use crate::amount::count;
use crate::fleet::Fleet;
use crate::input::{NodeEnd, Verb, VerbKind};
use crate::output::Reason;
use crate::run::Run;
use crate::{forgiven, release};

/// Nodes that a status can name as skipped.
const MAX_SKIPPED: usize = 250;
/// Verbs and notes that a status can hold. One place each is kept for `abort` and for `hold`, which must always get through;
/// the rest waits until annotations that were taken are removed, and that is said.
const MAX_VERBS: usize = 32;
/// Digits of the revision that a verb has to name at least, but for `approve`.
pub const MIN_REVISION: usize = 4;

/// Takes the verbs that were not taken yet, and forgets those that are spent.
pub(crate) fn take(run: &mut Run<'_>, fleet: &Fleet<'_>) {
    forget(run, fleet);
    let mut fresh: Vec<&Verb> = run
        .update
        .verbs
        .iter()
        .filter(|verb| verb.binds(&run.record.revision) && !run.record.verbs.contains(*verb))
        .collect();
    fresh.sort_by_key(|verb| match verb.kind {
        VerbKind::Abort => 0,
        VerbKind::Hold => 1,
        // `retry` forgets the record by which `release` knows what to give up.
        VerbKind::Release => 2,
        _ => 3,
    });
    let mut waiting = 0;
    for verb in fresh {
        let kept = match verb.kind {
            VerbKind::Abort => 0,
            VerbKind::Hold => 1,
            // With the note that `retry` and `release` add.
            _ => 3,
        };
        if run.record.verbs.len() + kept >= MAX_VERBS {
            waiting += 1;
        } else if apply(run, verb, fleet) {
            run.record.verbs.insert(verb.clone());
        }
    }
    if waiting > 0 {
        run.remarks.push(format!(
            "{waiting} verbs are not taken: the list of those that were is full. Remove the annotations of these: status.verbs \
             names them"
        ));
    }
}

impl Verb {
    /// Whether it speaks of this revision: by its beginning, and an approval by all of it. Whoever may edit the spec finds
    /// another one whose revision begins alike.
    pub fn binds(&self, revision: &str) -> bool {
        match self.kind {
            VerbKind::Approve => self.revision == revision,
            _ => self.revision.len() >= MIN_REVISION && revision.starts_with(&self.revision),
        }
    }
}

/// Does what the verb says; false leaves it for later or for ever.
fn apply(run: &mut Run<'_>, verb: &Verb, fleet: &Fleet<'_>) -> bool {
    match verb.kind {
        VerbKind::Abort | VerbKind::Hold => true,
        VerbKind::Approve => step_position(run, &verb.argument).is_some(),
        VerbKind::Resume | VerbKind::AcceptFailure => {
            run.accepts = true;
            // Nodes of a run that is over stay marked until then.
            if run.active().is_none() {
                run.record.accepted_failures = run.record.accepted_failures.max(run.record.failures);
            }
            true
        }
        VerbKind::Skip => {
            let room = run.record.skipped.len() < MAX_SKIPPED && !verb.argument.is_empty();
            room && {
                run.record.skipped.insert(verb.argument.clone());
                true
            }
        }
        VerbKind::Retry => retry(run, &verb.argument, fleet),
        VerbKind::Release => match release::take(run, &verb.argument, fleet) {
            Ok(()) => true,
            Err(why) => {
                run.remarks.push(why);
                false
            }
        },
    }
}

fn retry(run: &mut Run<'_>, name: &str, fleet: &Fleet<'_>) -> bool {
    if run.record.in_flight.iter().any(|flight| flight.node == name) {
        return false;
    }
    let Some(index) = fleet.index_of(name) else { return false };
    if release::is_pending(run, name) {
        return false;
    }
    run.record.skipped.remove(name);
    let Some(attempt) = forgiven::bad_attempt(run, fleet.at(index)) else { return true };
    // One that has left its target is counted while it stands so, and not in the record.
    let failed = run.own_record(fleet.at(index)).is_some_and(
        |record| matches!(record.end, Some(NodeEnd::Failed { reason }) if reason != Reason::LeftTarget),
    );
    if failed {
        let accepted = run.record.accepted_failures.saturating_add(1);
        run.record.accepted_failures = accepted.min(run.record.failures.max(run.record.accepted_failures));
    }
    let note = forgiven::note(run, name, attempt);
    run.record.verbs.insert(note);
    true
}

/// Whether the verb `hold` is in force.
pub(crate) fn is_held(run: &Run<'_>) -> bool {
    let given = |kind| run.record.verbs.iter().any(|verb| verb.kind == kind);
    given(VerbKind::Hold) && !given(VerbKind::Resume)
}

/// Whether the verb `abort` was given.
pub(crate) fn is_aborted(run: &Run<'_>) -> bool {
    run.record.verbs.iter().any(|verb| verb.kind == VerbKind::Abort)
}

/// Whether the step was approved.
pub(crate) fn is_approved(run: &Run<'_>, step: &str) -> bool {
    run.record.verbs.iter().any(|verb| verb.kind == VerbKind::Approve && verb.argument == step)
}

fn step_position(run: &Run<'_>, name: &str) -> Option<u32> {
    let steps = &run.spec?.strategy.steps;
    steps.iter().position(|step| step.name == name).map(count)
}

fn forget(run: &mut Run<'_>, fleet: &Fleet<'_>) {
    let given: BTreeSet<&Verb> = run.update.verbs.iter().collect();
    let resumed = run.record.verbs.iter().any(|verb| verb.kind == VerbKind::Resume);
    let spent: Vec<Verb> = run
        .record
        .verbs
        .iter()
        .filter(|verb| match verb.kind {
            VerbKind::Abort => false,
            VerbKind::Hold => resumed && !given.contains(verb),
            VerbKind::Approve => {
                !given.contains(verb)
                    && step_position(run, &verb.argument).is_none_or(|step| step < run.record.step)
            }
            VerbKind::Resume => !given.contains(verb) && !hold_is_lifted_only_by_resume(run, &given),
            VerbKind::Retry if verb.argument.contains('/') => !forgiven::is_needed(run, verb, fleet),
            VerbKind::Release if verb.argument.contains('/') => !release::is_needed(run, verb, fleet),
            VerbKind::Retry | VerbKind::Skip | VerbKind::AcceptFailure | VerbKind::Release => {
                !given.contains(verb)
            }
        })
        .cloned()
        .collect();
    for verb in &spent {
        run.record.verbs.remove(verb);
    }
}

/// A hold whose annotation is gone is forgotten together with the resume that lifted it; one pass later is
/// early enough for the resume.
fn hold_is_lifted_only_by_resume(run: &Run<'_>, given: &BTreeSet<&Verb>) -> bool {
    run.record.verbs.iter().any(|verb| verb.kind == VerbKind::Hold && !given.contains(verb))
}
