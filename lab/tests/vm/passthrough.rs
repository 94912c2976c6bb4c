//! Devices of a test's guest.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use liveupdate_crds::update::{DeviceMatch, DeviceRule, OnShortfall, OnUpdate};
use liveupdate_crds::{Acknowledgement, Continuity, LiveUpdateSpec};
use liveupdate_lab::vm::driver::{DRIVER, MODULE, WITHOUT_IOMMU, module};
use liveupdate_lab::vm::passthrough::{Behind, Nvme, Slot, controllers};
use liveupdate_lab::vm::witness::{Sight, Witness};
use liveupdate_lab::vm::{GuestOptions, Hold, Kernels, Variant};
use liveupdate_lab_guest::{BIND_PARAMETER, MODULES_PARAMETER};

/// Commands a second of a disk whose commands last until its device is bound again.
pub(crate) const SLOW: u32 = 5;
/// Commands a second of a disk that does some in each part of a jump that is no longer than a tenth of a second.
pub(crate) const FAST: u32 = 40;
/// Commands under way at each disk.
const DEPTH: u32 = 63;

/// What a guest is to have. None by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passthrough {
    /// NVMe controllers.
    pub(crate) devices: Vec<Slot>,
    /// The machine has an IOMMU, and it is on.
    pub(crate) iommu: bool,
}

/// What a guest has.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) devices: Vec<Nvme>,
    witness: Witness,
}

fn in_guest(release: &str) -> String {
    format!("lib/modules/{release}/{MODULE}")
}

impl Passthrough {
    /// Two controllers behind such bridges, the first one slow.
    pub(crate) fn two(behind: Behind) -> Passthrough {
        let devices = [SLOW, FAST].map(|commands_per_second| Slot { behind, commands_per_second }).to_vec();
        Passthrough { devices, ..Passthrough::default() }
    }

    /// What kernels have on their command line for it, all the same.
    pub(crate) fn parameters(&self) -> Vec<String> {
        let iommu = ["intel_iommu=on", "iommufd.allow_unsafe_interrupts=1"].map(str::to_owned);
        iommu.into_iter().filter(|_| self.iommu).collect()
    }

    /// Kernel modules that the guest's initrd has, each with its place.
    pub(crate) fn modules(&self) -> Vec<(String, PathBuf)> {
        if self.devices.is_empty() {
            return Vec::new();
        }
        let kernels = Kernels::find().unwrap();
        let of = |variant| (in_guest(&kernels.kernel(variant).unwrap().release), module(variant).unwrap());
        [Variant::Lu1, Variant::Lu2].map(of).to_vec()
    }

    /// Gives QEMU and the guest's first kernel what it takes.
    pub(crate) fn pass(&self, folder: &Path, options: &mut GuestOptions) -> Passed {
        let witness = Witness::of(folder, &options.name);
        let devices = controllers(folder, &options.name, &self.devices).unwrap();
        if devices.is_empty() {
            return Passed { devices, witness };
        }
        if self.iommu {
            options.qemu.extend(["-device", "intel-iommu,intremap=off"].map(Into::into));
        }
        options.append.extend(self.parameters());
        options.qemu.extend(devices.iter().flat_map(Nvme::arguments));
        options.qemu.extend(witness.arguments());
        options.append.push(WITHOUT_IOMMU.into());
        options.append.push(format!("{MODULES_PARAMETER}=/{}:enable=1", in_guest("{release}")));
        let bind: Vec<String> = devices.iter().map(|nvme| format!("{}@{DRIVER}", nvme.address)).collect();
        options.append.push(format!("{BIND_PARAMETER}={}", bind.join(",")));
        Passed { devices, witness }
    }
}

impl Passed {
    /// What the holder is told, beside what a test tells it.
    pub(crate) fn tell(&self, hold: &mut Hold) {
        let depth = hold.args.iter().any(|word| word.starts_with("--depth="));
        hold.args.extend(self.devices.iter().map(|nvme| format!("--device={}", nvme.address)));
        if !self.devices.is_empty() && !depth {
            hold.args.push(format!("--depth={DEPTH}"));
        }
    }

    /// What the witness saw of a device.
    pub(crate) fn sight(&self, device: &Nvme, from: SystemTime, to: SystemTime) -> Sight {
        self.witness.sight(&device.address, &device.bridges, from, to).unwrap()
    }
}

/// An update that preserves them, with all risks acknowledged.
pub(crate) fn preserve(spec: &mut LiveUpdateSpec) {
    spec.acknowledge =
        vec![Acknowledgement::NoKdump, Acknowledgement::VfioPciLiveUpdate, Acknowledgement::UnconfinedDma];
    spec.devices = vec![DeviceRule {
        name: "nvme".into(),
        r#match: DeviceMatch { class: Some("0108".into()), ..DeviceMatch::default() },
        on_update: OnUpdate::Preserve,
        minimum_continuity: Some(Continuity::Reinitialised),
        on_shortfall: OnShortfall::Block,
    }];
}
