//! Where a simulated machine is kept: in memory, or in a folder that several processes share.
//!
//! Each operation is loaded, carried out and stored as one: under a mutex, or under `flock` on the folder's
//! `lock` file with the new state renamed into place. An operation that fails leaves nothing behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::spec::WorldSpec;
use super::state::Machine;
use crate::HostError;

pub(super) enum Store {
    Memory(Box<Mutex<Kept>>),
    Folder(PathBuf),
}

pub(super) struct Kept {
    machine: Machine,
    files: BTreeMap<String, Vec<u8>>,
}

impl Store {
    pub(super) fn memory(spec: WorldSpec) -> Self {
        Self::Memory(Box::new(Mutex::new(Kept { machine: Machine::new(spec), files: BTreeMap::new() })))
    }

    /// Opens a folder with a `world.json`; the machine is switched on at the first time.
    pub(super) fn folder(path: &Path) -> Result<Self, HostError> {
        let store = Self::Folder(path.to_path_buf());
        store.with(|_| Ok(()))?;
        Ok(store)
    }

    /// Carries out one operation.
    pub(super) fn with<T>(
        &self,
        operation: impl FnOnce(&mut Machine) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        match self {
            Self::Memory(kept) => {
                let mut kept = lock(kept);
                let mut machine = kept.machine.clone();
                let result = operation(&mut machine)?;
                machine.spec.check()?;
                kept.machine = machine;
                Ok(result)
            }
            Self::Folder(path) => {
                let _lock = flock(path)?;
                let before = read_machine(path)?;
                let mut machine = before.clone().unwrap_or_else(|spec| Machine::new(*spec));
                machine.spec.check()?;
                let result = operation(&mut machine)?;
                machine.spec.check()?;
                let (old_spec, old_state) = match &before {
                    Ok(before) => (&before.spec, Some(&before.state)),
                    Err(spec) => (spec.as_ref(), None),
                };
                if *old_spec != machine.spec {
                    write_json(&path.join(WORLD), &machine.spec)?;
                }
                if old_state != Some(&machine.state) {
                    write_json(&path.join(STATE), &machine.state)?;
                }
                Ok(result)
            }
        }
    }

    pub(super) fn load(
        &self,
        key: &str,
        check: impl FnOnce(&Machine) -> Result<(), HostError>,
    ) -> Result<Option<Vec<u8>>, HostError> {
        check_key(key)?;
        match self {
            Self::Memory(kept) => {
                let kept = lock(kept);
                check(&kept.machine)?;
                Ok(kept.files.get(key).cloned())
            }
            Self::Folder(path) => {
                self.with(|machine| check(machine))?;
                read_optional(&path.join(FILES).join(key))
            }
        }
    }

    pub(super) fn store(
        &self,
        key: &str,
        bytes: &[u8],
        check: impl FnOnce(&Machine) -> Result<(), HostError>,
    ) -> Result<(), HostError> {
        check_key(key)?;
        match self {
            Self::Memory(kept) => {
                let mut kept = lock(kept);
                check(&kept.machine)?;
                kept.files.insert(key.into(), bytes.to_vec());
                Ok(())
            }
            Self::Folder(path) => self.with(|machine| {
                check(machine)?;
                let folder = path.join(FILES);
                fs::create_dir_all(&folder).map_err(|e| io("make", &folder, &e))?;
                write_durably(&folder.join(key), bytes)
            }),
        }
    }
}

const WORLD: &str = "world.json";
const STATE: &str = "state.json";
const LOCK: &str = "lock";
const FILES: &str = "store";
/// A world's file is small; more than this is something else.
const MAX_BYTES: u64 = 4 << 20;

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // The machine is only replaced whole, so that a panic elsewhere leaves it sound.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flock(path: &Path) -> Result<File, HostError> {
    let file = path.join(LOCK);
    let handle = File::options().create(true).truncate(false).write(true).open(&file);
    let handle = handle.map_err(|e| io("open", &file, &e))?;
    rustix::fs::flock(&handle, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|e| io("lock", &file, &e.into()))?;
    Ok(handle)
}

/// Err: there is no state yet, only the spec.
fn read_machine(path: &Path) -> Result<Result<Machine, Box<WorldSpec>>, HostError> {
    let file = path.join(WORLD);
    let Some(spec) = read_json::<WorldSpec>(&file)? else {
        return Err(HostError::Io { what: format!("read {}", file.display()), why: "no such file".into() });
    };
    Ok(match read_json(&path.join(STATE))? {
        Some(state) => Ok(Machine { spec, state }),
        None => Err(Box::new(spec)),
    })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, HostError> {
    let Some(bytes) = read_optional(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| HostError::Malformed { what: path.display().to_string(), why: e.to_string() })
}

fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, HostError> {
    match fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io("read", path, &e)),
        Ok(metadata) if metadata.len() > MAX_BYTES => Err(HostError::Malformed {
            what: path.display().to_string(),
            why: format!("{} bytes, at most {MAX_BYTES} are read", metadata.len()),
        }),
        Ok(_) => fs::read(path).map(Some).map_err(|e| io("read", path, &e)),
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), HostError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| HostError::Malformed { what: path.display().to_string(), why: e.to_string() })?;
    let new = path.with_extension("new");
    fs::write(&new, bytes).map_err(|e| io("write", &new, &e))?;
    fs::rename(&new, path).map_err(|e| io("replace", path, &e))
}

fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), HostError> {
    // Keys hold no dot, so that this is no key's file.
    let new = path.with_extension("new");
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| io("write", &new, &e))?;
    fs::rename(&new, path).map_err(|e| io("replace", path, &e))?;
    let folder = path.parent().unwrap_or(path);
    File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io("sync", folder, &e))
}

fn check_key(key: &str) -> Result<(), HostError> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !key.is_empty() && key.len() <= 64 && key.chars().all(fine) {
        return Ok(());
    }
    Err(HostError::Malformed {
        what: format!("store key {key:?}"),
        why: "want [a-z0-9-]+, at most 64".into(),
    })
}

fn io(verb: &str, path: &Path, error: &std::io::Error) -> HostError {
    HostError::Io { what: format!("{verb} {}", path.display()), why: error.to_string() }
}

/// Writes a world's file into a folder that has none.
pub(super) fn create(path: &Path, spec: &WorldSpec) -> Result<(), HostError> {
    fs::create_dir_all(path).map_err(|e| io("make", path, &e))?;
    let _lock = flock(path)?;
    if path.join(WORLD).exists() {
        return Err(HostError::WrongMoment {
            operation: "create a world",
            why: format!("{} has one already", path.display()),
        });
    }
    write_json(&path.join(WORLD), spec)
}
