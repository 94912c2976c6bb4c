use std::collections::BTreeSet;

use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, NextKernel};
use crate::linux::driver::{Driver, PATCHES, Told, feature, folder};

/// The next kernel finds the device as it is left: bus mastering stays on, or its holder stops its DMA before it
/// goes off; and the first open resets nothing. `quiesces`: the holder says that it stops DMA at Quiesce.
pub fn pci_state_preserved(
    address: &str,
    driver: &Driver,
    told: &Told,
    next: Option<NextKernel<'_>>,
    quiesces: bool,
) -> Gate {
    let mut found = Findings::of(GateId::PciStatePreserved, address);
    let at = format!("{}/keeps_bus_master", folder(address));
    let mut here = BTreeSet::new();
    let mut there = BTreeSet::from([feature::OPEN_WITHOUT_RESET]);
    match told.evidence.keeps_bus_master {
        Some(true) => {
            found.good(format!("{at}: 1"));
            here.insert(feature::KEEP_BUS_MASTER);
            there.insert(feature::ARRIVAL_EVIDENCE);
        }
        Some(false) if quiesces => {
            found.good(format!("{at}: 0, and its holder stops its DMA before the driver does"));
        }
        Some(false) => found.bad(
            format!("{at}: 0: the driver stops its DMA at freeze, and its holder does not say that it has stopped it by then"),
            "use a holder that quiesces its devices, or accept Reinitialised",
        ),
        None => found.unknown(format!("{at}: unknown or not there"), "bind it to the driver, and open it"),
    }
    let own = driver.features.as_ref().ok().map(|features| features.clone().unwrap_or_default());
    match own {
        Some(features) => compare(&mut found, PATCHES, &features, &here, "boot"),
        None => found.unknown(format!("{PATCHES} cannot be read"), "mount /sys"),
    }
    match next {
        Some(next) => match next.patches() {
            Some(patches) => compare(&mut found, "target's image", patches, &there, "update to"),
            None => found.unknown(
                "target's image: its patches cannot be read",
                "build the image anew, with a compression that is known",
            ),
        },
        None => {}
    }
    found.gate()
}

fn compare(found: &mut Findings, place: &str, has: &BTreeSet<String>, wanted: &BTreeSet<&str>, verb: &str) {
    let missing: Vec<&str> = wanted.iter().filter(|name| !has.contains(**name)).copied().collect();
    if missing.is_empty() {
        if !wanted.is_empty() {
            let wanted: Vec<&str> = wanted.iter().copied().collect();
            found.good(format!("{place}: {}", wanted.join(" ")));
        }
    } else {
        found.bad(
            format!("{place}: not patched for {}", missing.join(", ")),
            format!("{verb} a kernel with the patches of kmod/patches"),
        );
    }
}
