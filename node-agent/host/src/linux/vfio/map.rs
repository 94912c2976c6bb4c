//! Memory that others change while we look: a device's registers, and memory that a device writes into.
//!
//! Every access is one volatile load or store of its own width. What lies outside the map behaves as on a bus where
//! nobody answers: reads give all ones, writes go nowhere. So no access can fail, and none can leave the map.

// Maps, and loads and stores through them, have no safe form.
#![allow(unsafe_code, reason = "mapped memory that others write into")]

use std::io;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags};

/// A shared map of a part of a file.
#[derive(Debug)]
pub struct Map {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the map belongs to the process and not to a thread.
unsafe impl Send for Map {}
// SAFETY: all access goes through volatile loads and stores of aligned words. Two threads may see each other's words in
// any order, as they see a device's.
unsafe impl Sync for Map {}

impl Map {
    /// Maps `length` bytes of a file from `offset` on, to read and to write. Both in whole pages.
    ///
    /// # Errors
    /// As mmap(2).
    pub fn shared(file: impl AsFd, offset: u64, length: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new map, at a place that the kernel chooses, replaces nothing.
        let start =
            unsafe { rustix::mm::mmap(ptr::null_mut(), length, protection, MapFlags::SHARED, file, offset) }?;
        let start = NonNull::new(start.cast())
            .ok_or_else(|| io::Error::other("mmap gave a map at address zero, which nobody asked for"))?;
        Ok(Self { start, length })
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Maps of nothing cannot be made.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Where it begins in this process, for the kernel to map it elsewhere.
    pub(super) fn address(&self) -> u64 {
        self.start.as_ptr().addr() as u64
    }

    /// Reads 8 bits.
    pub fn load8(&self, at: usize) -> u8 {
        // SAFETY: `word` gives aligned addresses within the map alone, which lives as long as `self`. Any bits are a
        // number.
        self.word(at).map_or(u8::MAX, |word| unsafe { ptr::read_volatile(word) })
    }

    /// Reads 16 bits.
    pub fn load16(&self, at: usize) -> u16 {
        // SAFETY: as in `load8`.
        self.word(at).map_or(u16::MAX, |word| u16::from_le(unsafe { ptr::read_volatile(word) }))
    }

    /// Reads 32 bits.
    pub fn load32(&self, at: usize) -> u32 {
        // SAFETY: as in `load8`.
        self.word(at).map_or(u32::MAX, |word| u32::from_le(unsafe { ptr::read_volatile(word) }))
    }

    /// Reads 64 bits.
    pub fn load64(&self, at: usize) -> u64 {
        // SAFETY: as in `load8`.
        self.word(at).map_or(u64::MAX, |word| u64::from_le(unsafe { ptr::read_volatile(word) }))
    }

    /// Writes 8 bits.
    pub fn store8(&self, at: usize, value: u8) {
        if let Some(word) = self.word(at) {
            // SAFETY: as in `load8`; the map is writable.
            unsafe { ptr::write_volatile(word, value) };
        }
    }

    /// Writes 16 bits.
    pub fn store16(&self, at: usize, value: u16) {
        if let Some(word) = self.word(at) {
            // SAFETY: as in `store8`.
            unsafe { ptr::write_volatile(word, value.to_le()) };
        }
    }

    /// Writes 32 bits.
    pub fn store32(&self, at: usize, value: u32) {
        if let Some(word) = self.word(at) {
            // SAFETY: as in `store8`.
            unsafe { ptr::write_volatile(word, value.to_le()) };
        }
    }

    /// Writes 64 bits.
    pub fn store64(&self, at: usize, value: u64) {
        if let Some(word) = self.word(at) {
            // SAFETY: as in `store8`.
            unsafe { ptr::write_volatile(word, value.to_le()) };
        }
    }

    /// What was read before is read before what follows: between seeing that something is there and reading it.
    pub fn read_before(&self) {
        fence(Ordering::Acquire);
    }

    /// What was written before is there before what follows is: between filling memory and telling a device.
    pub fn written_before(&self) {
        fence(Ordering::SeqCst);
    }

    fn word<T>(&self, at: usize) -> Option<*mut T> {
        let end = at.checked_add(size_of::<T>())?;
        if end > self.length || !at.is_multiple_of(size_of::<T>()) {
            return None;
        }
        // SAFETY: `at` and the word's end are within the map.
        Some(unsafe { self.start.as_ptr().add(at) }.cast())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the map is ours and whole, and nothing borrows from it any more: no access hands out a reference.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    #[test]
    fn two_maps_of_a_file_see_each_other_and_nothing_is_outside_of_them() {
        let file = memfd_create("map", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 3 * 4096).unwrap();
        let (all, last) = (Map::shared(&file, 0, 3 * 4096).unwrap(), Map::shared(&file, 8192, 4096).unwrap());
        all.store64(8192 + 16, 0x1122_3344_5566_7788);
        assert_eq!((last.load64(16), last.load32(20)), (0x1122_3344_5566_7788, 0x1122_3344));
        assert_eq!((last.load16(18), last.load8(19)), (0x5566, 0x55));
        last.store16(30, 0xbeef);
        last.store8(29, 0xaa);
        assert_eq!(all.load32(8192 + 28), 0xbeef_aa00);
        last.store32(4092, 7);
        last.store32(4096, 8);
        last.store64(4092, 9);
        assert_eq!((all.load32(8192 + 4092), all.load64(0)), (7, 0));
        assert_eq!(
            (last.load32(4096), last.load64(usize::MAX - 3), last.load32(2)),
            (u32::MAX, u64::MAX, u32::MAX)
        );
        last.store16(4096, 1);
        last.store8(4096, 1);
        assert_eq!((last.load16(4095), last.load16(1), last.load8(4096)), (u16::MAX, u16::MAX, u8::MAX));
    }
}
