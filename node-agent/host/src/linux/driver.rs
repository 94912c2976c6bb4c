//! The driver that hands VFIO devices over a jump (`kmod/`), as sysfs shows it: what it is, what the kernel was
//! patched for, and what it saw of each device.

use std::collections::BTreeSet;

use liveupdate_node_core::evidence::{Evidence, FILES, Malformed, Phase};

use super::root::{ReadError, Root, optional};

/// Its module, whether loaded or built in.
pub const MODULE: &str = "vfio_pci_liveupdate";
/// As devices are bound to it.
pub const DRIVER: &str = "vfio-pci-liveupdate";
/// How it is called by the orchestrator: who writes this can only be read by who reads it.
pub const ABI: &str = "liveupdate.dev/vfio-pci-v1";
/// What the strings of all versions of it begin with.
pub const ABI_PREFIX: &str = "liveupdate.dev/vfio-pci-v";
/// Where a device's file leads that was opened by its group, or given back by the driver.
pub const NAMELESS: &str = "anon_inode:[vfio-device]";
/// Its own opt-in.
pub const ENABLE: &str = "enable";
/// Where a patched kernel tells what it was patched for.
pub const PATCHES: &str = "/sys/kernel/vfio_pci_liveupdate_patches";
/// What stands before the same list in its image.
pub const PATCHES_MARK: &str = "vfio-pci-liveupdate-patches: ";

/// What a kernel may be patched for, as it names it.
pub mod feature {
    /// `device_shutdown()` leaves bus mastering of preserved devices on, and of the bridges above them.
    pub const KEEP_BUS_MASTER: &str = "keep-bus-master";
    /// The first open of a device that came through a jump neither resets it nor stops its DMA.
    pub const OPEN_WITHOUT_RESET: &str = "open-without-reset";
    /// COMMAND of devices and bridges is kept as it was at the kernel's first touch.
    pub const ARRIVAL_EVIDENCE: &str = "arrival-evidence";
    /// Modules can register with the orchestrator.
    pub const LUO_EXPORTS: &str = "luo-exports";
    /// Only its holder's file opens a device that came through a jump.
    pub const HANDED_OVER_FILES: &str = "handed-over-files";
    /// Those without which the driver cannot be loaded as a module: it calls what they add.
    pub const LINKED: [&str; 3] = [LUO_EXPORTS, KEEP_BUS_MASTER, HANDED_OVER_FILES];
}

/// The driver on the running kernel.
#[derive(Clone, Debug)]
pub struct Driver {
    /// It is loaded or built in.
    pub present: bool,
    /// Its opt-in; none: it is not there, or has no such parameter.
    pub enabled: Result<Option<bool>, ReadError>,
    /// Its string; none: it is not there, or does not tell.
    pub abi: Result<Option<String>, ReadError>,
    /// What the kernel was patched for; none: it does not tell, as no kernel does that was not.
    pub features: Result<Option<BTreeSet<String>>, ReadError>,
}

impl Driver {
    /// Reads it.
    pub fn read(root: &Root) -> Self {
        let at = |name: &str| format!("/sys/module/{MODULE}/parameters/{name}");
        let features = optional(root.line(PATCHES));
        Self {
            present: root.exists(&format!("/sys/module/{MODULE}")),
            enabled: optional(root.flag(&at(ENABLE))),
            abi: optional(root.line(&at("abi"))),
            features: features.map(|line| line.map(|line| features_in(&line))),
        }
    }

    /// It takes devices over: it is there and was opted in.
    pub fn is_enabled(&self) -> bool {
        matches!(self.enabled, Ok(Some(true)))
    }
}

/// The features of a list, with or without the mark before it.
pub fn features_in(line: &str) -> BTreeSet<String> {
    let list = line.strip_prefix(PATCHES_MARK).unwrap_or(line);
    list.split_whitespace().map(str::to_owned).collect()
}

/// The device's file that leads there was opened by its group. What the driver gave back after a jump is called the same;
/// it tells of those that it has in its hands or gave back on this kernel, and takes none that a group opened.
pub fn opened_by_group(root: &Root, link: &str, address: Option<&str>) -> bool {
    let known = |address| {
        let evidence = told(root, address).evidence;
        evidence.retrieved_counter.is_some() || evidence.state.is_some_and(|state| state != Phase::Idle)
    };
    link == NAMELESS && !address.is_some_and(known)
}

/// What the driver tells of a device.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// All that it tells; nothing of a device that is not bound to it.
    pub evidence: Evidence,
    /// Files that made no sense.
    pub malformed: Vec<Malformed>,
    /// Files that are there and could not be read.
    pub unreadable: Vec<ReadError>,
}

/// The folder of what it tells of a device.
pub fn folder(address: &str) -> String {
    format!("/sys/bus/pci/devices/{address}/liveupdate")
}

/// Reads all that it tells of a device. Total: what cannot be read is unknown.
pub fn told(root: &Root, address: &str) -> Told {
    let folder = folder(address);
    let mut told = Told::default();
    for file in FILES {
        match root.text(&format!("{folder}/{file}")) {
            Ok(text) => told.malformed.extend(told.evidence.take(file, &text).err()),
            Err(error) if error.is_absent() => {}
            Err(error) => told.unreadable.push(error),
        }
    }
    told
}
