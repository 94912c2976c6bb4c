//! The index in its memfd: sealed against any change of size, written by us alone.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};

use super::index::{HEADER, Index, IndexError, SLOT};
use crate::HostError;

/// The file, its slots' size, and which of them was written last.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: File,
    slot: usize,
    generation: u64,
}

fn io(what: &str, error: &dyn ToString) -> HostError {
    HostError::Io { what: format!("{what} the index of what is in custody"), why: error.to_string() }
}

impl IndexFile {
    /// A new one, empty, in which this index has room until its end.
    pub(super) fn create(index: &Index) -> Result<Self, HostError> {
        let slot = index.slot().map_err(|error| io("size", &error))?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("liveupdate-index", flags).map_err(|error| io("make", &error))?;
        rustix::fs::ftruncate(&file, 2 * slot as u64).map_err(|error| io("size", &error))?;
        let seals = SealFlags::SHRINK | SealFlags::GROW;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| io("seal", &error))?;
        Ok(Self { file: File::from(file), slot, generation: 0 })
    }

    /// The one that came through the jump, with what it holds.
    pub(super) fn arrived(file: OwnedFd) -> Result<(Self, Index), HostError> {
        let file = File::from(file);
        let size = file.metadata().map_err(|error| io("look at", &error))?.len();
        let malformed =
            |why: String| HostError::Malformed { what: "the index that came through the jump".into(), why };
        let slot = usize::try_from(size / 2).unwrap_or(usize::MAX);
        if !size.is_multiple_of(2) || !(HEADER..=SLOT).contains(&slot) {
            return Err(malformed(format!(
                "it has {size} bytes, which is no two slots of {HEADER} to {SLOT}"
            )));
        }
        let read = |at: usize| {
            let mut header = [0; HEADER];
            file.read_exact_at(&mut header, at as u64)?;
            let mut bytes = vec![0; Index::length(&header).min(slot)];
            file.read_exact_at(&mut bytes, at as u64).map(|()| bytes)
        };
        let first = read(0).map_err(|error| io("read", &error))?;
        let second = read(slot).map_err(|error| io("read", &error))?;
        let (generation, index) =
            Index::newest(&first, &second).map_err(|error| malformed(error.to_string()))?;
        Ok((Self { file, slot, generation }, index))
    }

    /// Writes the slot that does not count; then it does.
    pub(super) fn write(&mut self, index: &Index) -> Result<(), HostError> {
        let generation = self.generation + 1;
        let bytes = index.encode(generation).map_err(|error| io("write", &error))?;
        if bytes.len() > self.slot {
            return Err(io("write", &IndexError::TooLarge { bytes: bytes.len(), fit: self.slot }));
        }
        let at = if generation.is_multiple_of(2) { self.slot as u64 } else { 0 };
        self.file.write_all_at(&bytes, at).map_err(|error| io("write", &error))?;
        self.generation = generation;
        Ok(())
    }
}

impl AsFd for IndexFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
