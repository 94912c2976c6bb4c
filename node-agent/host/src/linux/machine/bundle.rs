//! Where bundles come from. A seam: for now a folder with `bzImage`, `initrd` and `cmdline`, found by name,
//! its digest that of all three behind one another.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use liveupdate_node_core::gate::{Gate, GateId};
use liveupdate_node_core::{GateResult, Target};
use rustix::fs::{MemfdFlags, SealFlags};
use sha2::{Digest, Sha256};

use super::gate;
use super::images::Images;
use super::store::io_error;
use crate::HostError;
use crate::image::{ImageError, KernelImage};
use crate::linux::gates::Manifest;

const IMAGE: &str = "bzImage";
const INITRD: &str = "initrd";
const COMMAND_LINE: &str = "cmdline";
/// What is read at once; progress is told, and the caller asked, as often.
const CHUNK: usize = 1 << 20;
/// Larger images and initrds are none.
const LARGEST: u64 = 2 << 30;

/// A bundle's files, in memory that nobody can change any more: what is loaded is what was verified.
pub(super) struct Opened {
    pub(super) image: File,
    pub(super) initrd: Option<File>,
    pub(super) command_line: String,
}

/// What the gates ask of a bundle.
#[derive(Clone)]
pub(super) struct Looked {
    pub(super) image: Result<Arc<KernelImage>, ImageError>,
    pub(super) initrd: u64,
    /// Bytes of all files.
    pub(super) bytes: u64,
    pub(super) command_line: String,
    /// What a trusted signer vouches for.
    pub(super) manifest: Option<Manifest>,
    pub(super) trusted: Gate,
    pub(super) modules: Gate,
}

/// The folder of bundles.
pub(super) struct Bundles {
    root: PathBuf,
    images: Arc<Images>,
    unsigned: bool,
}

impl Bundles {
    pub(super) fn new(root: PathBuf, images: Arc<Images>, unsigned: bool) -> Self {
        Self { root, images, unsigned }
    }

    /// Images of all bundles.
    pub(super) fn images(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        folders.map(|folder| folder.path().join(IMAGE)).filter(|image| image.is_file()).collect()
    }

    fn find(&self, target: &Target) -> Result<PathBuf, HostError> {
        let name = &target.bundle;
        let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
        let folder = self.root.join(name);
        if plain && folder.join(IMAGE).is_file() {
            return Ok(folder);
        }
        Err(HostError::NoSuchBundle { name: name.clone() })
    }

    /// Reads all of a bundle and compares it with what is wanted.
    pub(super) fn open(
        &self,
        target: &Target,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Opened, HostError> {
        let folder = self.find(target)?;
        let sizes = [IMAGE, INITRD, COMMAND_LINE].map(|name| size_of_file(&folder.join(name)));
        let total = sizes.iter().sum();
        let (mut hash, mut done) = (Sha256::new(), 0);
        let mut copy = |name: &str| in_memory(&folder.join(name), &mut hash, &mut done, total, progress);
        let image = copy(IMAGE)?;
        let initrd = if folder.join(INITRD).exists() { Some(copy(INITRD)?) } else { None };
        let mut line = String::new();
        let read = copy(COMMAND_LINE)?.read_to_string(&mut line);
        read.map_err(|error| io_error(format!("read {}", folder.join(COMMAND_LINE).display()), &error))?;
        let found =
            hash.finalize().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        if found != target.digest {
            let (name, wanted) = (target.bundle.clone(), target.digest.clone());
            return Err(HostError::DigestMismatch { name, wanted, found });
        }
        Ok(Opened { image, initrd, command_line: line.trim().to_owned() })
    }

    /// Looks at a bundle without believing it.
    pub(super) fn look(&self, target: &Target) -> Result<Looked, HostError> {
        let folder = self.find(target)?;
        let at = |name: &str| folder.join(name);
        let failed = |name: &str| {
            let what = format!("read {}", at(name).display());
            move |error| io_error(what, &error)
        };
        let image = self.images.look(&at(IMAGE))?;
        let command_line = std::fs::read_to_string(at(COMMAND_LINE)).map_err(failed(COMMAND_LINE))?;
        let initrd = size_of_file(&at(INITRD));
        Ok(Looked {
            bytes: size_of_file(&at(IMAGE)) + initrd,
            image,
            initrd,
            command_line: command_line.trim().to_owned(),
            manifest: None,
            trusted: self.trusted(),
            modules: gate(GateId::ModuleLoadable, GateResult::Pass, "the bundle has no modules to load", ""),
        })
    }

    fn trusted(&self) -> Gate {
        let id = GateId::TargetTrusted;
        if self.unsigned {
            let evidence = "the node takes unsigned bundles (--unsigned-bundles); the digest is checked when it is loaded";
            return gate(id, GateResult::Pass, evidence, "");
        }
        gate(id, GateResult::Fail, "the bundle is not signed", "sign the bundle")
    }
}

fn size_of_file(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn in_memory(
    path: &Path,
    hash: &mut Sha256,
    done: &mut u64,
    total: u64,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<File, HostError> {
    let failed = |error: &dyn std::fmt::Display| io_error(format!("read {}", path.display()), error);
    let mut from = File::open(path).map_err(|error| failed(&error))?.take(LARGEST);
    let memory =
        rustix::fs::memfd_create("liveupdate-bundle", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let mut memory = File::from(memory.map_err(|error| failed(&error))?);
    let mut buffer = vec![0; CHUNK];
    loop {
        if !progress(*done, total) {
            return Err(HostError::Cancelled);
        }
        let read = from.read(&mut buffer).map_err(|error| failed(&error))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        memory.write_all(&buffer[..read]).map_err(|error| failed(&error))?;
        *done += read as u64;
    }
    memory.rewind().map_err(|error| failed(&error))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals).map_err(|error| failed(&error))?;
    Ok(memory)
}
