use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::pci::PciDevice;

/// The device writes nowhere but into preserved memory while kernels change. With an IOMMU the driver stops its
/// DMA before translation goes off. Without one nothing confines it: its holder's word is all there is, and taking
/// that is a risk of its own. `targets`: how many memfds its holder declared; none: it declared nothing.
pub fn dma_targets_preserved(address: &str, device: Option<&PciDevice>, targets: Option<usize>) -> Gate {
    let mut found = Findings::of(GateId::DmaTargetsPreserved, address);
    let Some(device) = device else {
        found.unknown(
            format!("/sys/bus/pci/devices/{address} cannot be read"),
            "look whether the device is still there",
        );
        return found.gate();
    };
    if !device.is_unconfined() {
        found.good(format!(
            "IOMMU group {}: the driver stops its DMA before translation goes off",
            device.group.as_deref().unwrap_or_default()
        ));
        return found.gate();
    }
    match targets {
        Some(targets @ 1..) => found.unknown(
            format!("no IOMMU confines its DMA; its holder attests that it goes into {targets} of its memfds alone"),
            "acknowledge UnconfinedDma to take its holder's word, or boot with an IOMMU",
        ),
        Some(0) | None => found.bad(
            "no IOMMU confines its DMA, and its holder does not declare where it goes",
            "let its holder declare the memfds that DMA mappings point into (dmaTargets)",
        ),
    }
    found.gate()
}
