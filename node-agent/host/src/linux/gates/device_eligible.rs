use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, named};
use crate::linux::driver::{DRIVER, folder};
use crate::linux::pci::{PciDevice, PciDevices};
use crate::linux::processes::Processes;
use crate::linux::root::ReadError;

/// The device is bound to a VFIO driver, awake, no virtual function and has none; its whole group and all that
/// a reset of it would reset belongs to the same holder.
pub fn device_eligible(
    address: &str,
    devices: Result<&PciDevices, &ReadError>,
    processes: Result<&Processes, &ReadError>,
) -> Gate {
    let mut found = Findings::of(GateId::DeviceEligible, address);
    let all = match devices {
        Ok(all) => all,
        Err(error) => {
            found.unknown(error.to_string(), "mount /sys");
            return found.gate();
        }
    };
    let at = format!("/sys/bus/pci/devices/{address}");
    let Some(device) = all.get(address) else {
        match all.skipped.iter().find(|error| error.to_string().contains(address)) {
            Some(error) => found.unknown(error.to_string(), "look at the device and the kernel log"),
            None => found.bad(format!("{at}: no such device"), "look whether the device is still there"),
        }
        return found.gate();
    };
    own(&mut found, device, &at);
    neighbours(&mut found, device, all, processes);
    found.gate()
}

fn own(found: &mut Findings, device: &PciDevice, at: &str) {
    let driver = device.driver.as_deref().unwrap_or("none");
    match &device.vfio {
        Some(name) => found.good(format!("{at}: driver {driver}, {name}")),
        None => found.bad(
            format!("{at}: driver {driver}, no vfio-dev: no VFIO driver has it, or one without device nodes"),
            "bind it to a VFIO driver, on a kernel with CONFIG_VFIO_DEVICE_CDEV=y",
        ),
    }
    if device.hands_over {
        found.good(format!("{} is there: its driver can hand it over", folder(&device.address)));
    } else {
        found.bad(
            format!("{at}: driver {driver}, no liveupdate folder: that driver cannot hand it over"),
            format!("bind it to {DRIVER}"),
        );
    }
    if let Some(parent) = &device.physical_function {
        found.bad(
            format!("{at}/physfn: a virtual function of {parent}, which would go with it"),
            "pass a whole device through, or let this one be stopped (onUpdate)",
        );
    }
    if device.virtual_functions > 0 {
        found.bad(
            format!("{at}/sriov_numvfs: {}", device.virtual_functions),
            "disable its virtual functions before it is passed through",
        );
    }
    match device.power_state.as_deref() {
        Some("D0") => found.good(format!("{at}/power_state: D0")),
        Some("unknown") | None => found.unknown(
            format!("{at}/power_state: not told"),
            "use the device once, or boot a kernel that shows it",
        ),
        Some(state) => found.bad(
            format!("{at}/power_state: {state}: asleep"),
            "load vfio-pci with disable_idle_d3=1, or let the guest wake it",
        ),
    }
}

fn neighbours(
    found: &mut Findings,
    device: &PciDevice,
    all: &PciDevices,
    processes: Result<&Processes, &ReadError>,
) {
    let mut mates: Vec<(&PciDevice, &str)> =
        all.group_mates(device).map(|mate| (mate, "in its IOMMU group")).collect();
    for mate in all.reset_mates(device) {
        if !mates.iter().any(|(known, _)| known.address == mate.address) {
            mates.push((mate, "reset together with it"));
        }
    }
    if mates.is_empty() {
        let group = device
            .group
            .as_deref()
            .map_or_else(|| "no IOMMU group".to_owned(), |group| format!("IOMMU group {group}"));
        found.good(format!("{group}, nobody else in it or reset with it"));
        return;
    }
    let processes = match processes {
        Ok(processes) => processes,
        Err(error) => {
            found.unknown(error.to_string(), "let the agent see the host's processes (hostPID)");
            return;
        }
    };
    let holder = |address: &str| {
        processes
            .holding
            .iter()
            .find(|process| process.devices().any(|held| held == address))
            .map(|process| process.pid)
    };
    let own = holder(&device.address);
    let strangers: Vec<String> = mates
        .iter()
        .filter(|(mate, _)| mate.driver.is_some() && (own.is_none() || holder(&mate.address) != own))
        .map(|(mate, how)| format!("{} ({}, {how})", mate.address, mate.driver.as_deref().unwrap_or("none")))
        .collect();
    if strangers.is_empty() {
        found.good("all in its group and reset domain are its holder's, or nobody's");
    } else {
        found.bad(
            format!("shares its fate with devices that are not its holder's: {}", named(&strangers)),
            "pass all of them to the same guest, or unbind them",
        );
    }
}
