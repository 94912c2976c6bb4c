//! Frames that the lab sends, behind the header that the device writes first.
//!
//! ```text
//!  0 header │ 12 to │ 18 from │ 24 88b5 "liveup" │ 32 number │ 40.. words that follow from it
//! ```
//! 88b5 is the EtherType that IEEE 802 leaves to experiments.

use liveupdate_host::linux::vfio::Map;

/// Where the type, the number and the words are. Bytes of a frame with its header.
const KIND: usize = 24;
const NUMBER: usize = 32;
const WORDS: usize = 40;
pub(crate) const BYTES: u32 = 112;
const OURS: u64 = u64::from_le_bytes(*b"\x88\xb5liveup");

/// What is in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The lab's.
    Numbered(u64),
    /// The lab's, and not as it was sent.
    Wrong(u64),
    /// Somebody else's.
    Other,
}

impl Frame {
    /// Reads a buffer into which the device has written so many bytes.
    pub(crate) fn of(memory: &Map, buffer: usize, bytes: u32) -> Self {
        if bytes < BYTES || memory.load64(buffer + KIND) != OURS {
            return Self::Other;
        }
        let number = memory.load64(buffer + NUMBER);
        let words = (WORDS..BYTES as usize).step_by(8).enumerate();
        let right = words.into_iter().all(|(word, at)| memory.load64(buffer + at) == word_of(number, word));
        if right { Self::Numbered(number) } else { Self::Wrong(number) }
    }

    /// What the device does not write into a buffer is no frame.
    pub(crate) fn erase(memory: &Map, buffer: usize) {
        memory.store64(buffer + KIND, 0);
    }
}

/// A word of a frame of that number.
fn word_of(number: u64, word: usize) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(word as u64)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;
    use crate::memory::PAGE;

    #[test]
    fn frames_are_known_by_their_type_and_their_words() {
        let file = memfd_create("frame", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, PAGE as u64).unwrap();
        let memory = Map::shared(&file, 0, PAGE).unwrap();
        let buffer = 2048;
        assert_eq!(Frame::of(&memory, buffer, BYTES), Frame::Other);
        memory.store64(buffer + KIND, OURS);
        memory.store64(buffer + NUMBER, 7);
        for word in 0..9 {
            assert_eq!(Frame::of(&memory, buffer, BYTES), Frame::Wrong(7), "before word {word}");
            memory.store64(buffer + WORDS + 8 * word, word_of(7, word));
        }
        assert_eq!(Frame::of(&memory, buffer, BYTES), Frame::Numbered(7));
        assert_eq!(memory.load8(buffer + KIND), 0x88);
        assert_eq!(Frame::of(&memory, buffer, BYTES - 1), Frame::Other, "cut off");
        Frame::erase(&memory, buffer);
        assert_eq!(Frame::of(&memory, buffer, BYTES), Frame::Other);
    }
}
