//! The handover with one holder, as the keeper sees it.
//!
//! ```text
//! Connected → Declared → Preserving → Preserved → Quiescing → Quiesced → Committed ══ jump ══╗
//!                 ▲           └─────────┬──┴────────────┴──────────┴────────┘                ▼
//!                 │                  Resume                   Done ◄─ Attached ◄─ Granted ◄─ Pending
//!                 └──── Resumed ◄─── Resuming                                  └──────────────┘
//!                                                                        gone: Pending again
//! ```
//! A late answer before the commit, or an end of file before the jump, aborts the attempt for everybody. After the jump
//! nothing is given up: a holder that dies comes again.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// Where the handover stands. The default is a holder that has just said hello.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It said hello.
    #[default]
    Connected,
    /// It said what it has.
    Declared,
    /// Its files are being preserved; its guest runs.
    Preserving,
    /// They are.
    Preserved,
    /// It was told to stop.
    Quiescing,
    /// Its vCPUs stand still.
    Quiesced,
    /// It runs no more until `Resume` or the keeper's end of file.
    Committed,
    /// It was told to go on.
    Resuming,
    /// The connection ended before the jump.
    Gone,
    /// After the jump: it has not come.
    Pending,
    /// It was given its session.
    Granted,
    /// It has its devices.
    Attached,
    /// It goes on and its session is finished.
    Done,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Connected,
        Self::Declared,
        Self::Preserving,
        Self::Preserved,
        Self::Quiescing,
        Self::Quiesced,
        Self::Committed,
        Self::Resuming,
        Self::Gone,
        Self::Pending,
        Self::Granted,
        Self::Attached,
        Self::Done,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "Connected",
            Self::Declared => "Declared",
            Self::Preserving => "Preserving",
            Self::Preserved => "Preserved",
            Self::Quiescing => "Quiescing",
            Self::Quiesced => "Quiesced",
            Self::Committed => "Committed",
            Self::Resuming => "Resuming",
            Self::Gone => "Gone",
            Self::Pending => "Pending",
            Self::Granted => "Granted",
            Self::Attached => "Attached",
            Self::Done => "Done",
        }
    }

    /// Its vCPUs stand still, or may: it has to be told to go on when the attempt is undone.
    pub const fn may_stand_still(self) -> bool {
        matches!(self, Self::Quiescing | Self::Quiesced | Self::Committed | Self::Resuming)
    }
}

/// What happened: a message of the holder, or the keeper's own doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `Declare` came; again on hotplug.
    Declare,
    /// The keeper begins to preserve.
    Preserve,
    /// Its files are preserved and it said so.
    Preserved,
    /// The keeper begins to quiesce.
    Quiesce,
    /// `Quiesced` came.
    Quiesced {
        /// Its interrupts are off; without that it is no answer.
        interrupts_off: bool,
    },
    /// The keeper commits.
    Commit,
    /// The attempt is undone; why.
    Undo(String),
    /// `Resumed` came.
    Resumed,
    /// The answer did not come in time.
    Late,
    /// End of file.
    Gone,
    /// `Reclaim` came.
    Reclaim,
    /// `Attached` came.
    Attached,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send `Verdict`.
    SendVerdict,
    /// Send `Preserve`.
    SendPreserve,
    /// Send `Quiesce`.
    SendQuiesce,
    /// Send `Commit`.
    SendCommit,
    /// Send `Resume` with this cause.
    SendResume(String),
    /// Ask custody, then send `Grant`.
    Grant,
    /// Ask custody, FINISH the session, then send `Done`.
    Finish,
    /// The node goes on without waiting for this holder: it has resumed.
    HasResumed,
    /// Abort the attempt for everybody; why.
    AbortAll(Cause),
}

/// Why a holder aborts the attempt for everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Its answer came too late, or not.
    Late(State),
    /// Its connection ended.
    Gone(State),
    /// It declared something else in the middle of the attempt.
    Changed(State),
    /// It stopped, but its interrupts are not off.
    InterruptsOn,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(state) => write!(f, "did not answer in time while {}", state.as_str()),
            Self::Gone(state) => write!(f, "went away while {}", state.as_str()),
            Self::Changed(state) => write!(f, "declared other files while {}", state.as_str()),
            Self::InterruptsOn => f.write_str("stopped without its interrupts being off"),
        }
    }
}

/// What one event did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "effects that nobody carries out move nothing"]
pub struct Transition {
    /// The state from now on.
    pub state: State,
    /// What to do, in this order.
    pub effects: Vec<Effect>,
    /// The event did not fit and changed nothing: answer with `Refused`.
    pub refused: bool,
}

impl State {
    /// What an event does. Total: an event that does not fit is refused and changes nothing.
    pub fn step(self, event: Event) -> Transition {
        let to = |state, effects| Transition { state, effects, refused: false };
        let stay = || to(self, vec![]);
        let abort = |state, cause| to(state, vec![Effect::AbortAll(cause)]);
        match (self, event) {
            (Self::Connected | Self::Declared, Event::Declare) => {
                to(Self::Declared, vec![Effect::SendVerdict])
            }
            (Self::Preserving | Self::Preserved | Self::Quiescing | Self::Quiesced, Event::Declare) => {
                abort(self, Cause::Changed(self))
            }
            (Self::Declared, Event::Preserve) => to(Self::Preserving, vec![Effect::SendPreserve]),
            (Self::Preserving, Event::Preserved) => to(Self::Preserved, vec![]),
            (Self::Preserved, Event::Quiesce) => to(Self::Quiescing, vec![Effect::SendQuiesce]),
            (Self::Quiescing, Event::Quiesced { interrupts_off: true }) => to(Self::Quiesced, vec![]),
            (Self::Quiescing, Event::Quiesced { interrupts_off: false }) => {
                abort(Self::Quiescing, Cause::InterruptsOn)
            }
            (Self::Quiesced, Event::Commit) => to(Self::Committed, vec![Effect::SendCommit]),

            (Self::Preserving | Self::Preserved, Event::Undo(_)) => to(Self::Declared, vec![]),
            (Self::Quiescing | Self::Quiesced | Self::Committed | Self::Resuming, Event::Undo(why)) => {
                to(Self::Resuming, vec![Effect::SendResume(why)])
            }
            (Self::Connected | Self::Declared | Self::Gone, Event::Undo(_)) => stay(),
            (Self::Resuming, Event::Resumed) => to(Self::Declared, vec![Effect::HasResumed]),
            // The answer to a second `Resume`.
            (Self::Connected | Self::Declared, Event::Resumed) => stay(),

            (Self::Preserving | Self::Quiescing, Event::Late) => abort(self, Cause::Late(self)),
            // Also after the commit: a guest whose connection ended runs again, and what was written of it is old. That
            // the process ends with the kernel is nobody's to see any more.
            (
                Self::Preserving | Self::Preserved | Self::Quiescing | Self::Quiesced | Self::Committed,
                Event::Gone,
            ) => abort(Self::Gone, Cause::Gone(self)),
            (Self::Connected | Self::Declared | Self::Resuming | Self::Gone, Event::Gone) => {
                to(Self::Gone, vec![])
            }

            // Repeatable until Resumed: the process may have died and been started again.
            (Self::Pending | Self::Granted | Self::Attached, Event::Reclaim) => {
                to(Self::Granted, vec![Effect::Grant])
            }
            (Self::Granted | Self::Attached, Event::Attached) => to(Self::Attached, vec![]),
            (Self::Attached, Event::Resumed) => to(Self::Done, vec![Effect::HasResumed, Effect::Finish]),
            (Self::Pending | Self::Granted | Self::Attached, Event::Gone) => to(Self::Pending, vec![]),
            (Self::Done, Event::Resumed | Event::Gone) => stay(),

            (state, _) => Transition { state, effects: vec![], refused: true },
        }
    }
}
