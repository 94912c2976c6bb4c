//! Folders for one run's data, logs and certificates, all under one base, swept when their owner is dead.
//!
//! Each folder has a lock file beside it that its owner holds locked. The kernel drops such a lock when
//! the owner dies, however it dies, so a lock that can be taken marks a folder that nobody needs.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Error, Result};

/// Names the base folder, when neither `/dev/shm` nor the temporary folder will do.
pub const BASE_VARIABLE: &str = "LIVEUPDATE_LAB_DIR";

/// What `/dev/shm` must have free to be chosen: two etcd write-ahead segments, logs, a large audit log.
const ROOM: u64 = 2 << 30;

/// A folder that is removed when this value goes, or by the next start when the process was killed.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    lock_path: PathBuf,
    // Held for its lock alone.
    _lock: File,
}

impl RunDir {
    /// Sweeps what dead owners left, then makes a new folder.
    ///
    /// # Errors
    /// When the base folder cannot be written.
    pub fn create() -> Result<RunDir> {
        RunDir::create_in(&base())
    }

    /// As [`RunDir::create`], under a base of the caller's choice.
    ///
    /// # Errors
    /// When the base folder cannot be written.
    pub fn create_in(base: &Path) -> Result<RunDir> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        fs::create_dir_all(base).map_err(Error::file("create", base))?;
        // One at a time sweeps or creates: a new lock file must never be seen before it is locked.
        let turn_path = base.join("turn");
        let turn = open(&turn_path)?;
        turn.lock().map_err(Error::file("lock", &turn_path))?;
        sweep(base)?;
        loop {
            let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let lock_path = base.join(format!("{name}.lock"));
            let lock = open(&lock_path)?;
            match lock.try_lock() {
                Ok(()) => {}
                // Another process with our pid: it lives in another pid namespace and shares the folder.
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(source)) => {
                    return Err(Error::File { action: "lock", path: lock_path, source });
                }
            }
            let path = base.join(name);
            fs::create_dir(&path).map_err(Error::file("create", &path))?;
            return Ok(RunDir { path, lock_path, _lock: lock });
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder inside, made when missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        Ok(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next start.
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// The folder under which all run folders are: memory rather than disk, since etcd writes a lot and
/// nothing of it has to last.
pub fn base() -> PathBuf {
    if let Some(folder) = std::env::var_os(BASE_VARIABLE).filter(|folder| !folder.is_empty()) {
        return PathBuf::from(folder);
    }
    let name = format!("liveupdate-lab-{}", rustix::process::getuid().as_raw());
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let writable = rustix::fs::access(memory, rustix::fs::Access::WRITE_OK).is_ok();
    if writable && room >= ROOM { memory.join(name) } else { std::env::temp_dir().join(name) }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(Error::file("open", path))
}

fn sweep(base: &Path) -> Result<()> {
    for entry in fs::read_dir(base).map_err(Error::file("read", base))? {
        let lock_path = entry.map_err(Error::file("read", base))?.path();
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let lock = open(&lock_path)?;
        if lock.try_lock().is_ok() {
            // Failing to clean up after somebody else is no reason not to start.
            let _ = fs::remove_dir_all(lock_path.with_extension(""));
            let _ = fs::remove_file(&lock_path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_a_dead_owner_is_swept_and_one_of_a_living_owner_is_not() {
        let outer = RunDir::create().unwrap();
        let base = outer.path().join("base");
        let living = RunDir::create_in(&base).unwrap();
        fs::create_dir(base.join("dead")).unwrap();
        fs::write(base.join("dead/file"), "x").unwrap();
        fs::write(base.join("dead.lock"), "").unwrap();

        let next = RunDir::create_in(&base).unwrap();

        assert!(!base.join("dead").exists());
        assert!(!base.join("dead.lock").exists());
        assert!(living.path().is_dir());
        assert_ne!(living.path(), next.path());
        let gone = next.path().to_owned();
        drop(next);
        assert!(!gone.exists());
    }
}
