//! PCI devices and IOMMU groups, from sysfs.

use super::root::{ReadError, Root, optional};

const DEVICES: &str = "/sys/bus/pci/devices";
const GROUPS: &str = "/sys/kernel/iommu_groups";

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciDevice {
    /// `0000:01:00.0`
    pub address: String,
    /// Four hex digits.
    pub vendor: String,
    /// Four hex digits.
    pub device: String,
    /// Four hex digits, base class and subclass.
    pub class: String,
    /// Driver that is bound; none when none is.
    pub driver: Option<String>,
    /// Name of its VFIO device (`vfio0`), when a VFIO driver has it.
    pub vfio: Option<String>,
    /// IOMMU group; none without an IOMMU.
    pub group: Option<String>,
    /// The group's name, when it has one: VFIO makes a group of its own for a device that no IOMMU confines.
    pub group_name: Option<String>,
    /// How the group's IOMMU translates by default (`DMA`, `identity`, …).
    pub group_type: Option<String>,
    /// What drivers are chosen by (`pci:v00001B36d…`).
    pub modalias: String,
    /// Bridges above it, the nearest last.
    pub bridges: Vec<String>,
    /// The physical function that it belongs to, when it is a virtual one.
    pub physical_function: Option<String>,
    /// Virtual functions that are enabled on it.
    pub virtual_functions: u32,
    /// `D0`, `D3hot`, …; none when the kernel does not show it.
    pub power_state: Option<String>,
    /// How it can be reset, the kernel's first choice first; empty: it cannot.
    pub reset_methods: Vec<String>,
    /// Its driver can hand it over, and tells of it under `liveupdate/`.
    pub hands_over: bool,
    /// It has the boot's framebuffer.
    pub boot_vga: bool,
}

impl PciDevice {
    /// It leads to other devices and is nobody's to hold.
    pub fn is_bridge(&self) -> bool {
        self.class.starts_with("06")
    }

    /// No IOMMU confines its DMA: VFIO has it in its mode without one, or it is in no group.
    pub fn is_unconfined(&self) -> bool {
        let named = self.vfio.as_deref().is_some_and(|name| name.starts_with("noiommu-"));
        named || self.group.is_none() || self.group_name.as_deref() == Some("vfio-noiommu")
    }
}

/// All that were found, and what could not be read.
#[derive(Clone, Debug, Default)]
pub struct PciDevices {
    /// By address.
    pub devices: Vec<PciDevice>,
    /// Devices that could not be read whole: each reason names its file.
    pub skipped: Vec<ReadError>,
}

impl PciDevices {
    /// Reads all of them.
    ///
    /// # Errors
    /// [`ReadError`] when they cannot even be listed.
    pub fn read(root: &Root) -> Result<Self, ReadError> {
        let mut all = Self::default();
        for address in root.names(DEVICES)? {
            match device(root, address) {
                Ok(device) => all.devices.push(device),
                Err(error) => all.skipped.push(error),
            }
        }
        Ok(all)
    }

    /// The device of that address.
    pub fn get(&self, address: &str) -> Option<&PciDevice> {
        self.devices.iter().find(|device| device.address == address)
    }

    /// Other functions of its IOMMU group that somebody could hold.
    pub fn group_mates<'a>(&'a self, of: &'a PciDevice) -> impl Iterator<Item = &'a PciDevice> {
        let group = of.group.as_deref();
        let mates =
            self.devices.iter().filter(move |other| group.is_some() && other.group.as_deref() == group);
        mates.filter(|other| other.address != of.address && !other.is_bridge())
    }

    /// Other functions that a reset of this one would reset too, by the reset that would be used. Where the kernel has none for
    /// it alone, VFIO's is left, which is that of its bus.
    pub fn reset_mates<'a>(&'a self, of: &'a PciDevice) -> impl Iterator<Item = &'a PciDevice> {
        let bus_wide = matches!(of.reset_methods.first().map(String::as_str), None | Some("bus" | "cxl_bus"));
        let bridge = of.bridges.last();
        let below = self
            .devices
            .iter()
            .filter(move |other| bus_wide && bridge.is_some() && other.bridges.last() == bridge);
        below.filter(|other| other.address != of.address)
    }
}

fn device(root: &Root, address: String) -> Result<PciDevice, ReadError> {
    let at = |name: &str| format!("{DEVICES}/{address}/{name}");
    let hex = |name: &str, digits: usize| {
        let text = root.line(&at(name))?;
        let found = text.strip_prefix("0x").filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let found = found.and_then(|hex| hex.get(..digits));
        found.map(str::to_owned).ok_or_else(|| ReadError::malformed(&at(name), &text, "a PCI id"))
    };
    let vfio = optional(root.names(&at("vfio-dev")))?.and_then(|names| names.into_iter().next());
    let group = optional(root.link_name(&at("iommu_group")))?;
    let of_group = |name: &str| match &group {
        Some(group) => optional(root.line(&format!("{GROUPS}/{group}/{name}"))),
        None => Ok(None),
    };
    let methods = optional(root.line(&at("reset_method")))?.unwrap_or_default();
    Ok(PciDevice {
        vendor: hex("vendor", 4)?,
        device: hex("device", 4)?,
        class: hex("class", 4)?,
        driver: optional(root.link_name(&at("driver")))?,
        vfio,
        group_name: of_group("name")?,
        group_type: of_group("type")?,
        modalias: optional(root.line(&at("modalias")))?.unwrap_or_default(),
        bridges: bridges(&root.link(&format!("{DEVICES}/{address}"))?, &address),
        physical_function: optional(root.link_name(&at("physfn")))?,
        virtual_functions: optional(root.number(&at("sriov_numvfs")))?.unwrap_or(0),
        power_state: optional(root.line(&at("power_state")))?,
        reset_methods: methods.split_whitespace().map(str::to_owned).collect(),
        hands_over: root.exists(&at("liveupdate")),
        boot_vga: optional(root.flag(&at("boot_vga")))?.unwrap_or(false),
        group,
        address,
    })
}

/// Addresses on the way to a device (`../../../devices/pci0000:00/0000:00:02.0/0000:01:00.0`).
fn bridges(link: &str, own: &str) -> Vec<String> {
    link.split('/').filter(|part| is_address(part) && *part != own).map(str::to_owned).collect()
}

/// The last PCI address in a path of sysfs.
pub fn address_in(path: &str) -> Option<&str> {
    path.split('/').rev().find(|part| is_address(part))
}

/// `0000:01:00.0`
fn is_address(text: &str) -> bool {
    let hex =
        |part: &str, digits| part.len() == digits && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    let mut parts = text.split([':', '.']);
    let domain = parts.next().is_some_and(|domain| domain.len() >= 4 && hex(domain, domain.len()));
    domain
        && text.as_bytes().get(text.len().wrapping_sub(2)) == Some(&b'.')
        && parts.next().is_some_and(|bus| hex(bus, 2))
        && parts.next().is_some_and(|slot| hex(slot, 2))
        && parts.next().is_some_and(|function| hex(function, 1))
        && parts.next().is_none()
}

/// A device that a VFIO driver has: a process could hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Openable {
    /// `0000:01:00.0`
    pub address: String,
    /// Name of its VFIO device (`vfio0`); older kernels have none.
    pub vfio: Option<String>,
    /// IOMMU group; none without an IOMMU.
    pub group: Option<String>,
}

/// All devices that a process could hold. Reads little: guests may stand still meanwhile.
///
/// # Errors
/// [`ReadError`].
pub fn openable(root: &Root) -> Result<Vec<Openable>, ReadError> {
    let mut found = Vec::new();
    for address in root.names(DEVICES)? {
        let at = |name: &str| format!("{DEVICES}/{address}/{name}");
        let vfio = optional(root.names(&at("vfio-dev")))?.and_then(|names| names.into_iter().next());
        // Vendors' drivers are called so, too.
        let driver = optional(root.link_name(&at("driver")))?;
        if vfio.is_some() || driver.is_some_and(|driver| driver.contains("vfio")) {
            let group = optional(root.link_name(&at("iommu_group")))?;
            found.push(Openable { address, vfio, group });
        }
    }
    Ok(found)
}

/// Addresses of all members of an IOMMU group.
///
/// # Errors
/// [`ReadError`].
pub fn group_members(root: &Root, group: &str) -> Result<Vec<String>, ReadError> {
    root.names(&format!("{GROUPS}/{group}/devices"))
}
