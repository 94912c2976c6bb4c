//! States past the point of no return: none of them can be undone.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{Attempt, Effect, End, Ended, FailReason, Node, Proof, StateName, Transition};
use crate::Monotonic;
use crate::outcomes::Outcomes;

/// Past the point of no return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AfterCommit {
    pub(super) attempt: Attempt,
    pub(super) stage: Stage,
    pub(super) entered: Monotonic,
}

/// Where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `reboot(2)` was called.
    Jumping,
    /// On the target, proven.
    Returned {
        /// That it is.
        proof: Proof,
    },
    /// Holders take their files back.
    Reclaiming {
        /// That the node jumped.
        proof: Proof,
        /// Outcomes so far.
        outcomes: Outcomes,
        /// Holders that have not resumed.
        waiting: BTreeSet<String>,
    },
    /// The controller looks whether all is well.
    Verifying {
        /// That the node jumped.
        proof: Proof,
        /// Outcomes of all devices.
        outcomes: Outcomes,
    },
    /// The target is made the default: the controller has the outcome, so that it counts as verified.
    Persisting {
        /// That the node jumped.
        proof: Proof,
        /// Outcomes of all devices.
        outcomes: Outcomes,
    },
    /// Files are kept, the node is blocked; a late holder or an operator ends it.
    Quarantined {
        /// That the node jumped, if it did.
        proof: Option<Proof>,
        /// Outcomes so far.
        outcomes: Outcomes,
        /// Holders that have not resumed.
        waiting: BTreeSet<String>,
        /// A sentence about it.
        why: String,
        /// The controller has this on record.
        confirmed: bool,
    },
}

impl Stage {
    /// The state's name.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Jumping => StateName::Jumping,
            Self::Returned { .. } => StateName::Returned,
            Self::Reclaiming { .. } => StateName::Reclaiming,
            Self::Verifying { .. } => StateName::Verifying,
            Self::Persisting { .. } => StateName::Persisting,
            Self::Quarantined { .. } => StateName::Quarantined,
        }
    }

    /// What is to be done in it: on entering, and again after a restart.
    pub(super) fn effects(&self) -> Vec<Effect> {
        match self {
            // Once, and only with a permission that has not run out: never again after a restart.
            Self::Jumping => vec![],
            Self::Returned { .. } => vec![Effect::RetrieveSessions],
            Self::Reclaiming { .. } => vec![Effect::GrantHolders],
            Self::Verifying { .. } => vec![Effect::FinishSessions, Effect::Knock],
            Self::Persisting { .. } => vec![Effect::Persist],
            // Undoing was not finished in time: what is kept stays so, and what was stopped is still to be started again.
            Self::Quarantined { proof: None, .. } => {
                vec![Effect::RestartBystanders, Effect::GrantHolders, Effect::Knock]
            }
            Self::Quarantined { .. } => vec![Effect::GrantHolders, Effect::Knock],
        }
    }
}

impl AfterCommit {
    /// The attempt.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Where it is.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// When the stage was entered, on the clock of the boot that it was entered on.
    pub fn entered(&self) -> Monotonic {
        self.entered
    }

    /// That the node jumped, once it has.
    pub fn proof(&self) -> Option<&Proof> {
        match &self.stage {
            Stage::Jumping => None,
            Stage::Returned { proof }
            | Stage::Reclaiming { proof, .. }
            | Stage::Verifying { proof, .. }
            | Stage::Persisting { proof, .. } => Some(proof),
            Stage::Quarantined { proof, .. } => proof.as_ref(),
        }
    }

    /// Outcomes so far.
    pub fn outcomes(&self) -> Option<&Outcomes> {
        match &self.stage {
            Stage::Jumping | Stage::Returned { .. } => None,
            Stage::Reclaiming { outcomes, .. }
            | Stage::Verifying { outcomes, .. }
            | Stage::Persisting { outcomes, .. }
            | Stage::Quarantined { outcomes, .. } => Some(outcomes),
        }
    }

    pub(super) fn enter(attempt: Attempt, stage: Stage, now: Monotonic) -> Transition {
        let effects = stage.effects();
        Transition::to(Node::After(Self { attempt, stage, entered: now }), effects)
    }

    /// Called by `BeforeCommit::commit` alone. The jump has to happen before its permission ends, and before its state has
    /// lasted too long.
    pub(super) fn jump(attempt: Attempt, permitted: Monotonic, now: Monotonic) -> Transition {
        let until = permitted.min(now.after(attempt.deadlines.jump));
        let mut transition = Self::enter(attempt, Stage::Jumping, now);
        transition.effects.push(Effect::Jump { until });
        transition
    }

    pub(super) fn quarantine(
        attempt: Attempt,
        proof: Option<Proof>,
        outcomes: Outcomes,
        waiting: BTreeSet<String>,
        why: String,
        now: Monotonic,
    ) -> Transition {
        Self::enter(attempt, Stage::Quarantined { proof, outcomes, waiting, why, confirmed: false }, now)
    }

    /// Reclaiming is over when every holder has resumed and every device has its facts. Facts that are
    /// still missing then will not come: finishing makes those devices `Lost`.
    pub(super) fn reclaim(
        attempt: Attempt,
        proof: Proof,
        outcomes: Outcomes,
        waiting: BTreeSet<String>,
        entered: Monotonic,
        now: Monotonic,
    ) -> Transition {
        if waiting.is_empty() {
            return Self::enter(attempt, Stage::Verifying { proof, outcomes }, now);
        }
        let stage = Stage::Reclaiming { proof, outcomes, waiting };
        Transition::to(Node::After(Self { attempt, stage, entered }), Vec::new())
    }

    pub(super) fn end(
        attempt: Attempt,
        end: End,
        message: String,
        outcomes: Outcomes,
        proof: Option<Proof>,
    ) -> Node {
        let outcomes = outcomes.finish();
        Node::Ended(Ended { attempt, end, message, outcomes, proof, confirmed: false })
    }

    pub(super) fn fail(self, reason: FailReason, message: String) -> Transition {
        let Self { attempt, stage, .. } = self;
        let (outcomes, proof) = match stage {
            Stage::Jumping => (attempt.await_outcomes(), None),
            Stage::Returned { proof } => (attempt.await_outcomes(), Some(proof)),
            Stage::Reclaiming { proof, outcomes, .. }
            | Stage::Verifying { proof, outcomes }
            | Stage::Persisting { proof, outcomes } => (outcomes, Some(proof)),
            Stage::Quarantined { proof, outcomes, .. } => (outcomes, proof),
        };
        let end = End::Failed(reason);
        Transition::to(Self::end(attempt, end, message, outcomes, proof), vec![Effect::Knock])
    }
}
