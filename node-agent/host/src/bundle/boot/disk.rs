//! The boot partition itself: reading it, and carrying a plan out.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::BootError;
use super::entry::{FILES, KERNELS, Loader};
use super::plan::{Found, Plan, is_ours};
use crate::bundle::digest::Hasher;
use crate::bundle::durable::{self, NEW};
use crate::bundle::source::Progress;
use crate::bundle::{Bundle, Part};
use crate::linux::fallback::{Fallback, LOADER};
use crate::linux::root::{ReadError, Root, optional};

const ENTRIES: &str = "loader/entries";
/// systemd-boot's variable outranks its file.
const VARIABLE: &str = "/sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The entry that firmware and boot loader start, and where that is written; none when nothing tells.
///
/// # Errors
/// [`BootError::Read`].
pub fn default_entry<P: AsRef<str>>(root: &Root, boot: &[P]) -> Result<Option<(String, String)>, BootError> {
    Ok(Fallback::read(root, boot).default_entry?)
}

/// The boot partition, mounted.
pub(super) struct Disk {
    path: PathBuf,
    /// As the machine has it, without the root folder.
    place: String,
}

impl Disk {
    /// The first place where systemd-boot has its configuration.
    pub(super) fn find(root: &Root, boot: &[String]) -> Result<Self, BootError> {
        let place = boot.iter().find(|place| root.exists(&format!("{place}/{LOADER}")));
        match place {
            Some(place) => Ok(Self { path: root.path(place), place: place.clone() }),
            None => {
                let looked: Vec<String> = boot.iter().map(|place| format!("{place}/{LOADER}")).collect();
                Err(BootError::NoLoader { looked: looked.join(", ") })
            }
        }
    }

    /// What is there, unless something outranks what could be written.
    pub(super) fn read(&self, root: &Root) -> Result<Found, BootError> {
        if optional(root.bytes(VARIABLE, 4096))?.is_some() {
            let entry = default_entry(root, &[&self.place])?.map(|(entry, _)| entry).unwrap_or_default();
            let remedy = "take it away (bootctl set-default \"\"), then the file counts";
            return Err(BootError::Overridden { by: "the EFI variable LoaderEntryDefault", entry, remedy });
        }
        let at = |file: &str| format!("{}/{file}", self.place);
        let loader = Loader::parse(&root.text(&at(LOADER))?);
        if let Some(entry) = loader.preferred() {
            let (by, entry) = ("preferred of loader.conf", entry.to_owned());
            return Err(BootError::Overridden { by, entry, remedy: "take that line away" });
        }
        let mut found = Found { loader, ..Found::default() };
        for name in absent_is_empty(root.names(&at(ENTRIES)))?.into_iter().filter(|name| is_ours(name)) {
            let text = root.text(&at(&format!("{ENTRIES}/{name}")))?;
            found.entries.insert(name, text);
        }
        found.folders.extend(absent_is_empty(root.names(&at(KERNELS)))?);
        Ok(found)
    }

    /// Answers whether anything was written.
    pub(super) fn carry_out(
        &self,
        plan: &Plan,
        bundle: &Bundle,
        progress: Progress<'_>,
    ) -> Result<bool, BootError> {
        let mut changed = false;
        for name in &plan.remove_entries {
            let path = self.path.join(ENTRIES).join(name);
            fs::remove_file(&path).map_err(BootError::io("remove", &path))?;
            changed = true;
        }
        if changed {
            self.sync(ENTRIES)?;
        }
        for name in &plan.remove_folders {
            remove(&self.path.join(KERNELS).join(name))?;
            changed = true;
        }
        changed |= self.copy(plan, bundle, progress)?;
        let entries = self.path.join(ENTRIES);
        if plan.write_entry {
            fs::create_dir_all(&entries).map_err(BootError::io("make", &entries))?;
            self.write(&entries.join(&plan.entry.name), &plan.entry.text)?;
            changed = true;
        }
        if let Some(text) = &plan.loader {
            self.write(&self.path.join(LOADER), text)?;
            changed = true;
        }
        Ok(changed)
    }

    /// The kernel's files: those that are there and right stay.
    fn copy(&self, plan: &Plan, bundle: &Bundle, progress: Progress<'_>) -> Result<bool, BootError> {
        let folder = self.path.join(KERNELS).join(&plan.entry.folder);
        let mut missing = Vec::new();
        for (part, name) in FILES {
            let Some(wanted) = bundle.manifest().part(part) else { continue };
            let path = folder.join(name);
            if digest_of(&path, wanted.size)? != Some(wanted.digest) {
                missing.push((part, path, wanted.size));
            }
        }
        if missing.is_empty() {
            return Ok(false);
        }
        fs::create_dir_all(&folder).map_err(BootError::io("make", &folder))?;
        let needed = missing.iter().map(|(_, _, size)| size).sum();
        let stat =
            rustix::fs::statvfs(&folder).map_err(|errno| BootError::io("look at", &folder)(errno.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < needed {
            return Err(BootError::NoRoom { folder: self.path.clone(), free, needed });
        }
        let mut done = 0;
        for (part, path, _) in missing {
            copy_one(bundle, part, &path, &mut done, progress)?;
        }
        durable::sync(&folder).map_err(BootError::io("sync", &folder))?;
        self.sync(KERNELS)?;
        durable::sync(&self.path).map_err(BootError::io("sync", &self.path))?;
        Ok(true)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), BootError> {
        durable::replace(path, text.as_bytes()).map_err(BootError::io("write", path))
    }

    fn sync(&self, folder: &str) -> Result<(), BootError> {
        let path = self.path.join(folder);
        durable::sync(&path).map_err(BootError::io("sync", &path))
    }
}

/// Under another name until it is whole and on the disk.
fn copy_one(
    bundle: &Bundle,
    part: Part,
    path: &Path,
    done: &mut u64,
    progress: Progress<'_>,
) -> Result<(), BootError> {
    let new = path.with_extension(NEW);
    let mut file = File::create(&new).map_err(BootError::io("make", &new))?;
    let copied = bundle.copy(part, &mut file, done, progress).map_err(BootError::from).and_then(|()| {
        file.sync_all().map_err(BootError::io("sync", &new))?;
        fs::rename(&new, path).map_err(BootError::io("move into place", path))?;
        // On FAT the entry of a new name is empty until the file itself is written again.
        file.sync_all().map_err(BootError::io("sync", path))
    });
    if copied.is_err() {
        // Room on a boot partition is scarce; what is left of it goes with the next call at the latest.
        let _ = fs::remove_file(&new);
    }
    copied
}

/// A file's digest; none when it is not there or of another length.
fn digest_of(path: &Path, size: u64) -> Result<Option<crate::bundle::Digest>, BootError> {
    let failed = || BootError::io("read", path);
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed())?,
    };
    if file.metadata().map_err(failed())?.len() != size {
        return Ok(None);
    }
    let (mut hasher, mut buffer) = (Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(failed())? {
            0 => return Ok(Some(hasher.finish())),
            read => hasher.feed(&buffer[..read]),
        }
    }
}

fn absent_is_empty(names: Result<Vec<String>, ReadError>) -> Result<Vec<String>, BootError> {
    Ok(optional(names)?.unwrap_or_default())
}

fn remove(path: &Path) -> Result<(), BootError> {
    let kind = fs::symlink_metadata(path).map_err(BootError::io("remove", path))?;
    if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .map_err(BootError::io("remove", path))
}
