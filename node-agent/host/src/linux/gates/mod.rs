//! Gates over what was read of a real machine: each in its own file, pure, with what was read, where, what it
//! said, and what would mend it.
//!
//! A gate is a list of findings. One bad finding fails it; one that could not be made leaves it unknown; a
//! gate that found nothing at all is unknown. Only then, and with at least one good finding, it passes.

mod clock_source;
mod crash_dump;
mod device_eligible;
mod disk_and_memory;
mod dma_targets_preserved;
mod driver_ready;
mod experimental_opt_in;
mod fallback_boot;
mod foreign_sessions;
mod holder_open_mode;
mod iommu_state_preserved;
mod iommufd_preserved;
mod kexec_allowed;
mod kexec_handover;
mod live_update_kernel;
mod memory_charge;
mod memory_preservable;
mod module_loadable;
mod native_driver_race;
mod next_kernel;
mod pci_enumeration_stable;
mod pci_state_preserved;
mod target_kernel;
mod target_trusted;
mod unattended_boot;
mod vfio_state_preserved;

pub use clock_source::clock_source;
pub use crash_dump::crash_dump;
pub use device_eligible::device_eligible;
pub use disk_and_memory::{Room, disk_and_memory};
pub use dma_targets_preserved::dma_targets_preserved;
pub use driver_ready::driver_ready;
pub use experimental_opt_in::experimental_opt_in;
pub use fallback_boot::fallback_boot;
pub use foreign_sessions::{Ours, foreign_sessions};
pub use holder_open_mode::holder_open_mode;
pub use iommu_state_preserved::iommu_state_preserved;
pub use iommufd_preserved::iommufd_preserved;
pub use kexec_allowed::{Loaded, kexec_allowed};
pub use kexec_handover::{Bundle, kexec_handover};
pub use live_update_kernel::live_update_kernel;
pub use memory_charge::{memory_charge, memory_charge_of};
pub use memory_preservable::{Projection, memory_preservable};
pub use module_loadable::module_loadable;
pub use native_driver_race::native_driver_race;
pub use next_kernel::NextKernel;
pub use pci_enumeration_stable::pci_enumeration_stable;
pub use pci_state_preserved::pci_state_preserved;
pub use target_kernel::{Formats, Manifest, Running, Wanted, target_image, target_kernel};
pub use target_trusted::{Signed, signed_for_platform, target_trusted};
pub use unattended_boot::unattended_boot;
pub use vfio_state_preserved::vfio_state_preserved;

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{Gate, GateId};

/// No more than this many things are named one by one in evidence; a node's record has to stay small.
const NAMED: usize = 5;

/// What a gate has found so far.
struct Findings {
    id: GateId,
    subject: String,
    good: Vec<String>,
    unknown: Vec<String>,
    bad: Vec<String>,
    remedies: Vec<String>,
}

impl Findings {
    fn of(id: GateId, subject: &str) -> Self {
        let (good, unknown, bad, remedies) = Default::default();
        Self { id, subject: subject.to_owned(), good, unknown, bad, remedies }
    }

    /// It is as it has to be.
    fn good(&mut self, evidence: impl Into<String>) {
        self.good.push(evidence.into());
    }

    /// It could not be found out.
    fn unknown(&mut self, evidence: impl Into<String>, remedy: impl Into<String>) {
        self.unknown.push(evidence.into());
        self.remedies.push(remedy.into());
    }

    /// It is not as it has to be. Its remedy stands before those that would only tell more.
    fn bad(&mut self, evidence: impl Into<String>, remedy: impl Into<String>) {
        self.remedies.insert(self.bad.len(), remedy.into());
        self.bad.push(evidence.into());
    }

    fn gate(self) -> Gate {
        let (result, evidence) = match (self.bad.is_empty(), self.unknown.is_empty(), self.good.is_empty()) {
            (false, _, _) => (GateResult::Fail, self.bad),
            (true, false, _) => (GateResult::Unknown, self.unknown),
            (true, true, false) => (GateResult::Pass, self.good),
            (true, true, true) => (GateResult::Unknown, vec!["nothing was found to judge by".to_owned()]),
        };
        let remedies = match result {
            GateResult::Fail => &self.remedies[..evidence.len()],
            GateResult::Pass | GateResult::Unknown => &self.remedies[..],
        };
        let mut said: Vec<&str> = Vec::new();
        for remedy in remedies.iter().map(String::as_str).filter(|remedy| !remedy.is_empty()) {
            if !said.contains(&remedy) {
                said.push(remedy);
            }
        }
        Gate {
            id: self.id,
            subject: self.subject,
            result,
            evidence: evidence.join("; "),
            remedy: said.join("; "),
        }
    }
}

/// The first few of many, and how many more.
fn named<S: AsRef<str>>(things: &[S]) -> String {
    let shown: Vec<&str> = things.iter().take(NAMED).map(AsRef::as_ref).collect();
    match things.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", shown.join(", ")),
        _ => shown.join(", "),
    }
}

/// A size as people read it, never rounded up.
fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0);
    let Some((shift, name)) = unit else { return format!("{bytes} bytes") };
    let tenths = (bytes >> (shift - 10)).wrapping_mul(10) >> 10;
    match tenths % 10 {
        0 => format!("{} {name}", tenths / 10),
        tenth => format!("{}.{tenth} {name}", tenths / 10),
    }
}
