//! Kernel images that were looked into. Unpacking one takes long, and gates are read often.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::HostError;
use crate::image::{self, ImageError, KernelImage};
use crate::linux::gates::Formats;
use crate::linux::root::Root;

use super::store::io_error;

/// What tells one state of a file from another.
type Stamp = (u64, u64, u64, i64, i64, i64);
type Seen = Result<Arc<KernelImage>, ImageError>;

/// How many are remembered.
const MANY: usize = 16;

/// What was found in each.
#[derive(Default)]
pub(super) struct Images(Mutex<HashMap<PathBuf, (Stamp, Seen)>>);

impl Images {
    /// Looks into an image, unless that was done and the file is as it was.
    pub(super) fn look(&self, path: &Path) -> Result<Seen, HostError> {
        let failed = |error: std::io::Error| io_error(format!("read {}", path.display()), &error);
        let at = fs::metadata(path).map_err(failed)?;
        let stamp = (at.dev(), at.ino(), at.len(), at.mtime(), at.mtime_nsec(), at.ctime_nsec());
        let known = self.lock().get(path).filter(|(old, _)| *old == stamp).map(|(_, seen)| seen.clone());
        if let Some(seen) = known {
            return Ok(seen);
        }
        let bytes = fs::read(path).map_err(failed)?;
        let seen = image::inspect(&bytes, image::Limits::default()).map(Arc::new);
        let mut all = self.lock();
        if all.len() >= MANY {
            all.clear();
        }
        all.insert(path.to_owned(), (stamp, seen.clone()));
        Ok(seen)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, (Stamp, Seen)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Formats of the running kernel, by its own image: the one whose banner, with builder and time of the
    /// build, is the running kernel's. A name proves nothing.
    pub(super) fn running(&self, root: &Root, among: &[PathBuf]) -> Option<(Formats, String)> {
        let running = root.line("/proc/version").ok()?;
        among.iter().find_map(|path| {
            let image = self.look(path).ok()?.ok()?;
            let same = image.scanned() && image.banner.as_deref().map(str::trim) == Some(running.as_str());
            same.then(|| (Formats::of(&image), format!("{}: its banner is /proc/version's", path.display())))
        })
    }
}
