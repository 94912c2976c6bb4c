use std::collections::BTreeMap;

use liveupdate_node_core::gate::{Gate, GateId};

use super::next_kernel::Placed;
use super::{Findings, NextKernel, named};
use crate::linux::driver::MODULE;
use crate::linux::pci::PciDevice;

/// What only one driver of the kernel takes: its option, and the call that `initcall_blacklist=` names. For all
/// else the bundle's modules have to tell what is built in.
const KNOWN: [(Takes, &str, &str); 2] = [
    (Takes::Class("0108"), "CONFIG_BLK_DEV_NVME", "nvme_init"),
    (Takes::Vendor("1af4"), "CONFIG_VIRTIO_PCI", "virtio_pci_driver_init"),
];

enum Takes {
    Class(&'static str),
    Vendor(&'static str),
}

impl Takes {
    fn fits(&self, device: &PciDevice) -> bool {
        match self {
            Self::Class(class) => device.class == *class,
            Self::Vendor(vendor) => device.vendor.eq_ignore_ascii_case(vendor),
        }
    }
}

/// No driver of the target's own takes the device before ours does. Ours claims what came through the jump as soon
/// as it is there: before modules when the shim loads it or it is built in, never before what is built in.
pub fn native_driver_race(address: &str, device: Option<&PciDevice>, next: NextKernel<'_>) -> Gate {
    let mut found = Findings::of(GateId::NativeDriverRace, address);
    let Some(device) = device else {
        found.unknown(
            format!("/sys/bus/pci/devices/{address} cannot be read"),
            "look whether the device is still there",
        );
        return found.gate();
    };
    let first = format!("build the bundle with --driver '{MODULE}.ko', which the shim loads first");
    match next.driver() {
        Placed::First => shim(&mut found, device, next),
        Placed::BuiltIn => found.good(format!("target's image: {MODULE} is there before any module")),
        Placed::AmongModules => {
            found.unknown(
                format!("{MODULE} is loaded as any other module: which is first does not show"),
                first,
            );
        }
        Placed::Nowhere => found.bad(format!("the target has no {MODULE} that could claim it"), first),
        Placed::Unknown => found.unknown("from where the target has the driver cannot be read", first),
    }
    built_in(&mut found, device, next);
    found.gate()
}

/// The shim loads in the order that it was given.
fn shim(found: &mut Findings, device: &PciDevice, next: NextKernel<'_>) {
    let order = format!("name the driver '{MODULE}.ko' first when the bundle is built");
    let before = next.contents.map_or(&[][..], |contents| contents.before.as_slice());
    let mut in_time = true;
    for (path, takes) in before {
        match takes {
            Err(error) => found.unknown(format!("{path}, loaded before {MODULE}: {error}"), &order),
            Ok(takes) if takes.is_empty() => continue,
            Ok(_) if device.modalias.is_empty() => {
                found
                    .unknown(format!("cannot tell whether {path}, loaded before {MODULE}, takes it"), &order);
            }
            Ok(takes) if takes.iter().any(|alias| glob(alias, &device.modalias)) => {
                found.bad(format!("shim: {path} takes it, and is loaded before {MODULE}"), &order);
            }
            Ok(_) => continue,
        }
        in_time = false;
    }
    if in_time {
        found.good(format!("shim: {MODULE} is loaded before any module that takes it"));
    }
}

fn built_in(found: &mut Findings, device: &PciDevice, next: NextKernel<'_>) {
    let as_module = "build that driver as a module in the target";
    let listed = next.contents.ok().and_then(|contents| contents.built_in.as_ref());
    if let Some(listed) = listed.filter(|_| !device.modalias.is_empty()) {
        let taking = taking(listed, &device.modalias);
        if taking.is_empty() {
            found.good("modules.builtin.modinfo: no built-in driver takes it");
        } else {
            found.bad(format!("modules.builtin.modinfo: built in for it: {}", named(&taking)), as_module);
        }
        return;
    }
    let config = next.image.ok().and_then(|image| image.config.as_ref().ok());
    let known = KNOWN.iter().find(|(takes, _, _)| takes.fits(device));
    let Some((config, (_, option, call))) = config.zip(known) else {
        found.unknown(
            format!(
                "which drivers for {}:{} are built into the target does not show",
                device.vendor, device.device
            ),
            "build the bundle with --modules: modules.builtin.modinfo tells",
        );
        return;
    };
    let blacklist = next.parameters.chosen(|name| name == "initcall_blacklist");
    let mut kept_out = blacklist.values().flatten().flat_map(|calls| calls.split(','));
    match (config.built_in(option), kept_out.any(|other| other == *call)) {
        (false, _) => found.good(format!("target's configuration: {}", config.line(option))),
        (true, true) => found.good(format!("target's command line: initcall_blacklist={call}")),
        (true, false) => found.bad(
            format!("target's configuration: {option}=y: it takes the device before {MODULE} can"),
            format!("{as_module}, or append initcall_blacklist={call} to its command line"),
        ),
    }
}

/// Built-in drivers with an alias that fits. A driver for vfio alone takes nothing by itself.
fn taking<'a>(listed: &'a BTreeMap<String, Vec<String>>, modalias: &str) -> Vec<&'a str> {
    let fits = |aliases: &Vec<String>| aliases.iter().any(|alias| glob(alias, modalias));
    let ours = |name: &str| name.replace('-', "_") == MODULE;
    listed
        .iter()
        .filter(|(name, aliases)| !ours(name) && fits(aliases))
        .map(|(name, _)| name.as_str())
        .collect()
}

/// Whether a pattern with stars fits the whole text.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn aliases_fit_as_a_whole() {
        let nvme = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
        for (pattern, fits) in [
            ("pci:v*d*sv*sd*bc01sc08i02*", true),
            ("pci:v00001B36d00000010sv*sd*bc*sc*i*", true),
            ("pci:v00001B36d00000011sv*sd*bc*sc*i*", false),
            ("pci:v*d*sv*sd*bc02sc*i*", false),
            (nvme, true),
            ("pci:", false),
            ("*", true),
            ("*02", true),
            ("*03", false),
        ] {
            assert_eq!(glob(pattern, nvme), fits, "{pattern}");
        }
    }
}
