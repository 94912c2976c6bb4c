//! How long each state may last, and where it leads when that has passed.

use core::time::Duration;

use super::{Node, Phase, Stage};
use crate::Monotonic;

/// Where a state leads when its deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Undo.
    Abort,
    /// The call to jump hangs: undo, and fail.
    KernelRefused,
    /// Keep the files and block the node.
    Quarantine,
    /// Holders did not go on (or, if they did, custody could not be given up: quarantine).
    HolderNotResumed,
    /// Ask the controller again and wait on: only it can judge.
    KnockAgain,
    /// The target could not be made permanent.
    VerifyFailed,
}

/// A state's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When, on the node's clock.
    pub at: Monotonic,
    /// Counted from when the state was entered.
    pub after: Duration,
    /// Where it leads.
    pub exit: Exit,
}

impl Node {
    /// The state's deadline; none where nothing is under way.
    pub fn deadline(&self) -> Option<Deadline> {
        let (entered, (after, exit)) = match self {
            Self::Idle | Self::Ended(_) => return None,
            Self::Before(before) => {
                let d = &before.attempt.deadlines;
                let after = match before.phase {
                    Phase::Preflight => d.preflight,
                    Phase::Queued => d.queued,
                    Phase::Staging => d.stage,
                    Phase::Preserving => d.preserve,
                    Phase::Settling { .. } => d.settle,
                    Phase::Quiescing { .. } => d.quiesce,
                    Phase::Committing { .. } => d.commit,
                };
                (before.entered, (after, Exit::Abort))
            }
            Self::Thawing(thawing) => {
                (thawing.entered, (thawing.attempt.deadlines.thaw, Exit::HolderNotResumed))
            }
            Self::After(after) => {
                let d = &after.attempt.deadlines;
                let of = match after.stage {
                    Stage::Jumping => (d.jump, Exit::KernelRefused),
                    Stage::Returned { .. } => (d.returned, Exit::Quarantine),
                    Stage::Reclaiming { .. } => (d.reclaim, Exit::Quarantine),
                    Stage::Verifying { .. } => (d.verify, Exit::KnockAgain),
                    Stage::Persisting { .. } => (d.persist, Exit::VerifyFailed),
                    Stage::Quarantined { .. } => (d.verify, Exit::KnockAgain),
                };
                (after.entered, of)
            }
        };
        Some(Deadline { at: entered.after(after), after, exit })
    }
}
