//! A node's way through an attempt (docs/concepts.md: a node's way).
//!
//! ```text
//! Idle → Preflight → Queued → Staging → Preserving → Settling → Quiescing → Committing ══ Jumping ══► Returned
//!           │           │        │          │           │           │           │            │          │  │
//!        Blocked        └────────┴──────────┴─ abort() ─┴───────────┴───────────┘   reboot(2) refused   │  │
//!                                                │                                           │          │  │
//!                                             Thawing ◄──────────────────────────────────────┘          │  │
//!                                                │  all undone: Aborted, or Failed{KernelRefused}       │  │
//!                                                │  a holder did not go on: Failed{HolderNotResumed}    │  │
//!                                                └─ custody not undone: Quarantined                     │  │
//!   Failed{WrongKernel} ◄── the proof of the jump does not hold ────────────────────────────────────────┘  │
//!   Updated ◄── Persisting ◄── Verifying ◄── Reclaiming ◄──────────────────────────────────────────────────┘
//!                                                └─ overdue: Quarantined ── released or late: Failed{Quarantined}
//! ```
//! Persisting makes the target what starts from cold, on machines that are set up for it ([`Attempt::persist`]).
//! It begins with the controller's Confirm and never before: until then a power cut boots whatever was the
//! default before. The controller has the node as updated by then, so that what cannot be made the default is
//! told ([`Event::Persisted`]) and ends as Updated all the same; the node's gates go on telling it.
//!
//! Left of the double line everything is a [`BeforeCommit`], which has [`BeforeCommit::abort`]; right of
//! it is an [`AfterCommit`], which has none. The only way across is [`BeforeCommit::commit`], which takes a
//! [`Receipt`] and a [`Permission`] by value; both can be made by their checks alone, and neither survives
//! in the journal.

mod after;
mod attempt;
mod before;
mod commit;
mod deadline;
mod event;
mod journal;

mod step;
mod thaw;

use alloc::string::String;
use alloc::vec::Vec;

pub use after::{AfterCommit, Stage};
pub use attempt::{Attempt, Deadlines, Nonce, Plan, ScopedDevice};
pub use before::{BeforeCommit, Phase};
pub use commit::{
    Evidence, Go, MAX_PERMISSION, NoPermission, NoProof, NoReceipt, Permission, Proof, Receipt,
};
pub use deadline::{Deadline, Exit};
pub use event::{Effect, Event, Refused};
pub use thaw::Thawing;

use crate::outcomes::Finished;

/// The node's state. The default is [`Node::Idle`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Node {
    /// No attempt was ever made here, or the last one was forgotten.
    #[default]
    Idle,
    /// An attempt that can be undone.
    Before(BeforeCommit),
    /// An attempt that is being undone.
    Thawing(Thawing),
    /// An attempt past the point of no return.
    After(AfterCommit),
    /// An attempt that is over.
    Ended(Ended),
}

/// What one event did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "effects that nobody carries out move nothing"]
pub struct Transition {
    /// The state from now on. On record before the effects are carried out, where [`Node::needs_record`] says so.
    pub state: Node,
    /// What to do, in this order. Each is idempotent.
    pub effects: Vec<Effect>,
    /// The event did not fit and changed nothing.
    pub refused: Option<Refused>,
}

impl Transition {
    fn to(state: Node, effects: Vec<Effect>) -> Self {
        Self { state, effects, refused: None }
    }

    fn refuse(state: Node, event: &'static str) -> Self {
        let refused = Refused { state: state.name(), event };
        Self { state, effects: Vec::new(), refused: Some(refused) }
    }
}

/// An attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub attempt: Attempt,
    /// How.
    pub end: End,
    /// A sentence about that.
    pub message: String,
    /// Each device in scope with its one outcome (invariant 3).
    pub outcomes: Finished,
    /// That the node jumped, if it did.
    pub proof: Option<Proof>,
    /// The controller has all this on record.
    pub confirmed: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// The node runs the target, verified.
    Updated,
    /// A gate or a demand stands against it; nothing was begun.
    Blocked(BlockReason),
    /// All is undone.
    Aborted,
    /// A bad end.
    Failed(FailReason),
}

/// Why a node is blocked; the names are the API's reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockReason {
    /// A required gate does not pass.
    GateNotPassed,
    /// A held device matches no rule of the update.
    DeviceNotCovered,
    /// A device would get less continuity than somebody asks for, or its owner refuses.
    ContinuityShortfall,
}

impl BlockReason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GateNotPassed, Self::DeviceNotCovered, Self::ContinuityShortfall];

    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GateNotPassed => "GateNotPassed",
            Self::DeviceNotCovered => "DeviceNotCovered",
            Self::ContinuityShortfall => "ContinuityShortfall",
        }
    }
}

/// Why an attempt failed, as far as the node itself can tell; the names are the API's reasons. That a
/// node did not return is the controller's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailReason {
    /// The node came back without proof that it jumped to the target.
    WrongKernel,
    /// The kernel refused the jump.
    KernelRefused,
    /// A holder did not go on after an abort.
    HolderNotResumed,
    /// A holder did not get its files back in time.
    Quarantined,
    /// The node went down again before it was verified, or the target could not be made permanent.
    VerifyFailed,
}

impl FailReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::WrongKernel,
        Self::KernelRefused,
        Self::HolderNotResumed,
        Self::Quarantined,
        Self::VerifyFailed,
    ];

    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongKernel => "WrongKernel",
            Self::KernelRefused => "KernelRefused",
            Self::HolderNotResumed => "HolderNotResumed",
            Self::Quarantined => "Quarantined",
            Self::VerifyFailed => "VerifyFailed",
        }
    }
}

impl End {
    /// The API's reason for it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Updated => "Updated",
            Self::Blocked(reason) => reason.as_str(),
            Self::Aborted => "AttemptAborted",
            Self::Failed(reason) => reason.as_str(),
        }
    }
}

/// The states' names, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is explained in the module's diagram")]
pub enum StateName {
    Idle,
    Preflight,
    Queued,
    Staging,
    Preserving,
    Settling,
    Quiescing,
    Committing,
    Jumping,
    Returned,
    Reclaiming,
    Verifying,
    Persisting,
    Updated,
    Blocked,
    Aborted,
    Thawing,
    Failed,
    Quarantined,
}

impl StateName {
    /// All of them, in the order of the way.
    pub const ALL: [Self; 19] = [
        Self::Idle,
        Self::Preflight,
        Self::Queued,
        Self::Staging,
        Self::Preserving,
        Self::Settling,
        Self::Quiescing,
        Self::Committing,
        Self::Jumping,
        Self::Returned,
        Self::Reclaiming,
        Self::Verifying,
        Self::Persisting,
        Self::Updated,
        Self::Blocked,
        Self::Aborted,
        Self::Thawing,
        Self::Failed,
        Self::Quarantined,
    ];

    /// As it is written everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Preflight => "Preflight",
            Self::Queued => "Queued",
            Self::Staging => "Staging",
            Self::Preserving => "Preserving",
            Self::Settling => "Settling",
            Self::Quiescing => "Quiescing",
            Self::Committing => "Committing",
            Self::Jumping => "Jumping",
            Self::Returned => "Returned",
            Self::Reclaiming => "Reclaiming",
            Self::Verifying => "Verifying",
            Self::Persisting => "Persisting",
            Self::Updated => "Updated",
            Self::Blocked => "Blocked",
            Self::Aborted => "Aborted",
            Self::Thawing => "Thawing",
            Self::Failed => "Failed",
            Self::Quarantined => "Quarantined",
        }
    }
}

impl core::fmt::Display for StateName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Node {
    /// The state's name.
    pub fn name(&self) -> StateName {
        match self {
            Self::Idle => StateName::Idle,
            Self::Before(before) => before.phase.name(),
            Self::Thawing(_) => StateName::Thawing,
            Self::After(after) => after.stage.name(),
            Self::Ended(ended) => match ended.end {
                End::Updated => StateName::Updated,
                End::Blocked(_) => StateName::Blocked,
                End::Aborted => StateName::Aborted,
                End::Failed(_) => StateName::Failed,
            },
        }
    }

    /// The attempt that the state speaks of.
    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            Self::Idle => None,
            Self::Before(before) => Some(before.attempt()),
            Self::Thawing(thawing) => Some(thawing.attempt()),
            Self::After(after) => Some(after.attempt()),
            Self::Ended(ended) => Some(&ended.attempt),
        }
    }

    /// The API's reason, where the state has one.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Ended(ended) => Some(ended.end.reason()),
            Self::After(after) if after.stage.name() == StateName::Quarantined => {
                Some(FailReason::Quarantined.as_str())
            }
            Self::Idle | Self::Before(_) | Self::Thawing(_) | Self::After(_) => None,
        }
    }

    /// That the node jumped, once it has.
    pub fn proof(&self) -> Option<&Proof> {
        match self {
            Self::After(after) => after.proof(),
            Self::Ended(ended) => ended.proof.as_ref(),
            Self::Idle | Self::Before(_) | Self::Thawing(_) => None,
        }
    }

    /// An attempt is under way: begun and not over.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Before(_) | Self::Thawing(_) | Self::After(_))
    }

    /// Holders may stand still on the kernel that they were stopped on: what does not lead to the jump has to let them go on.
    pub fn may_stand_still(&self) -> bool {
        match self {
            Self::Before(before) => before.phase.name() >= StateName::Quiescing,
            Self::Thawing(thawing) => !thawing.waiting.is_empty(),
            Self::Idle | Self::After(_) | Self::Ended(_) => false,
        }
    }

    /// Whether what follows from this state has to wait until it is on record. Undoing and giving back do not: who starts
    /// again with an older record undoes or gives back again, and for a guest that stands still no disk is worth waiting.
    pub fn needs_record(&self) -> bool {
        match self {
            Self::Idle | Self::Before(_) => true,
            Self::Thawing(_) => false,
            Self::After(after) => matches!(after.stage, Stage::Jumping | Stage::Persisting { .. }),
            Self::Ended(ended) => matches!(ended.end, End::Updated | End::Blocked(_)),
        }
    }

    /// A new attempt may begin.
    pub fn is_free(&self) -> bool {
        matches!(self, Self::Idle | Self::Ended(_))
    }
}
