//! What a machine tells about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use liveupdate_node_core::Target;
pub use liveupdate_node_core::gate::Gate;
pub use liveupdate_node_core::outcome::Facts;

use liveupdate_node_core::{Continuity, verdict};

/// A PCI device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `0000:01:00.0`
    pub address: String,
    /// Four hex digits.
    pub vendor: String,
    /// Four hex digits.
    pub device: String,
    /// Four hex digits.
    pub class: String,
    /// Name of the process that holds it; none when nobody does.
    pub holder: Option<String>,
    /// The best continuity that its own gates leave it now, the node's and the target's apart; none when it
    /// cannot be preserved.
    pub ceiling: Option<Continuity>,
}

/// As it is judged: nobody's name is empty, and what it could get follows from the gates.
impl From<&Device> for verdict::Device {
    fn from(device: &Device) -> Self {
        Self {
            address: device.address.clone(),
            vendor: device.vendor.clone(),
            device: device.device.clone(),
            class: device.class.clone(),
            holder: device.holder.clone().unwrap_or_default(),
        }
    }
}

/// A process that owns files to preserve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: String,
    /// Speaks the handover protocol.
    pub aware: bool,
    /// The least that its owner accepts.
    pub minimum: Option<Continuity>,
    /// Its owner refuses any update.
    pub refuses: bool,
    /// Bytes of memory to preserve.
    pub memory_bytes: u64,
}

/// As it is judged.
impl From<&Holder> for verdict::Holder {
    fn from(holder: &Holder) -> Self {
        Self {
            name: holder.name.clone(),
            aware: holder.aware,
            minimum: holder.minimum,
            refuses: holder.refuses,
        }
    }
}

/// Who holds what at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Addresses of all devices that somebody holds, each with its holder's name.
    pub devices: BTreeMap<String, String>,
    /// Names of all holders that have declared themselves and live.
    pub holders: BTreeSet<String>,
}

/// What is in custody before a jump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custody {
    /// For which attempt.
    pub attempt: String,
    /// Addresses of the devices.
    pub devices: Vec<String>,
}

/// One holder's answer to Quiesce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiesced {
    /// Its name.
    pub holder: String,
    /// The counter when its first vCPU stopped, in nanoseconds; none when there is no counter.
    pub counter: Option<u64>,
    /// It votes for the jump; otherwise why not.
    pub vote: Result<(), String>,
}

/// One holder's answer to Resume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Its name.
    pub holder: String,
    /// The counter when it said that it goes on, in nanoseconds; none when there is no counter.
    pub counter: Option<u64>,
    /// What was seen of its devices since Quiesce.
    pub devices: Vec<ReclaimedDevice>,
    /// It goes on; otherwise what is wrong.
    pub result: Result<(), String>,
}

/// What goes over the jump beside what is preserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JumpIntent {
    /// The attempt.
    pub attempt: String,
    /// Comes back by [`crate::Host::returned_nonce`].
    pub nonce: String,
    /// What must be loaded: the jump is refused when it is not.
    pub target: Target,
    /// From then on, by [`crate::Host::monotonic`], the jump is refused: its permission has run out, or its state has
    /// lasted too long.
    pub until: Duration,
}

/// A jump that happened in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jumped {
    /// From the reboot call to the next kernel's keeper.
    pub takes: Duration,
}

/// A holder on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReclaimedHolder {
    /// Its name.
    pub holder: String,
    /// The counter when its first vCPU stopped; none when unmeasured.
    pub quiesced: Option<u64>,
    /// Its files were granted and it said `Resumed`.
    pub resumed: bool,
    /// The counter when it said so, in nanoseconds; none when it has not, or when unmeasured.
    pub resumed_at: Option<u64>,
    /// Why it can get nothing back any more.
    pub lost: Option<String>,
}

/// A device on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReclaimedDevice {
    /// Its address.
    pub address: String,
    /// What was seen of it; `returned` is false until its holder has resumed.
    pub facts: Facts,
    /// What made its facts worse than the best, in short; empty where nothing did.
    pub evidence: String,
}
