//! Kernel images that were looked into. Unpacking one takes long, and gates are read often.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use crate::HostError;
use crate::bundle::{Digest, Part};
use crate::image::{self, ImageError, KernelImage};
use crate::linux::gates::Formats;
use crate::linux::root::Root;

use super::store::io_error;

/// What tells one state of a file from another.
type Stamp = (u64, u64, u64, i64, i64, i64);
type Seen = Result<Arc<KernelImage>, ImageError>;

/// How many are remembered.
const MANY: usize = 16;
/// Bytes at an image's beginning that hold its header and the version that this names.
const HEADER: u64 = 68 << 10;

/// What was found in each, by its bytes: a staged bundle is a copy of the one that was put there.
#[derive(Default)]
pub(super) struct Images(Mutex<Known>);

#[derive(Default)]
struct Known {
    files: HashMap<PathBuf, (Stamp, Digest)>,
    found: HashMap<Digest, Seen>,
}

impl Known {
    fn at(&self, path: &Path, stamp: Stamp) -> Option<Seen> {
        let (_, digest) = self.files.get(path).filter(|(known, _)| *known == stamp)?;
        self.found.get(digest).cloned()
    }
}

impl Images {
    /// Looks into an image, unless that was done and the file is as it was, or has the bytes of another one.
    pub(super) fn look(&self, path: &Path, file: File) -> Result<Seen, HostError> {
        let failed = |error: io::Error| io_error(format!("read {}", path.display()), &error);
        let at = file.metadata().map_err(failed)?;
        let stamp = (at.dev(), at.ino(), at.len(), at.mtime(), at.mtime_nsec(), at.ctime_nsec());
        if let Some(seen) = self.lock().at(path, stamp) {
            return Ok(seen);
        }
        let largest = Part::Image.largest();
        if at.len() > largest {
            return Err(failed(io::Error::other(format!("no image has more than {largest} bytes"))));
        }
        let mut bytes = Vec::new();
        // What it grows by meanwhile is not read: the next look finds another stamp.
        file.take(at.len()).read_to_end(&mut bytes).map_err(failed)?;
        let digest = Digest::of(&bytes);
        let known = self.lock().found.get(&digest).cloned();
        let seen = known.unwrap_or_else(|| image::inspect(&bytes, image::Limits::default()).map(Arc::new));
        let mut known = self.lock();
        if known.files.len() >= MANY {
            *known = Known::default();
        }
        known.files.insert(path.to_owned(), (stamp, digest));
        known.found.insert(digest, seen.clone());
        Ok(seen)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Formats of the running kernel, by its own image: the one whose banner, with builder and time of the
    /// build, is the running kernel's. A name proves nothing, but one whose header names another release is not
    /// unpacked to find that out.
    pub(super) fn running(&self, root: &Root, among: &[PathBuf]) -> Option<(Formats, String)> {
        let running = root.line("/proc/version").ok()?;
        let release = running.split_whitespace().nth(2)?;
        among.iter().find_map(|path| {
            let mut file = open(path).ok()?;
            if named_release(&mut file).is_some_and(|named| named != release) {
                return None;
            }
            let image = self.look(path, file).ok()?.ok()?;
            let same = image.scanned() && image.banner.as_deref().map(str::trim) == Some(running.as_str());
            same.then(|| (Formats::of(&image), format!("{}: its banner is /proc/version's", path.display())))
        })
    }
}

/// A file, for reading; nothing that could block is opened. Links are followed: those in /boot are the distribution's.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// What an image's header says that it is; none when there is no telling. The file is read from its beginning again.
fn named_release(file: &mut File) -> Option<String> {
    let mut head = Vec::new();
    let read = file.by_ref().take(HEADER).read_to_end(&mut head);
    file.rewind().ok()?;
    read.ok()?;
    image::named_release(&head)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::image::Compression;
    use crate::image::tests::build::{RELEASE, bzimage, good_kernel, payload};

    fn look(images: &Images, path: &Path) -> Result<Seen, HostError> {
        images.look(path, open(path).unwrap())
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("liveupdate-images-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("proc")).unwrap();
        folder
    }

    #[test]
    fn the_same_bytes_are_unpacked_once_and_others_are_not_taken_for_them() {
        let folder = folder("same");
        let kernel = bzimage(RELEASE, &payload(Compression::Gzip, &good_kernel()));
        let (one, copy) = (folder.join("one"), folder.join("copy"));
        fs::write(&one, &kernel).unwrap();
        fs::write(&copy, &kernel).unwrap();
        let images = Images::default();
        let first = look(&images, &one).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &look(&images, &copy).unwrap().unwrap()), "the same was unpacked twice");
        fs::write(&copy, bzimage("7.3.4-lu2", &payload(Compression::Gzip, &good_kernel()))).unwrap();
        let changed = look(&images, &copy).unwrap().unwrap();
        assert_eq!(changed.release.as_deref(), Some("7.3.4-lu2"));
        assert!(Arc::ptr_eq(&first, &look(&images, &one).unwrap().unwrap()));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_running_kernels_image_is_found_without_unpacking_those_of_another_release() {
        let folder = folder("running");
        let banner = format!("Linux version {RELEASE} (lab@lab) (gcc 12.2.0) #1 SMP");
        fs::write(folder.join("proc/version"), format!("{banner}\n")).unwrap();
        let (other, ours) = (folder.join("other"), folder.join("ours"));
        fs::write(&other, bzimage("7.3.4-lu2", &payload(Compression::Gzip, &good_kernel()))).unwrap();
        fs::write(&ours, bzimage(RELEASE, &payload(Compression::Gzip, &good_kernel()))).unwrap();
        let images = Images::default();
        let found = images.running(&Root::at(&folder), &[other.clone(), ours.clone()]);
        let (formats, source) = found.unwrap();
        assert_eq!(formats.memfd.as_deref(), Some("memfd-v2"));
        assert!(source.starts_with(&ours.display().to_string()), "{source}");
        assert!(!images.lock().files.contains_key(&other), "it was unpacked all the same");
        fs::remove_dir_all(&folder).unwrap();
    }
    #[test]
    fn what_is_no_file_or_larger_than_any_image_is_not_read() {
        let folder = folder("none");
        let (pipe, large) = (folder.join("pipe"), folder.join("large"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        // Nobody writes: opened as any file is, it would wait for ever.
        assert_eq!(open(&pipe).unwrap_err().to_string(), "it is no file");
        assert!(open(&folder).is_err());
        File::create(&large).unwrap().set_len(Part::Image.largest() + 1).unwrap();
        let error = look(&Images::default(), &large).unwrap_err().to_string();
        assert!(error.contains("no image has more than 1073741824 bytes"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
