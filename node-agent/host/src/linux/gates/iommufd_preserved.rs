use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::driver::{Told, folder};
use crate::linux::pci::PciDevice;

/// What the device's iommufd maps is in force while nobody has it. No kernel that we know hands an iommufd over:
/// without an IOMMU it maps nothing that the device would see, and the successor's own maps the same memory again.
pub fn iommufd_preserved(address: &str, device: Option<&PciDevice>, told: &Told) -> Gate {
    let mut found = Findings::of(GateId::IommufdPreserved, address);
    let at = format!("{}/keeps_bus_master", folder(address));
    match device {
        None => found.unknown(
            format!("/sys/bus/pci/devices/{address} cannot be read"),
            "look whether the device is still there",
        ),
        Some(device) if !device.is_unconfined() => found.bad(
            format!(
                "IOMMU group {}: iommufd has no live update file handler in this kernel",
                device.group.as_deref().unwrap_or_default()
            ),
            "accept Paused or Reinitialised for this device",
        ),
        Some(_) => match told.evidence.keeps_bus_master {
            Some(true) => found.good(format!(
                "{at}: 1: an iommufd without an IOMMU has it, and the successor's own maps the same memory again"
            )),
            Some(false) => found.bad(
                format!("{at}: 0: no iommufd without an IOMMU has it open"),
                "let its holder open it by its own node and bind it to an iommufd",
            ),
            None => found.unknown(format!("{at}: unknown or not there"), "bind it to the driver, and open it"),
        },
    }
    found.gate()
}
