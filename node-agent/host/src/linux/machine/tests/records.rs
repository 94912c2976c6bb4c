//! Records over kills, power cuts and changed bytes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::super::record::{decode, encode};
use super::super::store::{Disk, Store};
use crate::HostError;

const OLD: &[u8] = b"the old record";
const NEW: &[u8] = b"the new one, which is longer";

/// A disk with a cache that a power cut empties. Every write, sync and rename is one step; it can be cut off
/// before any of them, and a write after any byte.
#[derive(Default)]
struct Cached {
    /// By name: what is in the cache, and what is on the disk.
    files: BTreeMap<PathBuf, (Vec<u8>, Vec<u8>)>,
    /// Names as they are on the disk.
    durable: BTreeMap<PathBuf, Vec<u8>>,
    steps: usize,
    /// The step that is not made any more, and how many bytes a write there has still made.
    cut: Option<(usize, usize)>,
}

#[derive(Clone, Default)]
struct CutDisk(Arc<Mutex<Cached>>);

impl CutDisk {
    fn step(&self) -> io::Result<Option<usize>> {
        let mut disk = self.0.lock().unwrap();
        disk.steps += 1;
        match disk.cut {
            Some((step, bytes)) if disk.steps == step => Ok(Some(bytes)),
            Some((step, _)) if disk.steps > step => Err(io::Error::other("the power is off")),
            _ => Ok(None),
        }
    }

    fn off() -> io::Error {
        io::Error::other("the power is off")
    }

    /// What may be found after a power cut, for each choice that a disk has: renames that were not synced
    /// have happened or not, bytes that were not synced are there or not.
    fn after_a_cut(&self) -> Vec<BTreeMap<PathBuf, Vec<u8>>> {
        let disk = self.0.lock().unwrap();
        let mut found = Vec::new();
        for renamed in [false, true] {
            for cached in [false, true] {
                let names: Vec<&PathBuf> =
                    if renamed { disk.files.keys().collect() } else { disk.durable.keys().collect() };
                let content = |name: &&PathBuf| {
                    let bytes = match disk.files.get(*name) {
                        Some((now, synced)) if renamed => if cached { now } else { synced }.clone(),
                        _ => disk.durable.get(*name).cloned().unwrap_or_default(),
                    };
                    ((*name).clone(), bytes)
                };
                found.push(names.iter().map(content).collect());
            }
        }
        found
    }
}

impl Disk for CutDisk {
    fn read(&self, path: &Path, _: u64) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().files.get(path).map(|(now, _)| now.clone()))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let cut = self.step()?;
        let kept = cut.unwrap_or(bytes.len()).min(bytes.len());
        let mut disk = self.0.lock().unwrap();
        disk.files.insert(path.to_owned(), (bytes[..kept].to_vec(), Vec::new()));
        if cut.is_some() { Err(Self::off()) } else { Ok(()) }
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        if self.step()?.is_some() {
            return Err(Self::off());
        }
        if let Some((now, synced)) = self.0.lock().unwrap().files.get_mut(path) {
            synced.clone_from(now);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.step()?.is_some() {
            return Err(Self::off());
        }
        let mut disk = self.0.lock().unwrap();
        let moved = disk.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.files.insert(to.to_owned(), moved);
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        if self.step()?.is_some() {
            return Err(Self::off());
        }
        let mut disk = self.0.lock().unwrap();
        disk.durable = disk.files.iter().map(|(name, (_, synced))| (name.clone(), synced.clone())).collect();
        Ok(())
    }
}

fn with_old() -> (CutDisk, Store) {
    let disk = CutDisk::default();
    let store = Store::on("/state".into(), Box::new(disk.clone()));
    store.store("journal", OLD).unwrap();
    disk.0.lock().unwrap().steps = 0;
    (disk, store)
}

/// What a store finds on a disk that holds these files.
fn found(files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Option<Vec<u8>>, HostError> {
    let disk = CutDisk::default();
    let cached = files.iter().map(|(name, bytes)| (name.clone(), (bytes.clone(), bytes.clone()))).collect();
    disk.0.lock().unwrap().files = cached;
    Store::on("/state".into(), Box::new(disk)).load("journal")
}

#[test]
fn invariant_6_a_power_cut_at_any_step_and_byte_leaves_the_old_record_or_the_new_one() {
    let length = encode("journal", NEW).len();
    for step in 1..=4 {
        // Only the first step writes bytes.
        for bytes in 0..if step == 1 { length } else { 1 } {
            let (disk, store) = with_old();
            disk.0.lock().unwrap().cut = Some((step, bytes));
            store.store("journal", NEW).unwrap_err();
            for files in disk.after_a_cut() {
                let record = found(&files).unwrap().unwrap();
                assert!(record == OLD || record == NEW, "cut at step {step}, byte {bytes}: {record:?}");
            }
        }
    }
}

#[test]
fn what_was_stored_is_there_after_a_power_cut() {
    let (disk, store) = with_old();
    store.store("journal", NEW).unwrap();
    for files in disk.after_a_cut() {
        assert_eq!(found(&files).unwrap().unwrap(), NEW);
    }
}

#[test]
fn a_record_that_was_cut_or_changed_at_any_byte_is_an_error_and_never_another_record() {
    let whole = encode("journal", NEW);
    for length in 0..whole.len() {
        decode("journal", &whole[..length]).unwrap_err();
    }
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            decode("journal", &changed).unwrap_err();
        }
    }
    decode("journal", &[whole.as_slice(), b"x"].concat()).unwrap_err();
    decode("agent-fence", &whole).unwrap_err();
    assert_eq!(decode("journal", &whole).unwrap(), NEW);
}

#[test]
fn a_bad_record_says_what_to_do_and_a_bad_key_is_refused() {
    let files = BTreeMap::from([(PathBuf::from("/state/journal.record"), b"garbage".to_vec())]);
    let error = found(&files).unwrap_err().to_string();
    assert!(error.contains("/state/journal.record") && error.contains("remove it"), "{error}");
    let (_, store) = with_old();
    for key in ["", "../journal", "Journal", "a.b"] {
        assert!(matches!(store.store(key, b""), Err(HostError::Malformed { .. })), "{key}");
    }
    store.store("journal", &vec![0; 5 << 20]).unwrap_err();
    assert_eq!(store.load("journal").unwrap().unwrap(), OLD);
}
