//! A simulated machine as a person writes it down: `world.json`.

use std::time::Duration;

use liveupdate_node_core::Continuity;
use liveupdate_node_core::gate::GateId;
use serde::{Deserialize, Serialize};

use super::facts::FactsSpec;
use crate::HostError;

/// Everything about a machine that does not come from what happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorldSpec {
    /// What `uname -r` says at first, and again after a power cut unless another was made the default.
    pub release: String,
    /// Digest of the bundle that runs at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_digest: Option<String>,
    /// The first boot id; a random one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The machine has a counter that spans a kexec.
    #[serde(default = "yes")]
    pub counter: bool,
    /// A verified target is made what a power cut brings up.
    #[serde(default)]
    pub persists: bool,
    /// Whether durations are waited for.
    #[serde(default)]
    pub pace: Pace,
    /// How long things take.
    #[serde(default)]
    pub durations: Durations,
    /// What is under the bundle root.
    #[serde(default)]
    pub bundles: Vec<BundleSpec>,
    /// PCI devices.
    #[serde(default)]
    pub devices: Vec<DeviceSpec>,
    /// Processes that hold them.
    #[serde(default)]
    pub holders: Vec<HolderSpec>,
    /// Gates that do not pass, or pass with other words. All others pass.
    #[serde(default)]
    pub gates: Vec<GateSpec>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

fn yes() -> bool {
    true
}

impl WorldSpec {
    /// A machine that runs `release`, holds nothing, knows no bundle and takes no time.
    pub fn new(release: &str) -> Self {
        Self {
            release: release.into(),
            bundle_digest: None,
            boot_id: None,
            counter: true,
            persists: false,
            pace: Pace::Instant,
            durations: Durations::default(),
            bundles: Vec::new(),
            devices: Vec::new(),
            holders: Vec::new(),
            gates: Vec::new(),
            faults: Vec::new(),
        }
    }
}

/// Whether durations are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pace {
    /// They are: processes sleep.
    #[default]
    Real,
    /// They are not: the machine's clocks are put forward instead.
    Instant,
}

/// How long things take, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Durations {
    /// Staging a bundle.
    pub stage: u64,
    /// Preserving.
    pub preserve: u64,
    /// Settling.
    pub settle: u64,
    /// From Quiesce to the last holder's answer.
    pub quiesce: u64,
    /// From the reboot call to the next kernel's keeper.
    pub jump: u64,
    /// From there to each holder's `Resumed`.
    pub reclaim: u64,
}

/// A kernel under the bundle root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleSpec {
    /// Its name.
    pub name: String,
    /// The digest that is computed from its files.
    pub digest: String,
    /// The release that its manifest names.
    pub release: String,
    /// The release that really comes up, when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boots_as: Option<String>,
    /// Its size.
    #[serde(default = "bundle_bytes")]
    pub bytes: u64,
}

fn bundle_bytes() -> u64 {
    64 << 20
}

/// A PCI device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceSpec {
    /// `0000:01:00.0`
    pub address: String,
    /// Four hex digits.
    pub vendor: String,
    /// Four hex digits.
    pub device: String,
    /// Four hex digits.
    pub class: String,
    /// Name of its holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The best that its own gates leave it; absent: it cannot be preserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Level>,
    /// What will be seen of it over a jump.
    #[serde(default)]
    pub facts: FactsSpec,
}

/// A continuity as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// As the core has it.
    Reinitialised,
    /// As the core has it.
    Paused,
    /// As the core has it.
    Uninterrupted,
}

impl From<Level> for Continuity {
    fn from(level: Level) -> Self {
        match level {
            Level::Reinitialised => Self::Reinitialised,
            Level::Paused => Self::Paused,
            Level::Uninterrupted => Self::Uninterrupted,
        }
    }
}

/// A process that owns files to preserve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HolderSpec {
    /// Its name.
    pub name: String,
    /// Speaks the handover protocol.
    #[serde(default = "yes")]
    pub aware: bool,
    /// The least that its owner accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Level>,
    /// Its owner refuses any update.
    #[serde(default)]
    pub refuses: bool,
    /// Memory to preserve.
    #[serde(default)]
    pub memory_bytes: u64,
}

/// A gate that does not simply pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateSpec {
    /// As in the documentation: `KexecHandover`.
    pub id: String,
    /// Device address or holder name; absent: every one that the gate is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only towards this release; absent: towards any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The answer.
    pub result: Answer,
    /// What was read; absent: what a real machine without it would say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// What would mend it; absent: what the gate's documentation says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// Result of a gate as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// As the core has it.
    Pass,
    /// As the core has it.
    Fail,
    /// As the core has it.
    Unknown,
}

/// Something that goes wrong, for as long as it stands in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "fault", deny_unknown_fields)]
pub enum Fault {
    /// The image was changed while it was copied: its digest is another one.
    StageCorrupt,
    /// Staging takes this much longer.
    StageSlow {
        /// Milliseconds.
        ms: u64,
    },
    /// A device or holder cannot be taken into custody.
    PreserveFails {
        /// Device address or holder name.
        subject: String,
    },
    /// The reboot call returns.
    KernelRefused,
    /// Another kernel comes up, whatever was loaded.
    WrongKernel {
        /// Its release.
        release: String,
    },
    /// Nothing comes up.
    NeverReturns,
    /// The target comes up without what was in custody.
    CustodyLost,
    /// What was in custody is kept, and its index cannot be read.
    IndexUnread,
    /// The boot partition has no room for the kernel that is to be made the default.
    NotPersisted,
    /// What is in custody cannot be let go of.
    NotReleased,
    /// What Settling stopped cannot be started again.
    NotRestarted,
    /// The holder of a device does not end when it is to be stopped.
    NotStopped {
        /// The device's address.
        address: String,
    },
    /// A holder does not come for its files.
    ReclaimOverdue {
        /// Its name.
        holder: String,
    },
    /// A holder does not agree to be stopped.
    VotesNo {
        /// Its name.
        holder: String,
    },
    /// A holder does not answer Quiesce in time.
    QuiesceLate {
        /// Its name.
        holder: String,
    },
    /// A holder does not go on after an abort.
    DoesNotResume {
        /// Its name.
        holder: String,
    },
    /// A device is reset by somebody between Preserve and its return.
    DeviceReset {
        /// Its address.
        address: String,
    },
}

impl WorldSpec {
    /// What cannot be said by the types.
    pub(super) fn check(&self) -> Result<(), HostError> {
        match self.gates.iter().find(|gate| GateId::from_name(&gate.id).is_none()) {
            Some(gate) => Err(HostError::Malformed {
                what: "the world's gates".into(),
                why: format!("there is no gate {:?}", gate.id),
            }),
            None => Ok(()),
        }
    }
}

impl Durations {
    pub(super) fn of(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
