//! What the guests of one run are made of: kernels, an initrd with the product, bundles, a data disk for each.
//!
//! ```text
//!  <folder>/initrd        liveupdate-lab-init and the programs, or where they are; also every bundle's
//!  <folder>/disk/…        what stands on each guest's data disk at first: /var/lib in the guest
//!  <folder>/<node>.disk   that disk; outlives the jump
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use liveupdate_host::bundle::{Digest, MANIFEST, Manifest, Part, SIGNATURES, Signatures, SigningKey};
use liveupdate_lab_guest::{DATA, DATA_PARAMETER};

use super::node::{NodePlace, Product, VmNode};
use super::options::command_line;
use super::{GuestOptions, Initrd, Kernels, Variant, disk, static_binaries};
use crate::testbed::Testbed;
use crate::trial_bundle::{file, manifest};
use crate::{Error, Result};

/// Sparse: what is not written takes no room.
const DISK_BYTES: u64 = 2 << 30;
const DISK: &str = "/dev/vda";
const BUNDLES: &str = "liveupdate/bundles";
/// Of the programs, on the data disk.
const BIN: &str = "lab/bin";
const SIGNER: &str = "etc/liveupdate/signers/lab.pub";
/// Package and binary of what runs in every guest.
const PROGRAMS: [(&str, &str); 3] = [
    ("liveupdate-keeper", "liveupdate-keeper"),
    ("liveupdate-agent", "liveupdate-agent"),
    ("liveupdate-holder", "liveupdate-hold"),
];

/// Where keeper, agent and reference holder are. They are found in `/bin` either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    /// On the data disk, as on most machines: bundles stay small, and emulation spends no minutes on their digests.
    OnDisk,
    /// In the initrd, as on machines that run from it: nothing is read from a disk between two kernels.
    InInitrd,
}

/// See the module.
#[derive(Debug)]
pub struct Kit {
    folder: PathBuf,
    kernels: Kernels,
    programs: Programs,
    initrd: PathBuf,
    /// Of every kernel, beside those of every guest.
    parameters: Vec<String>,
    /// Signs every bundle of the kit; its public half is in the initrd.
    key: SigningKey,
}

/// A bundle that every guest of the kit finds under its bundle root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KitBundle {
    /// Its name.
    pub name: String,
    /// `sha256:…`
    pub digest: String,
    /// What `uname -r` says under it.
    pub release: String,
}

impl Kit {
    /// Builds what is missing, and writes the initrd into the folder.
    ///
    /// # Errors
    /// When a kernel or a program cannot be built.
    pub fn new(folder: &Path, programs: Programs) -> Result<Kit> {
        Kit::with_modules(folder, programs, &[])
    }

    /// As [`Kit::new`], with kernel modules, each with its path in every guest's initrd.
    ///
    /// # Errors
    /// As [`Kit::new`], or when a module cannot be read.
    pub fn with_modules(folder: &Path, programs: Programs, modules: &[(String, PathBuf)]) -> Result<Kit> {
        let kernels = Kernels::find()?;
        let mut initrd = Initrd::new()?;
        for (path, module) in modules {
            initrd.file(path, module)?;
        }
        for (package, binary) in PROGRAMS {
            let path = format!("bin/{binary}");
            match programs {
                Programs::OnDisk => initrd.link(&path, &format!("{DATA}/{BIN}/{binary}")),
                Programs::InInitrd => initrd.program(&path, &static_binaries::fresh(package, binary)?)?,
            }
        }
        let key = SigningKey::generate()
            .map_err(|error| Error::Kernels { reason: format!("no key to sign bundles: {error}") })?;
        initrd.contents(SIGNER, 0o644, key.public().to_pem().as_bytes());
        let initrd = initrd.write(&folder.join("initrd"))?;
        let parameters = vec![format!("{DATA_PARAMETER}={DISK}")];
        let kit = Kit { folder: folder.to_owned(), kernels, programs, initrd, parameters, key };
        create(&kit.disk_folder())?;
        Ok(kit)
    }

    /// The kernels.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// The initrd of all guests and bundles.
    pub fn initrd(&self) -> &Path {
        &self.initrd
    }

    /// What stands on each guest's data disk at first; `/var/lib` in the guest. Files added here are on the
    /// disks of guests that are started later.
    pub fn disk_folder(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// The folder of the run.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a bundle of that name is, for whoever wants it elsewhere.
    pub fn bundle_place(&self, name: &str) -> PathBuf {
        self.disk_folder().join(BUNDLES).join(name)
    }

    /// Where a bundle of that name is or goes; the folder around it is there.
    pub(super) fn bundle_folder(&self, name: &str) -> Result<PathBuf> {
        let all = self.disk_folder().join(BUNDLES);
        create(&all)?;
        Ok(all.join(name))
    }

    /// The public key of whoever signs the kit's bundles.
    pub fn signer(&self) -> String {
        self.key.public().to_pem()
    }

    /// Gives every kernel one more parameter. Bundles that were made before do not have it.
    #[must_use]
    pub fn parameter(mut self, parameter: &str) -> Kit {
        self.parameters.push(parameter.to_owned());
        self
    }

    /// The command line of every kernel of the kit.
    pub fn command_line(&self) -> String {
        format!("{} {}", command_line(), self.parameters.join(" "))
    }

    /// Puts a bundle of one of the kernels on the disks, under its release.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn bundle(&self, variant: Variant) -> Result<KitBundle> {
        let kernel = self.kernels.kernel(variant)?;
        let image = fs::read(kernel.image()).map_err(Error::file("read", &kernel.image()))?;
        self.bundle_of(&kernel.release, &kernel.release, &image)
    }

    /// Puts a bundle on the disks whose image is these bytes, whatever they are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn bundle_of(&self, name: &str, release: &str, image: &[u8]) -> Result<KitBundle> {
        let initrd = fs::read(&self.initrd).map_err(Error::file("read", &self.initrd))?;
        self.bundle_with(name, release, image, &initrd)
    }

    /// As [`Kit::bundle_of`], with these bytes for an initrd, whatever they are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn bundle_with(&self, name: &str, release: &str, image: &[u8], initrd: &[u8]) -> Result<KitBundle> {
        self.write_bundle(name, release, image, Some(initrd), &self.command_line())
    }

    pub(super) fn write_bundle(
        &self,
        name: &str,
        release: &str,
        image: &[u8],
        initrd: Option<&[u8]>,
        command_line: &str,
    ) -> Result<KitBundle> {
        let folder = self.bundle_folder(name)?;
        create(&folder)?;
        let manifest = Manifest {
            initrd: initrd.map(file),
            provenance: [("builder".to_owned(), "the lab".to_owned())].into(),
            ..manifest(release, command_line, file(image))
        };
        let unusable = |why: String| Error::Kernels { reason: format!("bundle {name}: {why}") };
        let bytes = manifest.to_bytes().map_err(|error| unusable(error.to_string()))?;
        let files = [(Part::Image.file(), image), (MANIFEST, &bytes)];
        for (file, bytes) in files.into_iter().chain(initrd.map(|initrd| (Part::Initrd.file(), initrd))) {
            let path = folder.join(file);
            fs::write(&path, bytes).map_err(Error::file("write", &path))?;
        }
        self.sign(name, release, &bytes)
    }

    /// Signs the manifest of a bundle that is there otherwise.
    pub(super) fn sign(&self, name: &str, release: &str, manifest: &[u8]) -> Result<KitBundle> {
        let unusable = |why: String| Error::Kernels { reason: format!("bundle {name}: {why}") };
        let mut signatures = Signatures::default();
        signatures.sign(manifest, &self.key).map_err(unusable)?;
        let signed = signatures.to_bytes().map_err(unusable)?;
        let path = self.bundle_folder(name)?.join(SIGNATURES);
        fs::write(&path, signed).map_err(Error::file("write", &path))?;
        let digest = Digest::of(manifest).to_string();
        Ok(KitBundle { name: name.to_owned(), digest, release: release.to_owned() })
    }

    /// How a guest of the kit is started; its data disk is made now. The bundle of its own kernel is on it: only
    /// by its image is known which formats a running kernel writes.
    ///
    /// # Errors
    /// When the disk cannot be made.
    pub fn guest(&self, name: &str, variant: Variant) -> Result<GuestOptions> {
        self.bundle(variant)?;
        if self.programs == Programs::OnDisk {
            self.install_programs()?;
        }
        let mut options = GuestOptions::new(name, &self.kernels.kernel(variant)?, &self.initrd);
        options.append.extend(self.parameters.iter().cloned());
        let data = self.folder.join(format!("{name}.disk"));
        options.disks.push(disk::ext4_of(&data, DISK_BYTES, &self.disk_folder())?);
        Ok(options)
    }

    fn install_programs(&self) -> Result<()> {
        let folder = self.disk_folder().join(BIN);
        create(&folder)?;
        for (package, binary) in PROGRAMS {
            let program = static_binaries::fresh(package, binary)?;
            fs::copy(&program, folder.join(binary)).map_err(Error::file("copy", &program))?;
        }
        Ok(())
    }

    /// Starts a guest on the kernel `lu1` as a node, with something changed in how QEMU is started.
    ///
    /// # Errors
    /// As [`VmNode::start`].
    pub async fn node_with(
        &self,
        bed: &Testbed,
        place: NodePlace,
        product: &Product,
        change: impl FnOnce(&mut GuestOptions),
    ) -> Result<VmNode> {
        let mut options = self.guest(&place.name, Variant::Lu1)?;
        change(&mut options);
        VmNode::start(bed, place, options, product, &self.folder).await
    }
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::file("create", folder))
}
