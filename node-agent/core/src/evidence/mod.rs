//! What the driver saw of a device in both kernels, and what its holder attests: the evidence from which a
//! device's [`Facts`](crate::outcome::Facts) follow.
//!
//! ```text
//!  frozen ══ jump ══► arrived ──► retrieved ──► attached ──► Resumed
//!  COMMAND, bridges,  COMMAND,    COMMAND,      counter      the holder's checks: dma, interrupts, state
//!  counter, link,     bridges,    bridges, link,
//!  AER, probe,        counter     AER, probe,
//!  canary written                 canary read
//! ```
//! Everything may be unknown, and unknown never helps: replacing any of it by unknown never makes a word better.

mod checks;
mod explain;
mod facts;
mod read;

use alloc::string::String;
use alloc::vec::Vec;

pub use checks::{Check, Checks};
pub use explain::LONGEST as LONGEST_EXPLANATION;
pub use facts::Seen;
pub use read::{FILES, Malformed};

/// Bus Master Enable in COMMAND and in a bridge's.
const BUS_MASTER: u16 = 1 << 2;

/// Where the driver is with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of it is preserved.
    Idle,
    /// Its file is preserved; it works on.
    Preserved,
    /// The kernel is about to jump.
    Frozen,
    /// It came through a jump and nobody has it yet.
    Incoming,
    /// Its file was taken out.
    Retrieved,
    /// It was opened and bound by that file.
    Attached,
}

/// Something compared with how it was at freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compared {
    /// It is what it was.
    Same,
    /// It is not.
    Changed,
}

/// What became of bus mastering by writes that the driver knows of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusMaster {
    /// No write cleared it.
    Kept,
    /// One did.
    Cleared,
}

/// A PCI Express link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The device has none: it sits on a conventional bus or in the root complex.
    None,
    /// Its status register.
    Status(u16),
}

impl Link {
    /// Speed and width; the rest of the register tells of events.
    const fn trained(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Status(status) => status & 0x3ff,
        }
    }
}

/// Advanced Error Reporting's status registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aer {
    /// Of uncorrectable errors.
    pub uncorrectable: u32,
    /// Of correctable ones.
    pub correctable: u32,
}

/// Registers of an NVMe controller that a reset of it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NvmeProbe {
    /// Configuration.
    pub cc: u32,
    /// Status.
    pub csts: u32,
    /// Sizes of the admin queues.
    pub aqa: u32,
    /// Address of the admin submission queue.
    pub asq: u64,
}

/// All that the driver tells of a device. The default knows nothing. Fields are named as the driver's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the driver's file of that name")]
pub struct Evidence {
    pub state: Option<Phase>,
    pub keeps_bus_master: Option<bool>,
    pub frozen_command: Option<u16>,
    pub arrived_command: Option<u16>,
    pub retrieved_command: Option<u16>,
    pub frozen_bridges: Option<Vec<(String, u16)>>,
    pub arrived_bridges: Option<Vec<(String, u16)>>,
    pub retrieved_bridges: Option<Vec<(String, u16)>>,
    pub frozen_counter: Option<u64>,
    pub arrived_counter: Option<u64>,
    pub retrieved_counter: Option<u64>,
    pub attached_counter: Option<u64>,
    pub frozen_link: Option<Link>,
    pub retrieved_link: Option<Link>,
    pub frozen_aer: Option<Aer>,
    pub retrieved_aer: Option<Aer>,
    pub canary: Option<Compared>,
    pub config: Option<Compared>,
    pub bus_master: Option<BusMaster>,
    pub resets: Option<u32>,
    pub frozen_probe: Option<NvmeProbe>,
    pub retrieved_probe: Option<NvmeProbe>,
}
