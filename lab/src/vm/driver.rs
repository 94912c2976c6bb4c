//! The kernel driver that hands devices over, for kernels of the lab; and bundles that bring it.

use std::fs;
use std::path::{Path, PathBuf};

use liveupdate_host::bundle::shim::{Driver, Shim};
use liveupdate_host::bundle::{Inputs, MANIFEST, build};
use liveupdate_lab_guest::NETWORK_PARAMETER;
use liveupdate_proto::causes::chain;

use super::options::GUEST_ADDRESS;
use super::{Kernel, Kernels, Kit, KitBundle, Variant, static_binaries};
use crate::{Error, Result};

/// Its name in sysfs.
pub const DRIVER: &str = "vfio-pci-liveupdate";
/// Its file.
pub const MODULE: &str = "vfio_pci_liveupdate.ko";
/// Devices without an IOMMU can be opened. On every kernel of a kit with devices: the gates ask that it be the same.
pub const WITHOUT_IOMMU: &str = "vfio.enable_unsafe_noiommu_mode=1";

/// What a bundle with the driver is like.
#[derive(Clone, Debug)]
pub struct Driven {
    /// Its name under the bundle root.
    pub name: String,
    /// Its kernel.
    pub kernel: Kernel,
    /// Modules that the shim loads, in order, with their parameters.
    pub drivers: Vec<(PathBuf, String)>,
    /// Added to the command line.
    pub append: Vec<String>,
}

/// The folder with the driver for each kernel that has live update, built first when it is missing.
///
/// # Errors
/// When it cannot be built.
pub fn modules() -> Result<PathBuf> {
    crate::built::by("kernels/driver.sh", "the driver")
}

/// The driver for one kernel.
///
/// # Errors
/// As [`modules`].
pub fn module(kernel: Variant) -> Result<PathBuf> {
    Ok(modules()?.join(kernel.name()).join(MODULE))
}

/// The driver that does one thing wrong, as its parameter `spoil` says (`driver/spoilt.patch`), for one kernel.
///
/// # Errors
/// As [`modules`].
pub fn spoilt(kernel: Variant) -> Result<PathBuf> {
    let folder = crate::built::by("driver/spoilt.sh", "the spoilt driver")?;
    Ok(folder.join(kernel.name()).join(MODULE))
}

impl Driven {
    /// With the driver as it is shipped: whether it is enabled is for the node to say.
    ///
    /// # Errors
    /// As [`modules`], or when there is no such kernel.
    pub fn new(variant: Variant) -> Result<Driven> {
        let drivers = vec![(module(variant)?, String::new())];
        let kernel = Kernels::find()?.kernel(variant)?;
        Ok(Driven { name: variant.name().to_owned(), kernel, drivers, append: Vec::new() })
    }

    /// On a kernel whose own driver for virtio over PCI, which is built in and would be there first, is kept out; it comes as
    /// a module, after ours. Only so a virtio device comes through a jump. The guest's own card comes with it, too late for
    /// `ip=`.
    ///
    /// # Errors
    /// As [`Driven::new`].
    pub fn without_virtio(variant: Variant) -> Result<Driven> {
        let mut driven = Driven::new(variant)?;
        let folder = crate::built::by("driver/virtio.sh", "virtio as a module")?;
        driven.drivers.push((folder.join(variant.name()).join("lab_virtio_pci.ko"), String::new()));
        driven.append.extend([
            "initcall_blacklist=virtio_pci_driver_init".to_owned(),
            "ip=off".to_owned(),
            format!("{NETWORK_PARAMETER}=eth0={GUEST_ADDRESS}/24"),
        ]);
        Ok(driven)
    }

    /// A kernel that has it built in.
    ///
    /// # Errors
    /// As [`Kernel::with_driver`].
    pub fn built_in() -> Result<Driven> {
        let kernel = Kernel::with_driver()?;
        Ok(Driven { name: kernel.release.clone(), kernel, drivers: Vec::new(), append: Vec::new() })
    }

    /// With the driver that does this wrong.
    ///
    /// # Errors
    /// As [`spoilt`].
    pub fn spoilt(kernel: Variant, how: &str) -> Result<Driven> {
        let drivers = vec![(spoilt(kernel)?, format!("spoil={how}"))];
        Ok(Driven { name: format!("{}-{how}", kernel.name()), drivers, ..Driven::new(kernel)? })
    }
}

impl Kit {
    /// Puts a bundle on the disks whose shim loads drivers, made as `kubectl liveupdate bundle build` makes one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn driven_bundle(&self, driven: &Driven) -> Result<KitBundle> {
        let kernel = &driven.kernel;
        let unusable = |why: String| Error::Kernels { reason: format!("bundle {}: {why}", driven.name) };
        let read = |path: &Path| fs::read(path).map_err(Error::file("read", path));
        let driver = |(path, parameters): &(PathBuf, String)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok(Driver { name, module: read(path)?, parameters: parameters.clone() })
        };
        let shim = Shim {
            init: read(&static_binaries::fresh("liveupdate-shim", "liveupdate-init")?)?,
            drivers: driven.drivers.iter().map(driver).collect::<Result<_>>()?,
            keeper: None,
        };
        let mut line = vec![self.command_line(), WITHOUT_IOMMU.to_owned()];
        line.extend(driven.append.iter().cloned());
        let inputs = Inputs {
            image: kernel.image(),
            initrd: Some(self.initrd().to_owned()),
            shim: Some(shim),
            command_line: line.join(" "),
            provenance: [("builder".to_owned(), "the lab".to_owned())].into(),
            ..Inputs::default()
        };
        let folder = self.bundle_folder(&driven.name)?;
        build(&inputs, &folder).map_err(|error| unusable(chain(&error)))?;
        self.sign(&driven.name, &kernel.release, &read(&folder.join(MANIFEST))?)
    }
}
