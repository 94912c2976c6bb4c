//! What a successor needs to go on, in the first page of a device's memory: written before the device is told anything that
//! follows from it.
//!
//! Two copies in turn, each with its number and a sum: who dies while writing leaves the other.
//! ```text
//!  word 0 version │ 1 number │ 2, 3 address │ 4.. what follows │ … │ 255 sum
//! ```

use liveupdate_host::linux::vfio::Map;

/// Of a copy, its sum among them.
pub(crate) const WORDS: usize = 256;
const ADDRESS_BYTES: usize = 16;

/// What is kept so of a device.
pub(crate) trait Copied: Sized {
    /// Counted by each writing.
    fn number(&mut self) -> &mut u64;
    fn encode(&self) -> Vec<u64>;
    /// None: these words are something else's.
    fn decode(words: &[u64]) -> Option<Self>;

    /// Writes it over the older copy.
    fn save(&mut self, memory: &Map) {
        *self.number() += 1;
        let number = *self.number();
        save(memory, number, &self.encode());
    }

    /// The newer copy; none: this memory is not of such a device.
    fn load(memory: &Map) -> Option<Self> {
        let whole = load(memory).filter_map(|words| Some((*words.get(1)?, Self::decode(&words)?)));
        whole.max_by_key(|(number, _)| *number).map(|(_, newest)| newest)
    }
}

/// Writes one over the older copy.
fn save(memory: &Map, number: u64, words: &[u64]) {
    let start = copy_at(number);
    // A copy without its sum is none.
    memory.store64(start + 8 * (WORDS - 1), 0);
    memory.written_before();
    let padded = words.iter().copied().chain(std::iter::repeat(0)).take(WORDS - 1);
    let padded: Vec<u64> = padded.collect();
    for (at, word) in padded.iter().enumerate() {
        memory.store64(start + 8 * at, *word);
    }
    memory.store64(start + 8 * (WORDS - 1), sum(&padded));
    memory.written_before();
}

/// Those that are whole, each without its sum.
fn load(memory: &Map) -> impl Iterator<Item = Vec<u64>> {
    [0, 1].into_iter().filter_map(|copy| {
        let mut words: Vec<u64> = (0..WORDS).map(|word| memory.load64(copy_at(copy) + 8 * word)).collect();
        let last = words.pop()?;
        (last == sum(&words)).then_some(words)
    })
}

/// A PCI address in its words.
pub(crate) fn address_words(address: &str) -> [u64; 2] {
    let mut bytes = [0; ADDRESS_BYTES];
    for (to, from) in bytes.iter_mut().zip(address.bytes()) {
        *to = from;
    }
    let word = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    [word(0), word(8)]
}

/// The address in those words; none: it is no text.
pub(crate) fn address_of(words: [u64; 2]) -> Option<String> {
    let bytes = words.into_iter().flat_map(u64::to_le_bytes).take_while(|byte| *byte != 0);
    String::from_utf8(bytes.collect()).ok()
}

/// Where the copy of that number begins.
pub(crate) fn copy_at(number: u64) -> usize {
    if number.is_multiple_of(2) { 0 } else { 8 * WORDS }
}

/// FNV-1a, over words.
fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0xcbf2_9ce4_8422_2325, |sum, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;
    use crate::memory::PAGE;

    #[test]
    fn copies_are_whole_or_none_and_addresses_come_back() {
        let file = memfd_create("copies", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, PAGE as u64).unwrap();
        let memory = Map::shared(&file, 0, PAGE).unwrap();
        assert_eq!(load(&memory).count(), 0, "memory of nobody");
        for number in 1..4 {
            save(&memory, number, &[7, number]);
        }
        let numbers = |memory: &Map| load(memory).map(|words| words[1]).collect::<Vec<_>>();
        assert_eq!(numbers(&memory), [2, 3]);
        // As if its writer had died in it.
        memory.store64(copy_at(3) + 8 * 20, 1 << 50);
        assert_eq!(numbers(&memory), [2]);
        let address = "0000:01:00.0";
        assert_eq!(address_of(address_words(address)).as_deref(), Some(address));
        assert_eq!(address_of([0xff, 0]), None);
    }
}
