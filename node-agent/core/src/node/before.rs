//! States that can be undone.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::thaw::{Thawing, Then};
use super::{AfterCommit, Attempt, Effect, End, Ended, Go, Node, StateName, Transition};
use crate::Monotonic;

/// Before the point of no return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeforeCommit {
    pub(super) attempt: Attempt,
    pub(super) phase: Phase,
    pub(super) entered: Monotonic,
}

/// Where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Gates are being read.
    Preflight,
    /// Waits for its turn.
    Queued,
    /// The bundle is being fetched, verified, loaded.
    Staging,
    /// Custody is being taken; guests run.
    Preserving,
    /// Bystanders are being ended.
    Settling {
        /// They are; receipt and permission are awaited.
        settled: bool,
    },
    /// Holders are stopping.
    Quiescing {
        /// None after a restart: then it can only be undone.
        go: Option<Go>,
    },
    /// The short list is read, the intent written.
    Committing {
        /// None after a restart: then it can only be undone.
        go: Option<Go>,
        /// The short list passed: the intent may be on disk, so that the jump may have happened.
        intent: bool,
    },
}

impl Phase {
    /// The state's name.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Preflight => StateName::Preflight,
            Self::Queued => StateName::Queued,
            Self::Staging => StateName::Staging,
            Self::Preserving => StateName::Preserving,
            Self::Settling { .. } => StateName::Settling,
            Self::Quiescing { .. } => StateName::Quiescing,
            Self::Committing { .. } => StateName::Committing,
        }
    }

    /// What is to be done in it: on entering, and again after a restart.
    pub(super) fn effects(&self) -> Vec<Effect> {
        match self {
            Self::Preflight => vec![Effect::ReadGates],
            Self::Queued => vec![],
            Self::Staging => vec![Effect::LoadImage],
            Self::Preserving => vec![Effect::Preserve],
            Self::Settling { settled: false } => vec![Effect::Settle],
            Self::Settling { settled: true } => vec![Effect::MakeReceipt],
            Self::Quiescing { .. } => vec![Effect::QuiesceHolders],
            Self::Committing { intent: false, .. } => vec![Effect::ReadShortList],
            Self::Committing { intent: true, .. } => vec![Effect::WriteIntent],
        }
    }
}

impl BeforeCommit {
    /// The attempt.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Where it is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// When the phase was entered.
    pub fn entered(&self) -> Monotonic {
        self.entered
    }

    pub(super) fn enter(attempt: Attempt, phase: Phase, now: Monotonic) -> Transition {
        let effects = phase.effects();
        Transition::to(Node::Before(Self { attempt, phase, entered: now }), effects)
    }

    /// Undoes all that was done so far, in reverse order. There is no such function after the commit.
    pub fn abort(self, why: String, now: Monotonic) -> Transition {
        let Self { attempt, phase, .. } = self;
        let (reached, settled) = (phase.name(), phase != Phase::Settling { settled: false });
        if reached == StateName::Preflight || reached == StateName::Queued {
            let outcomes = attempt.nothing_done().finish();
            let ended =
                Ended { attempt, end: End::Aborted, message: why, outcomes, proof: None, confirmed: false };
            return Transition::to(Node::Ended(ended), Vec::new());
        }
        Thawing::enter(attempt, Then::Aborted, reached, settled, why, now)
    }

    /// Crosses the point of no return: the only way to `Jumping`. Aborts if receipt or permission is not
    /// this attempt's, or the permission has run out.
    pub fn commit(self, go: Go, now: Monotonic) -> Transition {
        let Go { receipt, permission } = go;
        if !receipt.is_for(&self.attempt) {
            return self.abort("the receipt is for another attempt or boot".to_string(), now);
        }
        if !permission.answers(&receipt) {
            return self.abort("the permission answers another receipt".to_string(), now);
        }
        if let Err(error) = permission.check(now, &self.attempt.boot_id) {
            return self.abort(error.to_string(), now);
        }
        let written = matches!(self.phase, Phase::Committing { intent: true, .. });
        if !written {
            return self.abort("the intent is not on disk".to_string(), now);
        }
        AfterCommit::jump(self.attempt, permission.until(), now)
    }
}
