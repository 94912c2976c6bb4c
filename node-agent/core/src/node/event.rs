//! What happens to a node, and what it makes happen.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use core::fmt;

use super::{Attempt, BlockReason, Evidence, Go, StateName};
use crate::Monotonic;
use crate::outcome::Facts;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An attempt begins with its preflight.
    Begin(Box<Attempt>),
    /// An attempt begins with its image loaded and its gates clear: the keeper's beginning.
    Take(Box<Attempt>),
    /// Preflight found nothing against it.
    Clear,
    /// Preflight found something against it.
    Blocked(BlockReason, String),
    /// It is the node's turn.
    Stage,
    /// The bundle is verified and loaded.
    Staged,
    /// All is in custody; guests run.
    Preserved,
    /// Bystanders ended, filesystems synced once, and nobody holds a device whose holder was to be stopped.
    Settled,
    /// Receipt and permission are there.
    Go(Go),
    /// Every holder has stopped its vCPUs and interrupts.
    Quiesced,
    /// The short list was read again and holds.
    ShortListPassed,
    /// The intent is on disk and in the index, and filesystems are frozen.
    IntentWritten,
    /// Give up, if that is still possible; why.
    Abort(String),
    /// `reboot(2)` came back.
    KernelRefused(String),
    /// Devices that are held still by whom was to be stopped. Of all others that were to lose their holder it is not known
    /// that they have one.
    StillHeld(BTreeSet<String>),
    /// Every undo effect but the holders' resumption was carried out.
    Undone,
    /// A holder goes on, after an abort or with its files back.
    HolderResumed(String),
    /// Facts about a preserved device.
    Device {
        /// Its address.
        address: String,
        /// What was found.
        facts: Facts,
    },
    /// A keeper starts, after its own crash or on the next kernel.
    Started(Evidence),
    /// The sessions are retrieved.
    Retrieved,
    /// The controller has the outcome on record.
    Confirm,
    /// Making the target the default kernel has come to its end; a sentence about what starts from cold now.
    Persisted(String),
    /// An operator gives up quarantined files.
    Release,
    /// The state's deadline may have passed.
    Tick,
}

impl Event {
    /// Somebody else's word, who believes from our answer on that it is kept: it is on record first, wherever it leads.
    pub const fn is_order(&self) -> bool {
        matches!(
            self,
            Self::Begin(_) | Self::Take(_) | Self::Stage | Self::Go(_) | Self::Confirm | Self::Release
        )
    }

    /// Its name, for errors and logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Begin(_) => "Begin",
            Self::Take(_) => "Take",
            Self::Clear => "Clear",
            Self::Blocked(..) => "Blocked",
            Self::Stage => "Stage",
            Self::Staged => "Staged",
            Self::Preserved => "Preserved",
            Self::Settled => "Settled",
            Self::Go(_) => "Go",
            Self::Quiesced => "Quiesced",
            Self::ShortListPassed => "ShortListPassed",
            Self::IntentWritten => "IntentWritten",
            Self::Abort(_) => "Abort",
            Self::KernelRefused(_) => "KernelRefused",
            Self::StillHeld(_) => "StillHeld",
            Self::Undone => "Undone",
            Self::HolderResumed(_) => "HolderResumed",
            Self::Device { .. } => "Device",
            Self::Started(_) => "Started",
            Self::Retrieved => "Retrieved",
            Self::Confirm => "Confirm",
            Self::Persisted(_) => "Persisted",
            Self::Release => "Release",
            Self::Tick => "Tick",
        }
    }
}

/// What is to be done. Each is idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Read the gates; answer with `Clear` or `Blocked`.
    ReadGates,
    /// Fetch, verify and load the bundle; answer with `Staged`.
    LoadImage,
    /// Take custody while guests run; answer with `Preserved`.
    Preserve,
    /// End bystanders, stop holders that are to be stopped and see that they are gone, sync; answer with `Settled`.
    Settle,
    /// Read required gates again, load the image again, make the receipt; answer with `Go`.
    MakeReceipt,
    /// Quiesce every holder; answer with `Quiesced`.
    QuiesceHolders,
    /// Read the short list; answer with `ShortListPassed`.
    ReadShortList,
    /// Nonce and intent into the index and to disk, all filesystems frozen, the journal's own last;
    /// answer with `IntentWritten`.
    WriteIntent,
    /// Tell holders and jump; answer with `KernelRefused` if it returns.
    Jump {
        /// From then on it is refused: disks may take their time on the way, and holders stand still.
        until: Monotonic,
    },
    /// Thaw filesystems in reverse order.
    ThawFilesystems,
    /// See who holds still what its holder was to be stopped for, before anything that was stopped is started again; answer
    /// with `StillHeld`, naming nobody where that cannot be seen.
    SeeStopped,
    /// Tell every quiesced holder to go on; answer with `HolderResumed` for each.
    ResumeHolders,
    /// Start what Settling ended.
    RestartBystanders,
    /// Give up custody: unpreserve what no holder lost.
    Unpreserve,
    /// Unload the image.
    UnloadImage,
    /// Say so when all the undo effects before this one are done: `Undone`.
    ReportUndone,
    /// Retrieve the sessions; answer with `Retrieved`.
    RetrieveSessions,
    /// Let holders reclaim; answer with `Device` and `HolderResumed` for each.
    GrantHolders,
    /// Finish the sessions of resumed holders.
    FinishSessions,
    /// Give up the files that are still in custody, by the operator's word.
    ReleaseCustody,
    /// Ask the controller to look.
    Knock,
    /// Make the target the default kernel; answer with `Persisted`, also when it cannot be done.
    Persist,
}

/// An event that did not fit; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The state.
    pub state: StateName,
    /// The event's name.
    pub event: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not possible while the node is {}: nothing was changed", self.event, self.state)
    }
}

impl core::error::Error for Refused {}
