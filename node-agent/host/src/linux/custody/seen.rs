//! What became of devices: the driver's evidence and the holder's checks, as the core makes facts of them.

use liveupdate_node_core::evidence::{Checks, Phase, Seen};
use liveupdate_node_core::outcome::Facts;
use liveupdate_proto::handover::v1::Check;

use super::index::{Entry, Sighting};
use super::log::report;
use crate::ReclaimedDevice;
use crate::linux::driver;
use crate::linux::root::Root;

/// Most checks of one holder that are kept: three of each device, and some of its own.
pub(super) const MOST_CHECKS: usize = 512;

/// How a device is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// After a jump, when its holder's successor is to have it.
    Granted,
    /// After a jump, when its holder goes on.
    Jumped,
    /// On the kernel that it never left.
    Undone,
}

/// With what a device is looked at.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) root: &'a Root,
    pub(super) counter_khz: Option<u64>,
    pub(super) when: When,
}

impl Look<'_> {
    /// One device of a holder, now.
    pub(super) fn at(&self, address: &str, checks: &[Check], quiescent: bool, returned: bool) -> Sighting {
        let told = driver::told(self.root, address);
        for wrong in &told.malformed {
            report(&format!("{address}: {wrong}"));
        }
        for wrong in &told.unreadable {
            report(&format!("{address}: {wrong}"));
        }
        let mut attested = Checks::default();
        for check in checks {
            attested.take(address, &check.name, check.passed, &check.detail);
        }
        let class = self.root.line(&format!("/sys/bus/pci/devices/{address}/class"));
        // Whatever its holder believes that it has: what is not on the bus any more is not back.
        let returned = returned && !matches!(&class, Err(error) if error.is_absent());
        let class = class.unwrap_or_default();
        let seen = Seen {
            evidence: &told.evidence,
            checks: &attested,
            class: class.trim_start_matches("0x"),
            counter_khz: self.counter_khz,
            attested_quiescent: quiescent,
            returned,
        };
        let (facts, evidence) = match self.when {
            When::Granted => (seen.facts_so_far(), String::new()),
            When::Jumped => (seen.facts(), seen.explain()),
            When::Undone => (seen.facts_of_undone(), String::new()),
        };
        Sighting { address: address.to_owned(), facts: facts.to_string(), evidence }
    }

    /// All devices of a holder that goes on.
    pub(super) fn all(&self, entry: &Entry, checks: &[Check]) -> Vec<Sighting> {
        entry.devices().map(|address| self.at(address, checks, entry.dma_quiescent, true)).collect()
    }
}

/// The last look at a device before the jump; the sentence says why it cannot go. The kernel would find it out, too,
/// but only when everything stands still already.
pub(super) fn ready(root: &Root, address: &str) -> Result<(), String> {
    let state = driver::told(root, address).evidence.state;
    if state != Some(Phase::Preserved) {
        let state = state.map_or_else(|| "tells nothing of it".to_owned(), |state| format!("says {state:?}"));
        return Err(format!("it should be preserved by now, and its driver {state}"));
    }
    match root.line(&format!("/sys/bus/pci/devices/{address}/power_state")) {
        Ok(power) if power == "D0" => Ok(()),
        Ok(power) => Err(format!("its power state is {power}, not D0")),
        Err(error) => Err(error.to_string()),
    }
}

/// As others are told.
pub(super) fn told(sighting: &Sighting) -> ReclaimedDevice {
    ReclaimedDevice {
        address: sighting.address.clone(),
        // What was written down can be read: the index is checked. Nothing known is the worst there is.
        facts: sighting.facts.parse().unwrap_or(Facts { returned: true, ..Facts::default() }),
        evidence: sighting.evidence.clone(),
    }
}

/// The devices of an entry: as they were seen when their holder went on, else as far as is known.
pub(super) fn devices(entry: &Entry) -> Vec<ReclaimedDevice> {
    if !entry.seen.is_empty() {
        return entry.seen.iter().map(told).collect();
    }
    let returned = entry.claim == super::index::Claim::Resumed;
    let nothing = |address: &str| ReclaimedDevice {
        address: address.to_owned(),
        facts: Facts { returned, ..Facts::default() },
        evidence: String::new(),
    };
    entry.devices().map(nothing).collect()
}
