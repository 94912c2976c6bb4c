use liveupdate_node_core::evidence::Phase;
use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::driver::{ABI, DRIVER, Driver, Told, folder};

/// The driver has the device, and carries its VFIO state (configuration as the guest sees it, BARs, canary).
pub fn vfio_state_preserved(address: &str, driver: &Driver, told: &Told) -> Gate {
    let mut found = Findings::of(GateId::VfioStatePreserved, address);
    let at = format!("{}/state", folder(address));
    for wrong in &told.malformed {
        found.unknown(wrong.to_string(), "use a driver of this release");
    }
    for wrong in &told.unreadable {
        found.unknown(wrong.to_string(), "look at the kernel's log");
    }
    match told.evidence.state {
        Some(Phase::Idle | Phase::Preserved | Phase::Attached) => {
            found.good(format!("{at}: {DRIVER} carries its VFIO state"));
        }
        Some(phase @ (Phase::Frozen | Phase::Incoming | Phase::Retrieved)) => found.bad(
            format!("{at}: {phase:?}: it has not been given back since the last jump"),
            "wait until its holder has resumed, or give it up: `kubectl liveupdate release`",
        ),
        None => found.bad(
            format!("{at}: unknown or not there: its driver cannot hand it over"),
            format!("bind it to {DRIVER}"),
        ),
    }
    if matches!(&driver.abi, Ok(Some(abi)) if abi == ABI) {
        found.good(format!("as {ABI}"));
    } else {
        found.unknown("in which format does not show", "load the driver of this release of liveupdate");
    }
    found.gate()
}
