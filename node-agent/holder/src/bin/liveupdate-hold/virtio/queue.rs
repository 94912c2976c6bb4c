//! The receive queue: a split virtqueue (2.7) that always has all of its buffers posted.
//!
//! ```text
//!  available ring:  … taken by the device │ posted …       used ring:  … seen │ filled by the device …
//!                                            ▲ posted                          ▲ seen
//! ```
//! Both positions count on without end, in 16 bits; buffer and descriptor of a number belong together for good.

use liveupdate_host::linux::vfio::Map;

use super::layout::{AVAILABLE, BUFFER, DESCRIPTORS, ENTRIES, USED, at, buffer};
use crate::memory::PAGE;

/// Of a descriptor: its bytes, and that the device writes there.
const DESCRIPTOR: usize = 16;
const WRITES: u16 = 1 << 1;
/// In both rings: flags, the position, and the first entry.
const FLAGS: usize = 0;
const POSITION: usize = 2;
const RING: usize = 4;
/// The driver wants no interrupt.
const QUIET: u16 = 1;
/// The device wants no notification.
const DEAF: u16 = 1;

/// How far both sides are, as we know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queue {
    /// Buffers posted ever.
    pub(crate) posted: u16,
    /// Filled ones seen ever.
    pub(crate) seen: u16,
}

/// A buffer that the device gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    pub(crate) id: u16,
    pub(crate) bytes: u32,
}

impl Queue {
    /// One that a device has not seen yet, with all buffers in it; `pages` is how the device knows the memory.
    pub(crate) fn fresh(memory: &Map, pages: &[u64]) -> Self {
        for page in [AVAILABLE, USED] {
            (0..PAGE / 8).for_each(|word| memory.store64(at(page) + 8 * word, 0));
        }
        let mut queue = Self { posted: 0, seen: 0 };
        for id in 0..ENTRIES {
            let (start, entry) = (buffer(id), at(DESCRIPTORS) + DESCRIPTOR * usize::from(id));
            let page = pages.get(start / PAGE).copied().unwrap_or_default();
            memory.store64(entry, page + (start % PAGE) as u64);
            memory.store32(entry + 8, BUFFER as u32);
            memory.store16(entry + 12, WRITES);
            memory.store16(entry + 14, 0);
            queue.post(memory, id);
        }
        queue
    }

    /// Puts a buffer into the ring; the device sees it once it is published.
    pub(crate) fn post(&mut self, memory: &Map, id: u16) {
        let place = usize::from(self.posted % ENTRIES);
        memory.store16(at(AVAILABLE) + RING + 2 * place, id);
        self.posted = self.posted.wrapping_add(1);
    }

    /// Lets the device see all that is posted. True: it wants to be notified of that.
    pub(crate) fn publish(self, memory: &Map) -> bool {
        memory.written_before();
        memory.store16(at(AVAILABLE) + POSITION, self.posted);
        memory.written_before();
        memory.load16(at(USED) + FLAGS) & DEAF == 0
    }

    /// Whether frames signal the vector. Those that come before the device has seen this may or may not.
    pub(crate) fn interrupts(memory: &Map, on: bool) {
        memory.store16(at(AVAILABLE) + FLAGS, if on { 0 } else { QUIET });
        memory.written_before();
    }

    /// Buffers that the device has.
    pub(crate) fn outstanding(self) -> u16 {
        self.posted.wrapping_sub(self.seen)
    }

    /// How many buffers it gave back that were not seen yet.
    ///
    /// # Errors
    /// More than it had: what is in the ring is not to be believed.
    pub(crate) fn filled(self, memory: &Map) -> Result<u16, String> {
        let position = memory.load16(at(USED) + POSITION);
        let filled = position.wrapping_sub(self.seen);
        if filled > self.outstanding() {
            let (seen, had) = (self.seen, self.outstanding());
            return Err(format!(
                "its used ring is at {position}, {seen} were seen, and it had {had} buffers"
            ));
        }
        memory.read_before();
        Ok(filled)
    }

    /// Takes the next one; there must be one.
    pub(crate) fn take(&mut self, memory: &Map) -> Result<Filled, String> {
        let entry = at(USED) + RING + 8 * usize::from(self.seen % ENTRIES);
        self.seen = self.seen.wrapping_add(1);
        let (id, bytes) = (memory.load32(entry), memory.load32(entry + 4));
        match u16::try_from(id) {
            Ok(id) if id < ENTRIES => Ok(Filled { id, bytes }),
            _ => Err(format!("its used ring names buffer {id}, and there are {ENTRIES}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::super::layout::PAGES;
    use super::*;

    fn memory() -> Map {
        let file = memfd_create("queue", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, (PAGES * PAGE) as u64).unwrap();
        Map::shared(&file, 0, PAGES * PAGE).unwrap()
    }

    /// Fills buffers in the order of the available ring, as a NIC does.
    fn fill(memory: &Map, frames: u16) {
        for _ in 0..frames {
            let done = memory.load16(at(USED) + POSITION);
            assert_ne!(done, memory.load16(at(AVAILABLE) + POSITION), "it has no buffer");
            let place = usize::from(done % ENTRIES);
            let id = memory.load16(at(AVAILABLE) + RING + 2 * place);
            memory.store32(at(USED) + RING + 8 * place, id.into());
            memory.store32(at(USED) + RING + 8 * place + 4, 100 + u32::from(id));
            memory.store16(at(USED) + POSITION, done.wrapping_add(1));
        }
    }

    #[test]
    fn every_buffer_is_described_within_its_page() {
        let (memory, pages) = (memory(), (0..PAGES as u64).map(|page| page << 20).collect::<Vec<_>>());
        Queue::fresh(&memory, &pages);
        let address = |id: usize| memory.load64(at(DESCRIPTORS) + 16 * id);
        assert_eq!((address(0), address(1), address(2)), (4 << 20, (4 << 20) + 2048, 5 << 20));
        assert_eq!(address(255), (131 << 20) + 2048);
        assert_eq!(memory.load64(at(DESCRIPTORS) + 16 * 9 + 8), 2048 | 2 << 32);
    }

    #[test]
    fn over_many_turns_each_buffer_is_seen_once_and_goes_back() {
        let memory = memory();
        let mut queue = Queue::fresh(&memory, &[0; PAGES]);
        assert!(queue.publish(&memory));
        // Never in step with the ring, and past the end of 16 bits.
        for burst in (1..=ENTRIES).cycle().step_by(37).take(1000) {
            fill(&memory, burst);
            assert_eq!(queue.filled(&memory), Ok(burst));
            for _ in 0..burst {
                let Filled { id, bytes } = queue.take(&memory).unwrap();
                assert_eq!(bytes, 100 + u32::from(id));
                queue.post(&memory, id);
            }
            assert_eq!((queue.filled(&memory), queue.outstanding()), (Ok(0), ENTRIES));
            queue.publish(&memory);
        }
    }

    #[test]
    fn a_ring_that_makes_no_sense_is_not_followed() {
        let memory = memory();
        let mut queue = Queue::fresh(&memory, &[0; PAGES]);
        queue.publish(&memory);
        memory.store16(at(USED) + POSITION, ENTRIES + 1);
        assert!(queue.filled(&memory).is_err());
        memory.store32(at(USED) + RING, ENTRIES.into());
        assert!(queue.take(&memory).is_err());
        Queue::interrupts(&memory, false);
        assert_eq!(memory.load16(at(AVAILABLE)), 1);
        memory.store16(at(USED) + FLAGS, DEAF);
        assert!(!queue.publish(&memory));
    }
}
