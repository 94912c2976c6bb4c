use std::collections::BTreeMap;

use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, named};
use crate::linux::boot_parameters::BootParameters;
use crate::linux::kernel::COMMAND_LINE;
use crate::linux::pci::{PciDevice, PciDevices};
use crate::linux::root::ReadError;

/// Parameters that change what is enumerated, how, or into which groups.
const NAMES: [&str; 7] =
    ["pci", "iommu", "intel_iommu", "amd_iommu", "pcie_aspm", "pcie_ports", "vga_default"];
const PREFIXES: [&str; 7] =
    ["pci.", "pciehp.", "iommu.", "vfio.", "vfio_pci.", "vfio_iommu_type1.", "iommufd."];
/// Lets VFIO give out devices that no IOMMU confines.
const UNSAFE_MODE: &str = "vfio.enable_unsafe_noiommu_mode";
/// Words of `pci=` by which a kernel gives out numbers and addresses anew.
const RENUMBERS: [&str; 3] = ["assign-busses", "realloc", "use_crs=off"];

/// The target enumerates PCI as the running kernel did: same parameters, none that renumbers, and no device to
/// preserve has the boot's framebuffer. `next`: command line of the target; `preserved`: addresses.
pub fn pci_enumeration_stable(
    running: Result<&BootParameters, &ReadError>,
    next: Option<&BootParameters>,
    devices: Result<&PciDevices, &ReadError>,
    preserved: &[&str],
) -> Gate {
    let mut found = Findings::of(GateId::PciEnumerationStable, "");
    match (running, next) {
        (Ok(running), Some(next)) => compare(&mut found, &chosen(running), &chosen(next)),
        (Err(error), _) => found.unknown(error.to_string(), "mount /proc"),
        (_, None) => found.unknown("the target's command line is not known", "name a target"),
    }
    match devices {
        Ok(devices) => {
            framebuffer(&mut found, devices, preserved);
            unconfined(&mut found, devices, preserved, next);
        }
        Err(error) => found.unknown(error.to_string(), "mount /sys"),
    }
    found.gate()
}

fn chosen(parameters: &BootParameters) -> BTreeMap<String, Vec<String>> {
    parameters.chosen(|name| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

fn compare(
    found: &mut Findings,
    running: &BTreeMap<String, Vec<String>>,
    next: &BTreeMap<String, Vec<String>>,
) {
    let words = running.get("pci").into_iter().chain(next.get("pci")).flatten();
    let words: Vec<&str> = words.flat_map(|value| value.split(',')).collect();
    if let Some(word) = words.iter().find(|word| RENUMBERS.iter().any(|bad| word.starts_with(bad))) {
        found.bad(
            format!("command line: pci={word} gives out numbers or addresses anew"),
            format!("boot without pci={word}"),
        );
    }
    let differing: Vec<String> = running
        .keys()
        .chain(next.keys())
        .filter(|name| running.get(*name) != next.get(*name))
        .map(|name| format!("{name}= {} now, {} then", shown(running.get(name)), shown(next.get(name))))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    if differing.is_empty() {
        found.good(format!("{COMMAND_LINE} and the target's agree in pci=, iommu=, vfio= and their like"));
    } else {
        found.bad(
            format!("{COMMAND_LINE} and the target's differ: {}", named(&differing)),
            "make them equal in the target's command line",
        );
    }
}

fn shown(values: Option<&Vec<String>>) -> String {
    values.map_or_else(|| "absent".to_owned(), |values| values.join(" "))
}

/// Without an IOMMU VFIO gives out a device only in a mode that is off by default.
fn unconfined(found: &mut Findings, devices: &PciDevices, preserved: &[&str], next: Option<&BootParameters>) {
    let none = preserved.iter().find(|address| devices.get(address).is_some_and(PciDevice::is_unconfined));
    if let (Some(address), Some(next)) = (none, next)
        && next.switch(UNSAFE_MODE) != Some(true)
    {
        found.unknown(
            format!("target's command line: no {UNSAFE_MODE}=1, without which nobody gets {address} back: it has no IOMMU"),
            format!("append {UNSAFE_MODE}=1 to it"),
        );
    }
}

fn framebuffer(found: &mut Findings, devices: &PciDevices, preserved: &[&str]) {
    for address in preserved {
        match devices.get(address) {
            Some(device) if device.boot_vga => found.bad(
                format!(
                    "/sys/bus/pci/devices/{address}/boot_vga: 1: the next kernel draws its console there"
                ),
                "give the host another console device",
            ),
            Some(_) => {}
            None => found.unknown(
                format!("/sys/bus/pci/devices/{address} cannot be read"),
                "look whether the device is still there",
            ),
        }
    }
}
