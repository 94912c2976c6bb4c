//! What keeps an update from starting nodes (invariant 4).
//!
//! | | starts a node | runs what was admitted | permits a jump | before commit |
//! |---|---|---|---|---|
//! | soft: `paused`, verb `hold`, failure budget, dry run | no | no: it leaves again | yes | goes on |
//! | hard: policy's hold, abort, deletion, not accepted | no | no: it leaves again | no | is undone |
//!
//! A pause is a team's word: finishing what its agent has begun disturbs guests less than undoing it. The
//! policy's hold is the platform's word that no jump may happen now (invariant 2); an attempt left waiting
//! would keep its guests' memory pinned for as long as that takes, so that it is undone, and tried again
//! afterwards; such an undoing is not counted against the node. Abort outranks all.

use crate::input::{OnFailure, Policy};
use crate::output::Reason;
use crate::run::{Run, Stop};
use crate::verbs;

/// The strongest that is in force.
pub(crate) fn of(run: &Run<'_>, policy: &Policy) -> Option<Stop> {
    let hard = |reason| Some(Stop { reason, hard: true });
    let soft = |reason| Some(Stop { reason, hard: false });
    if run.update.deleting || run.was_finished || is_aborting(run) {
        return hard(Reason::Aborted);
    }
    if let Some((reason, _)) = &run.not_accepted {
        return hard(*reason);
    }
    if policy.hold {
        return hard(Reason::PolicyHold);
    }
    let spec = run.spec?;
    if is_budget_spent(run) {
        return soft(Reason::FailureBudgetSpent);
    }
    if spec.paused || verbs::is_held(run) {
        return soft(Reason::Paused);
    }
    if spec.strategy.dry_run { soft(Reason::DryRun) } else { None }
}

/// More nodes have failed than may.
pub(crate) fn is_budget_spent(run: &Run<'_>) -> bool {
    run.open_failures() > run.limit.max_failures
}

/// By the verb, or by `onFailure: Abort`.
pub(crate) fn is_aborting(run: &Run<'_>) -> bool {
    let by_failure = run.spec.is_some_and(|spec| spec.strategy.on_failure == OnFailure::Abort);
    verbs::is_aborted(run) || (by_failure && run.active().is_some() && is_budget_spent(run))
}
