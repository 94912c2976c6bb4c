//! What an attempt is, from its beginning to its end.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::outcomes::Outcomes;
use crate::{Continuity, Target};

/// Drawn by the keeper for each attempt; comes back through the preserved index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Nonce(pub u128);

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What an attempt does with one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Hand it over; the least continuity that somebody asks for.
    Preserve(Continuity),
    /// Stop its holder.
    Stop,
    /// Nobody holds it.
    Leave,
}

/// One device in scope of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopedDevice {
    /// PCI address.
    pub address: String,
    /// `vendor:device`
    pub model: String,
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// What is done with it.
    pub plan: Plan,
}

/// One try at one node for one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// `<revision>-<first 8 of node uid>-<try>`
    pub id: String,
    /// Name of the update.
    pub update: String,
    /// The update's revision.
    pub revision: String,
    /// The kernel to update to.
    pub target: Target,
    /// See [`Nonce`].
    pub nonce: Nonce,
    /// The boot that it began on.
    pub boot_id: String,
    /// All devices in scope.
    pub devices: Vec<ScopedDevice>,
    /// Holders that have preserved memory but no device; those of devices need not be named.
    pub holders: BTreeSet<String>,
    /// Acknowledged risks.
    pub acknowledged: BTreeSet<String>,
    /// The target is made the default after verification.
    pub persist: bool,
    /// How long each state may last.
    pub deadlines: Deadlines,
}

impl Attempt {
    /// Devices that are handed over.
    pub fn preserved(&self) -> impl Iterator<Item = (&ScopedDevice, Continuity)> {
        self.devices.iter().filter_map(|device| match device.plan {
            Plan::Preserve(minimum) => Some((device, minimum)),
            Plan::Stop | Plan::Leave => None,
        })
    }

    /// Everybody who takes part in the handover.
    pub fn handed_over(&self) -> BTreeSet<String> {
        let mut holders = self.holders.clone();
        holders.extend(self.preserved().map(|(device, _)| device.holder.clone()));
        holders
    }

    /// The best continuity that is asked for; none: nothing is handed over (adoption).
    pub fn continuity(&self) -> Option<Continuity> {
        let devices = self.preserved().map(|(_, minimum)| minimum).max();
        devices.or_else(|| (!self.holders.is_empty()).then_some(Continuity::Reinitialised))
    }

    /// Somebody's holder is to be stopped.
    pub(super) fn stops(&self) -> bool {
        self.devices.iter().any(|device| device.plan == Plan::Stop)
    }

    /// The nonce can come back through a preserved index: something is handed over.
    pub fn carries_nonce(&self) -> bool {
        self.continuity().is_some()
    }

    /// A collector that awaits the facts of every preserved device.
    pub(super) fn await_outcomes(&self) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for device in &self.devices {
            match device.plan {
                Plan::Preserve(_) => outcomes.await_facts(&device.address),
                Plan::Stop => outcomes.not_preserved(&device.address, true),
                Plan::Leave => outcomes.not_preserved(&device.address, false),
            }
        }
        outcomes
    }

    /// A collector for an attempt that ended before any holder was stopped or quiesced.
    pub(super) fn nothing_done(&self) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for device in &self.devices {
            outcomes.not_preserved(&device.address, false);
        }
        outcomes
    }

    /// A collector for an attempt that was undone after holders were stopped but before any was quiesced. Where Settling did
    /// not come to its end, [`Outcomes::still_held`] tells it of those that were not.
    pub(super) fn only_stopped(&self) -> Outcomes {
        let mut outcomes = Outcomes::new();
        for device in &self.devices {
            outcomes.not_preserved(&device.address, device.plan == Plan::Stop);
        }
        outcomes
    }
}

/// How long each state may last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the state of that name")]
pub struct Deadlines {
    pub preflight: Duration,
    pub queued: Duration,
    pub stage: Duration,
    pub preserve: Duration,
    pub settle: Duration,
    pub quiesce: Duration,
    pub commit: Duration,
    pub jump: Duration,
    pub thaw: Duration,
    pub returned: Duration,
    pub reclaim: Duration,
    pub verify: Duration,
    pub persist: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let minutes = |m: u64| Duration::from_secs(60 * m);
        Self {
            preflight: minutes(2),
            queued: minutes(60),
            stage: minutes(10),
            preserve: minutes(5),
            settle: minutes(5),
            quiesce: Duration::from_secs(2),
            commit: Duration::from_secs(10),
            jump: Duration::from_secs(30),
            thaw: minutes(1),
            returned: minutes(1),
            reclaim: minutes(5),
            verify: minutes(5),
            persist: minutes(5),
        }
    }
}
