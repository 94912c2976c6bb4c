//! Giving devices to a guest: to QEMU, to the guest's first kernel, and to its holder.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use liveupdate_lab_guest::{BIND_PARAMETER, MODULES_PARAMETER};

use super::driver::{DRIVER, MODULE, WITHOUT_IOMMU, module};
use super::nic::Nic;
use super::passthrough::{FIRST_SLOT, Nvme, Slot, controllers};
use super::witness::{Sight, Watched, Witness};
use super::{GuestOptions, Hold, Kernels, Variant};
use crate::Result;

/// Commands under way at each disk.
const DEPTH: u32 = 63;

/// What a guest is to have. None by default.
#[derive(Clone, Debug, Default)]
pub struct Passthrough {
    /// NVMe controllers; at least one, if there is anything.
    pub devices: Vec<Slot>,
    /// A NIC behind them, which the holder has, too. Every kernel of the lab has a driver for it built in: it comes through a
    /// jump into one alone that [`Driven::without_virtio`](super::driver::Driven::without_virtio) makes.
    pub nic: bool,
    /// The machine has an IOMMU, and it is on.
    pub iommu: bool,
}

/// What a guest has.
#[derive(Clone, Debug)]
pub struct Passed {
    /// As the guest numbers them.
    pub devices: Vec<Nvme>,
    /// Behind them.
    pub nic: Option<Nic>,
    witness: Witness,
}

fn in_guest(release: &str) -> String {
    format!("lib/modules/{release}/{MODULE}")
}

impl Passthrough {
    /// What kernels have on their command line for it, all the same.
    pub fn parameters(&self) -> Vec<String> {
        let iommu = ["intel_iommu=on", "iommufd.allow_unsafe_interrupts=1"].map(str::to_owned);
        iommu.into_iter().filter(|_| self.iommu).collect()
    }

    /// Kernel modules that the guest's initrd has, each with its place.
    ///
    /// # Errors
    /// When they cannot be built.
    pub fn modules(&self) -> Result<Vec<(String, PathBuf)>> {
        if self.devices.is_empty() {
            return Ok(Vec::new());
        }
        let kernels = Kernels::find()?;
        let of = |variant| Ok((in_guest(&kernels.kernel(variant)?.release), module(variant)?));
        [Variant::Lu1, Variant::Lu2].into_iter().map(of).collect()
    }

    /// Gives QEMU and the guest's first kernel what it takes.
    ///
    /// # Errors
    /// When a disk cannot be written.
    pub fn pass(&self, folder: &Path, options: &mut GuestOptions) -> Result<Passed> {
        let witness = Witness::of(folder, &options.name);
        let devices = controllers(folder, &options.name, &self.devices)?;
        let Some(last) = devices.last() else {
            return Ok(Passed { devices, nic: None, witness });
        };
        let (number, bus) = (devices.len(), last.bus + 1);
        let nic = self.nic.then(|| Nic::new(folder, &options.name, FIRST_SLOT, number, bus));
        if self.iommu {
            options.qemu.extend(["-device", "intel-iommu,intremap=off"].map(Into::into));
        }
        options.append.extend(self.parameters());
        options.qemu.extend(devices.iter().flat_map(Nvme::arguments));
        options.qemu.extend(nic.iter().flat_map(|nic| nic.arguments(FIRST_SLOT)));
        options.qemu.extend(witness.arguments(self.nic));
        options.append.push(WITHOUT_IOMMU.into());
        options.append.push(format!("{MODULES_PARAMETER}=/{}:enable=1", in_guest("{release}")));
        let addresses = devices.iter().map(|nvme| &nvme.address).chain(nic.iter().map(|nic| &nic.address));
        let bind: Vec<String> = addresses.map(|address| format!("{address}@{DRIVER}")).collect();
        options.append.push(format!("{BIND_PARAMETER}={}", bind.join(",")));
        Ok(Passed { devices, nic, witness })
    }
}

impl Passed {
    /// Tells the holder of them, and how many commands to have under way unless it was told that.
    pub fn tell(&self, hold: &mut Hold) {
        let depth = hold.args.iter().any(|word| word.starts_with("--depth="));
        let held = self.devices.iter().filter(|nvme| nvme.held).map(|nvme| &nvme.address);
        let held = held.chain(self.nic.iter().map(|nic| &nic.address));
        hold.args.extend(held.map(|address| format!("--device={address}")));
        if !self.devices.is_empty() && !depth {
            hold.args.push(format!("--depth={DEPTH}"));
        }
    }

    /// What the witness saw of a device between two moments.
    ///
    /// # Errors
    /// When its trace cannot be read.
    pub fn sight<'a>(
        &self,
        device: impl Into<Watched<'a>>,
        from: SystemTime,
        to: SystemTime,
    ) -> Result<Sight> {
        self.witness.sight(device.into(), from, to)
    }

    /// All of them, as the witness knows them: the NIC last.
    pub fn watched(&self) -> impl Iterator<Item = Watched<'_>> {
        self.devices.iter().map(Watched::from).chain(self.nic.iter().map(Watched::from))
    }
}
