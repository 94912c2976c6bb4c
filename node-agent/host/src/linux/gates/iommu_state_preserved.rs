use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::pci::PciDevice;

/// What translates the device's DMA stays in force. No kernel that we know keeps an IOMMU's tables over a jump:
/// without an IOMMU there are none.
pub fn iommu_state_preserved(address: &str, device: Option<&PciDevice>) -> Gate {
    let mut found = Findings::of(GateId::IommuStatePreserved, address);
    let at = format!("/sys/bus/pci/devices/{address}");
    match device {
        None => found.unknown(format!("{at} cannot be read"), "look whether the device is still there"),
        Some(device) if device.is_unconfined() => {
            found.good(format!("{at}: no IOMMU translates its DMA: there are no tables to keep"));
        }
        Some(device) => found.bad(
            format!(
                "{at}: IOMMU group {} ({}): the kernel turns translation off when it jumps",
                device.group.as_deref().unwrap_or_default(),
                device.group_type.as_deref().unwrap_or("of unknown type")
            ),
            "accept Paused or Reinitialised for this device",
        ),
    }
    found.gate()
}
