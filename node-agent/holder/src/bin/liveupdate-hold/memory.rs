//! The memory: a page that tells what it is, pages of a pattern that follows from a seed, and a part for each device.
//!
//! ```text
//!  page 0:  magic | seed | pages | counter | parts | zeros  other pages: words that follow from seed and place
//!  after them: parts for devices, all of one size, each device's own
//! ```
//! Whoever has the memory has the seed; nobody else can make it up.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use liveupdate_host::linux::vfio::Map;
use rustix::fs::MemfdFlags;

use crate::{nvme, virtio};

pub(crate) const PAGE: usize = 4096;
const MAGIC: u64 = 0x4c55_484f_4c44_0002;
const COUNTER: u64 = 24;
/// Bytes of a device's part, whatever it is.
const PART: u64 = (MOST_PAGES * PAGE) as u64;
const MOST_PAGES: usize = if nvme::PAGES > virtio::PAGES { nvme::PAGES } else { virtio::PAGES };
/// Pages that are filled or read at once.
const AT_ONCE: u64 = 256;

/// It, as a memfd.
#[derive(Debug)]
pub(crate) struct Memory(File);

/// What a look at all of it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) seed: u64,
    pub(crate) pages: u64,
    pub(crate) counter: u64,
    /// How many devices have a part.
    pub(crate) parts: u64,
    /// Pages that are not as they were made.
    pub(crate) wrong: u64,
}

impl Memory {
    /// Makes it: whole pages, at least two, and parts for devices behind them.
    pub(crate) fn make(bytes: u64, seed: u64, parts: u64) -> io::Result<Self> {
        let pages = bytes.div_ceil(PAGE as u64).max(2);
        let file = File::from(rustix::fs::memfd_create("liveupdate-hold", MemfdFlags::CLOEXEC)?);
        file.set_len(pages * PAGE as u64 + parts * PART)?;
        let mut page = vec![0; PAGE];
        for (word, value) in page.chunks_exact_mut(8).zip([MAGIC, seed, pages, 0, parts]) {
            word.copy_from_slice(&value.to_le_bytes());
        }
        file.write_all_at(&page, 0)?;
        each(pages, |first, count| file.write_all_at(&pattern(seed, first, count), first * PAGE as u64))?;
        Ok(Self(file))
    }

    /// The memory that somebody made.
    pub(crate) fn of(file: OwnedFd) -> Self {
        Self(File::from(file))
    }

    /// Looks at all of it.
    pub(crate) fn check(&self) -> io::Result<Found> {
        let Found { seed, pages, counter, parts, mut wrong } = self.look()?;
        each(pages, |first, count| {
            let wanted = pattern(seed, first, count);
            let mut found = vec![0; wanted.len()];
            self.0.read_exact_at(&mut found, first * PAGE as u64)?;
            let pairs = wanted.chunks_exact(PAGE).zip(found.chunks_exact(PAGE));
            wrong += pairs.filter(|(wanted, found)| wanted != found).count() as u64;
            Ok(())
        })?;
        Ok(Found { seed, pages, counter, parts, wrong })
    }

    /// Looks at its first page alone.
    pub(crate) fn look(&self) -> io::Result<Found> {
        let bytes = self.0.metadata()?.len();
        let (magic, seed, pages, parts) = (self.word(0)?, self.word(8)?, self.word(16)?, self.word(32)?);
        let fits = || Some(bytes.checked_sub(pages.checked_mul(PAGE as u64)?)? == parts.checked_mul(PART)?);
        if magic != MAGIC || pages < 2 || !fits().unwrap_or_default() {
            let why = format!("{bytes} bytes that do not begin as they were made: {magic:#x}, {pages} pages");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Found { seed, pages, counter: self.word(COUNTER)?, parts, wrong: 0 })
    }

    /// A device's part.
    pub(crate) fn part(&self, place: u64) -> io::Result<Map> {
        let found = self.look()?;
        if place >= found.parts {
            let why = format!("there are parts for {} devices, and none for number {place}", found.parts);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        Map::shared(&self.0, found.pages * PAGE as u64 + place * PART, PART as usize)
    }

    /// All of them.
    pub(crate) fn parts(&self) -> io::Result<Vec<Map>> {
        (0..self.look()?.parts).map(|place| self.part(place)).collect()
    }

    pub(crate) fn count(&self, counter: u64) -> io::Result<()> {
        self.0.write_all_at(&counter.to_le_bytes(), COUNTER)
    }

    pub(crate) fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    pub(crate) fn file(&self) -> io::Result<OwnedFd> {
        Ok(self.0.try_clone()?.into())
    }

    fn word(&self, at: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        self.0.read_exact_at(&mut word, at)?;
        Ok(u64::from_le_bytes(word))
    }
}

/// All pages but the first, some at once.
fn each(pages: u64, mut then: impl FnMut(u64, u64) -> io::Result<()>) -> io::Result<()> {
    let mut first = 1;
    while first < pages {
        let count = AT_ONCE.min(pages - first);
        then(first, count)?;
        first += count;
    }
    Ok(())
}

fn pattern(seed: u64, first: u64, count: u64) -> Vec<u8> {
    let words = first * (PAGE as u64 / 8)..(first + count) * (PAGE as u64 / 8);
    words.flat_map(|word| mixed(seed ^ mixed(word)).to_le_bytes()).collect()
}

/// splitmix64.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_that_changes_is_seen() {
        let memory = Memory::make(300 * PAGE as u64 - 5, 0xfeed, 2).unwrap();
        memory.count(7).unwrap();
        let whole = Found { seed: 0xfeed, pages: 300, counter: 7, parts: 2, wrong: 0 };
        assert_eq!(memory.check().unwrap(), whole);
        for at in [PAGE as u64, 299 * PAGE as u64 + 4095, 256 * PAGE as u64] {
            let mut byte = [0];
            memory.0.read_exact_at(&mut byte, at).unwrap();
            memory.0.write_all_at(&[byte[0] ^ 1], at).unwrap();
        }
        assert_eq!(memory.check().unwrap(), Found { wrong: 3, ..whole });
        // What devices write is none of the pattern.
        memory.part(1).unwrap().store64(0, 1);
        assert_eq!(memory.check().unwrap().wrong, 3);
        assert_eq!((memory.parts().unwrap().len(), memory.part(2).is_err()), (2, true));
        memory.0.write_all_at(&[0; PAGE], 0).unwrap();
        assert!(memory.check().is_err(), "memory of nobody");
    }
}
