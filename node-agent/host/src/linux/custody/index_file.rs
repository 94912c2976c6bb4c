//! The index in its memfd: sealed against any change of size, written by us alone.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};

use super::index::{HEADER, Index, SLOT};
use crate::HostError;

const WHOLE: usize = 2 * SLOT;

/// The file, and which of its slots was written last.
#[derive(Debug)]
pub(super) struct IndexFile {
    file: File,
    generation: u64,
}

fn io(what: &str, error: &dyn ToString) -> HostError {
    HostError::Io { what: format!("{what} the index of what is in custody"), why: error.to_string() }
}

impl IndexFile {
    /// A new one, empty.
    pub(super) fn create() -> Result<Self, HostError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("liveupdate-index", flags).map_err(|error| io("make", &error))?;
        rustix::fs::ftruncate(&file, WHOLE as u64).map_err(|error| io("size", &error))?;
        let seals = SealFlags::SHRINK | SealFlags::GROW;
        rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| io("seal", &error))?;
        Ok(Self { file: File::from(file), generation: 0 })
    }

    /// The one that came through the jump, with what it holds.
    pub(super) fn arrived(file: OwnedFd) -> Result<(Self, Index), HostError> {
        let file = File::from(file);
        let size = file.metadata().map_err(|error| io("look at", &error))?.len();
        let malformed =
            |why: String| HostError::Malformed { what: "the index that came through the jump".into(), why };
        if size != WHOLE as u64 {
            return Err(malformed(format!("it has {size} bytes, not {WHOLE}")));
        }
        let slot = |at: u64| {
            let mut header = [0; HEADER];
            file.read_exact_at(&mut header, at)?;
            let mut slot = vec![0; Index::length(&header)];
            file.read_exact_at(&mut slot, at).map(|()| slot)
        };
        let first = slot(0).map_err(|error| io("read", &error))?;
        let second = slot(SLOT as u64).map_err(|error| io("read", &error))?;
        let (generation, index) =
            Index::newest(&first, &second).map_err(|error| malformed(error.to_string()))?;
        Ok((Self { file, generation }, index))
    }

    /// Writes the slot that does not count; then it does.
    pub(super) fn write(&mut self, index: &Index) -> Result<(), HostError> {
        let generation = self.generation + 1;
        let slot = index.encode(generation).map_err(|error| io("write", &error))?;
        let at = if generation.is_multiple_of(2) { SLOT as u64 } else { 0 };
        self.file.write_all_at(&slot, at).map_err(|error| io("write", &error))?;
        self.generation = generation;
        Ok(())
    }
}

impl AsFd for IndexFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
