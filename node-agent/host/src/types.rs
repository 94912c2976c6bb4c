//! What a machine tells about itself.

use std::time::Duration;

use liveupdate_node_core::{Continuity, GateResult};
use serde::{Deserialize, Serialize};

pub use crate::facts::*;

/// A kernel to jump into.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// What `uname -r` must say afterwards.
    pub release: String,
    /// Name of the bundle under the bundle root.
    pub bundle: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
}

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
    /// The best continuity that it could get now; none when it cannot be preserved.
    pub ceiling: Option<Continuity>,
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

/// What a gate is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The machine.
    Node,
    /// The kernel to jump into.
    Target,
    /// One device, by address.
    Device(String),
    /// One holder, by name.
    Holder(String),
}

/// One question about support, with what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// As in the documentation: `KexecHandover`.
    pub id: String,
    /// What it is about.
    pub scope: Scope,
    /// The answer.
    pub result: GateResult,
    /// What was read, where, and what it said.
    pub evidence: String,
    /// What would mend it; empty where nothing needs mending.
    pub remedy: String,
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
}

/// A device on its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReclaimedDevice {
    /// Its address.
    pub address: String,
    /// What was seen of it; `returned` is false until its holder has resumed.
    pub facts: DeviceFacts,
}

/// Everything seen of a device over a jump; the word follows from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceFacts {
    /// Was it reset?
    pub reset: Reset,
    /// Its DMA.
    pub dma: Dma,
    /// Its interrupts.
    pub interrupts: Interrupts,
    /// Its configuration space.
    pub config: Config,
    /// Its inner state.
    pub state: DeviceState,
    /// Quiescent over the gap.
    pub quiescent: bool,
    /// Back with its holder.
    pub returned: bool,
}
