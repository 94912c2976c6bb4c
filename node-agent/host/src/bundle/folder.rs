//! A bundle in a folder.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags};

use super::manifest::{LARGEST_MANIFEST, MANIFEST, Manifest, Part};
use super::signature::{LARGEST_SIGNATURES, SIGNATURES, Signers, Trust};
use super::source::{Checked, Copied, Progress, Source, pump};
use super::{BundleError, Digest};
use crate::linux::gates;

/// A bundle whose manifest was read. What lies beside it is believed only as it is read, against the manifest:
/// [`Bundle::verify`], [`Bundle::image`], [`Bundle::initrd`]. The folder stays open, so that it cannot be
/// exchanged in between.
#[derive(Debug)]
pub struct Bundle {
    path: PathBuf,
    folder: OwnedFd,
    bytes: Vec<u8>,
    signatures: Option<Vec<u8>>,
    manifest: Manifest,
}

/// A manifest that a trusted signer vouches for.
#[derive(Clone, Debug)]
pub struct Vouched {
    /// Who.
    pub by: Vec<String>,
    /// What the gate `TargetKernel` may believe.
    pub manifest: gates::Manifest,
}

impl Bundle {
    /// Reads the manifest, and the signatures if there are any; nothing else.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| BundleError::io("open", path)(errno.into()))?;
        let bytes = match small(&folder, path, MANIFEST, LARGEST_MANIFEST) {
            Err(BundleError::Missing { .. }) => {
                return Err(BundleError::NoManifest { folder: path.to_owned() });
            }
            other => other?,
        };
        let manifest = Manifest::parse(&bytes)
            .map_err(|source| BundleError::Manifest { path: path.join(MANIFEST), source })?;
        let signatures = match small(&folder, path, SIGNATURES, LARGEST_SIGNATURES) {
            Err(BundleError::Missing { .. }) => None,
            other => Some(other?),
        };
        Ok(Self { path: path.to_owned(), folder, bytes, signatures, manifest })
    }

    /// What it says of itself. Believe it when [`Bundle::trust`] says so.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Digest of the manifest's exact bytes, and so of all that it has digests of: the bundle's name.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest's exact bytes.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The exact bytes of the file of signatures; none when there is no such file.
    pub fn signature_bytes(&self) -> Option<&[u8]> {
        self.signatures.as_deref()
    }

    /// The same with other signatures; the file that holds them stays as it is.
    pub(super) fn with_signatures(self, signatures: Vec<u8>) -> Self {
        Self { signatures: Some(signatures), ..self }
    }

    /// Who vouches for the manifest.
    pub fn trust(&self, signers: &Signers) -> Trust {
        Trust::judge(&self.bytes, self.signatures.as_deref(), signers)
    }

    /// The manifest as something to believe; none when nobody trusted vouches for it.
    pub fn vouched(&self, signers: &Signers) -> Option<Vouched> {
        match self.trust(signers) {
            Trust::Signed { by } => Some(Vouched { by, manifest: self.manifest.vouched() }),
            _ => None,
        }
    }

    /// Reads every file: all are there, nothing else is, and sizes and digests are the manifest's.
    ///
    /// # Errors
    /// [`BundleError`]; the first thing that is wrong.
    pub fn verify(&self, progress: Progress<'_>) -> Result<(), BundleError> {
        self.no_extra()?;
        let mut done = 0;
        for (part, _) in self.manifest.parts() {
            self.copy(part, &mut io::sink(), &mut done, progress)?;
        }
        Ok(())
    }

    /// The kernel, in memory that nobody can change any more: what is loaded is what was verified.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn image(&self) -> Result<File, BundleError> {
        self.in_memory("liveupdate-image", &[Part::Image])
    }

    /// Initrd and shim behind one another, as the kernel takes them, in memory that nobody can change any more;
    /// none when the bundle has no initrd.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn initrd(&self) -> Result<Option<File>, BundleError> {
        let parts: Vec<Part> = [Part::Initrd, Part::Shim]
            .into_iter()
            .filter(|&part| self.manifest.part(part).is_some())
            .collect();
        if parts.is_empty() {
            return Ok(None);
        }
        self.in_memory("liveupdate-initrd", &parts).map(Some)
    }

    /// Copies a file and checks it on the way. After an error, what was written is worth nothing.
    pub(super) fn copy(
        &self,
        part: Part,
        to: &mut dyn Write,
        done: &mut u64,
        progress: Progress<'_>,
    ) -> Result<(), BundleError> {
        let Some(wanted) = self.manifest.part(part) else { return Ok(()) };
        let path = self.path.join(part.file());
        let copied = Copied { file: wanted, path: &path, all: self.manifest.size() };
        pump(&mut self.part(part)?, to, copied, done, progress)
    }

    /// A file for looking at it piece by piece; none when the bundle has none.
    pub(super) fn checked(&self, part: Part) -> Result<Option<Checked>, BundleError> {
        let Some(wanted) = self.manifest.part(part) else { return Ok(None) };
        Ok(Some(Checked::new(self.part(part)?, wanted, self.path.join(part.file()))))
    }

    /// A file of the length that the manifest says. Its digest is not checked by this.
    pub(crate) fn part(&self, part: Part) -> Result<File, BundleError> {
        let (file, found) = regular(&self.folder, &self.path, part.file())?;
        let path = self.path.join(part.file());
        match self.manifest.part(part).map(|file| file.size) {
            Some(wanted) if found < wanted => Err(BundleError::Truncated { path, found, wanted }),
            Some(wanted) if found > wanted => Err(BundleError::TooLong { path, found, wanted }),
            _ => Ok(file),
        }
    }

    pub(super) fn no_extra(&self) -> Result<(), BundleError> {
        let failed = || BundleError::io("list", &self.path);
        let entries = rustix::fs::Dir::read_from(&self.folder).map_err(|errno| failed()(errno.into()))?;
        let mut extra = None;
        for entry in entries {
            let name =
                entry.map_err(|errno| failed()(errno.into()))?.file_name().to_string_lossy().into_owned();
            let known = [".", "..", MANIFEST, SIGNATURES].contains(&name.as_str())
                || self.manifest.parts().any(|(part, _)| part.file() == name);
            // The first by name, so that the same folder gives the same error.
            if !known && extra.as_ref().is_none_or(|other| name < *other) {
                extra = Some(name);
            }
        }
        match extra {
            Some(name) => Err(BundleError::Extra { path: self.path.join(name) }),
            None => Ok(()),
        }
    }

    fn in_memory(&self, name: &str, parts: &[Part]) -> Result<File, BundleError> {
        let failed = || BundleError::io("hold in memory", &self.path);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = rustix::fs::memfd_create(name, flags).map_err(|errno| failed()(errno.into()))?;
        let (mut memory, mut done) = (File::from(memory), 0);
        for &part in parts {
            // The kernel looks for an archive at a multiple of four, and passes over zeros before it.
            let at = memory.stream_position().map_err(failed())?;
            let zeros = at.next_multiple_of(4) - at;
            memory.write_all(&[0; 3][..usize::try_from(zeros).unwrap_or(0)]).map_err(failed())?;
            self.copy(part, &mut memory, &mut done, &mut |_, _| true)?;
        }
        memory.rewind().map_err(failed())?;
        let seals = rustix::fs::SealFlags::WRITE
            | rustix::fs::SealFlags::GROW
            | rustix::fs::SealFlags::SHRINK
            | rustix::fs::SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&memory, seals).map_err(|errno| failed()(errno.into()))?;
        Ok(memory)
    }
}

impl Source for Bundle {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn manifest_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn signature_bytes(&self) -> Option<&[u8]> {
        self.signatures.as_deref()
    }

    fn copy(
        &mut self,
        part: Part,
        to: &mut dyn Write,
        done: &mut u64,
        progress: Progress<'_>,
    ) -> Result<(), BundleError> {
        Self::copy(self, part, to, done, progress)
    }
}

/// A small file, whole.
fn small(folder: &OwnedFd, path: &Path, name: &str, most: usize) -> Result<Vec<u8>, BundleError> {
    let (file, _) = regular(folder, path, name)?;
    let mut bytes = Vec::new();
    // One byte more than may be there, for the parser to refuse.
    let read = file.take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(BundleError::io("read", &path.join(name)))?;
    Ok(bytes)
}

/// A regular file of a folder and its length. Links are not followed, and nothing that could block is opened.
fn regular(folder: &OwnedFd, path: &Path, name: &str) -> Result<(File, u64), BundleError> {
    let at = || path.join(name);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(rustix::io::Errno::NOENT) => return Err(BundleError::Missing { path: at() }),
        Err(rustix::io::Errno::LOOP) => return Err(BundleError::NotAFile { path: at(), kind: "link" }),
        // What is opened so from the other side only: a socket.
        Err(rustix::io::Errno::NXIO) => return Err(BundleError::NotAFile { path: at(), kind: "socket" }),
        Err(errno) => return Err(BundleError::io("open", &at())(errno.into())),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| BundleError::io("read", &at())(errno.into()))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => return Ok((File::from(file), u64::try_from(stat.st_size).unwrap_or(0))),
        FileType::Directory => "folder",
        FileType::Fifo => "pipe",
        _ => "device",
    };
    Err(BundleError::NotAFile { path: at(), kind })
}
