//! What a guest boots with: the lab's first process, and files of the test's choice.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use liveupdate_host::bundle::cpio::Archive;

use super::static_binaries;
use crate::{Error, Result};

/// Mount points and the like that the first process needs before it can make anything itself.
const FOLDERS: [&str; 8] = ["dev", "proc", "sys", "run", "tmp", "bin", "root", "etc"];

/// An initrd in the making.
#[derive(Debug)]
pub struct Initrd {
    archive: Archive,
    folders: BTreeSet<String>,
}

impl Initrd {
    /// With `liveupdate-lab-init` as the first process and nothing else. It is `/bin/liveupdate-lab-init` too.
    ///
    /// # Errors
    /// When that cannot be built.
    pub fn new() -> Result<Initrd> {
        let init = static_binaries::fresh("liveupdate-lab-guest", "liveupdate-lab-init")?;
        let mut initrd = Initrd::empty();
        for folder in FOLDERS {
            initrd.folder(folder);
        }
        // The kernel opens it for the first process before any file system is mounted.
        initrd.archive.character_device("dev/console", 0o600, 5, 1);
        initrd.program("bin/liveupdate-lab-init", &init)?;
        initrd.archive.link("init", "bin/liveupdate-lab-init");
        Ok(initrd)
    }

    /// With nothing in it: to be added to another one ([`concatenate`]).
    pub fn empty() -> Initrd {
        Initrd { archive: Archive::new(), folders: BTreeSet::new() }
    }

    /// Adds a file with its contents; its folders are added with it.
    pub fn contents(&mut self, path: &str, mode: u32, contents: &[u8]) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.archive.file(path, mode, contents);
    }

    /// Adds a file of this machine.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn file(&mut self, path: &str, from: &Path) -> Result<()> {
        self.add(path, 0o644, from)
    }

    /// Adds a program of this machine; it has to be a static one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn program(&mut self, path: &str, from: &Path) -> Result<()> {
        self.add(path, 0o755, from)
    }

    /// Adds a symbolic link; its folders are added with it.
    pub fn link(&mut self, path: &str, target: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        self.archive.link(path, target);
    }

    fn add(&mut self, path: &str, mode: u32, from: &Path) -> Result<()> {
        let contents = std::fs::read(from).map_err(Error::file("read", from))?;
        self.contents(path, mode, &contents);
        Ok(())
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn write(self, path: &Path) -> Result<PathBuf> {
        std::fs::write(path, self.archive.finish()).map_err(Error::file("write", path))?;
        Ok(path.to_owned())
    }

    /// A folder and those above it, unless they are there.
    fn folder(&mut self, path: &str) {
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        if self.folders.insert(path.to_owned()) {
            self.archive.folder(path, 0o755);
        }
    }
}

/// One initrd after the other in one file: what the kernel unpacks in this order. Later files replace
/// earlier ones of the same path.
///
/// # Errors
/// When one cannot be read, or the result cannot be written.
pub fn concatenate(parts: &[&Path], path: &Path) -> Result<PathBuf> {
    let mut whole = Vec::new();
    for part in parts {
        // The kernel skips zeros between archives, and looks for each at a multiple of four.
        whole.resize(whole.len().next_multiple_of(4), 0);
        whole.extend(std::fs::read(part).map_err(Error::file("read", part))?);
    }
    std::fs::write(path, whole).map_err(Error::file("write", path))?;
    Ok(path.to_owned())
}
