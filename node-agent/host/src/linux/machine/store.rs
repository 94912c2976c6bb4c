//! Records that outlive process, jump and power cut.
//!
//! ```text
//!  KEY.new ─ write ─ fsync ─ rename to KEY.record ─ fsync of the folder
//! ```
//! Cut off anywhere, KEY.record is the old one or the new one, each whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::calls::within;
use super::record;
use crate::HostError;

/// What a store does with its folder; tests cut it off at every step.
pub(super) trait Disk: Send + Sync {
    /// All bytes, but no more than `limit`; none when there is no such file.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>>;
    /// Writes a file anew; what it held is gone.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// A file's bytes are on the disk.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a name that another had.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// A folder's names are on the disk.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// The machine's own.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// A folder of records.
#[derive(Clone)]
pub(super) struct Store {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    /// One write at a time, in the order in which they were asked for: also after one that nobody waits for any more.
    writing: Arc<Mutex<()>>,
}

impl Store {
    /// The records of a folder, which is made when it is not there.
    pub(super) fn open(folder: PathBuf) -> Result<Self, HostError> {
        let failed = |error: &io::Error| io_error(format!("make {}", folder.display()), error);
        let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev() {
            match fs::DirBuilder::new().mode(0o700).create(path) {
                // Agent and keeper may both be at it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(|error| failed(&error))?,
            }
            if let Some(above) = path.parent() {
                RealDisk.sync_folder(above).map_err(|error| failed(&error))?;
            }
        }
        Ok(Self::on(folder, Box::new(RealDisk)))
    }

    pub(super) fn on(folder: PathBuf, disk: Box<dyn Disk>) -> Self {
        Self { folder, disk: disk.into(), writing: Arc::default() }
    }

    /// See [`crate::Host::load`].
    pub(super) fn load(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        let path = self.path(key, "record")?;
        let read = self.disk.read(&path, record::LARGEST as u64 * 2);
        let read = read.map_err(|error| io_error(format!("read {}", path.display()), &error))?;
        let Some(bytes) = read else { return Ok(None) };
        let payload = record::decode(key, &bytes);
        payload.map(Some).map_err(|why| HostError::Malformed {
            what: path.display().to_string(),
            why: format!("{why}; put a good copy in its place, or remove it if nothing is in custody"),
        })
    }

    /// See [`crate::Host::store`].
    pub(super) fn store(&self, key: &str, bytes: &[u8]) -> Result<(), HostError> {
        let (path, new) = (self.path(key, "record")?, self.path(key, "new")?);
        if bytes.len() > record::LARGEST {
            let why = format!("{} bytes, at most {} are kept", bytes.len(), record::LARGEST);
            return Err(HostError::Malformed { what: format!("the record {key}"), why });
        }
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.disk.write(&new, &record::encode(key, bytes));
        let written = written.and_then(|()| self.disk.sync(&new));
        let written = written.and_then(|()| self.disk.rename(&new, &path));
        let written = written.and_then(|()| self.disk.sync_folder(&self.folder));
        written.map_err(|error| io_error(format!("write {}", path.display()), &error))
    }

    fn path(&self, key: &str, ending: &str) -> Result<PathBuf, HostError> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if key.is_empty() || !key.bytes().all(fits) {
            let why = "a key has lower case letters, digits and hyphens".to_owned();
            return Err(HostError::Malformed { what: format!("key {key:?}"), why });
        }
        Ok(self.folder.join(format!("{key}.{ending}")))
    }

    /// A record of ours; none when there is none, or nothing to tell any more.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, HostError> {
        let Some(bytes) = self.load(key)? else { return Ok(None) };
        serde_json::from_slice::<Option<T>>(&bytes).map_err(|error| HostError::Malformed {
            what: format!("the record {key}"),
            why: error.to_string(),
        })
    }

    /// The same, for who cannot wait for a disk that hangs.
    pub(super) fn read_within<T: serde::de::DeserializeOwned + Send + 'static>(
        &self,
        key: &str,
        limit: Duration,
    ) -> Result<Option<T>, HostError> {
        let (sender, receiver) = mpsc::channel();
        let (store, name) = (self.clone(), key.to_owned());
        let read = within(limit, move || {
            // Whoever waited no longer hears nothing.
            let _ = sender.send(store.read(&name));
            Ok(())
        });
        let failed = |error: &dyn std::fmt::Display| io_error(format!("read the record {key}"), error);
        read.map_err(|error| failed(&error))?;
        receiver.try_recv().map_err(|error| failed(&error))?
    }

    /// Writes a record of ours; none: there is nothing to tell any more.
    pub(super) fn write<T: serde::Serialize>(&self, key: &str, value: Option<&T>) -> Result<(), HostError> {
        let bytes = serde_json::to_vec(&value).map_err(|error| HostError::Malformed {
            what: format!("the record {key}"),
            why: error.to_string(),
        })?;
        self.store(key, &bytes)
    }

    /// The same, for who cannot wait for a disk that hangs. What takes longer than `limit` may still be written later.
    pub(super) fn write_within<T: serde::Serialize>(
        &self,
        key: &str,
        value: Option<&T>,
        limit: Duration,
    ) -> Result<(), HostError> {
        let what = format!("the record {key}");
        let bytes = serde_json::to_vec(&value)
            .map_err(|error| HostError::Malformed { what: what.clone(), why: error.to_string() })?;
        let (store, key) = (self.clone(), key.to_owned());
        within(limit, move || store.store(&key, &bytes).map_err(io::Error::other))
            .map_err(|error| io_error(format!("write {what}"), &error))
    }
}

pub(super) fn io_error(what: impl Into<String>, error: &dyn std::fmt::Display) -> HostError {
    HostError::Io { what: what.into(), why: error.to_string() }
}
