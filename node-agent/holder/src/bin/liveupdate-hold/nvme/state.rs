//! What a successor needs to go on, in the state page: written before the device is told anything that follows from it.
//!
//! Two copies in turn, each with its number and a sum: who dies while writing leaves the other.
//! ```text
//!  word 0 version │ 1 number │ 2, 3 address │ 4.. what follows │ … │ 255 sum
//! ```

use liveupdate_host::linux::vfio::Map;

use super::flight::{Counts, Flight, MOST};
use super::layout::{PAGES, STATE, at};
use super::ring::Ring;

/// Of this layout.
const VERSION: u64 = 0x4c55_4e56_4d45_0001;
const WORDS: usize = 256;
const ADDRESS_BYTES: usize = 16;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Counted by each writing.
    pub(crate) number: u64,
    /// The PCI address.
    pub(crate) address: String,
    /// Of the CPU's counter, in kHz.
    pub(crate) khz: u64,
    /// Bytes of the disk.
    pub(crate) disk: u64,
    /// Bytes of a sector.
    pub(crate) sector: u64,
    /// It may write what is there.
    pub(crate) writes: bool,
    /// What was last told to the controller: CC, AQA, ASQ, ACQ.
    pub(crate) registers: Registers,
    pub(crate) admin: Ring,
    pub(crate) io: Ring,
    /// The counter when the interrupts went off; 0: they are on.
    pub(crate) off: u64,
    /// What was done when it stood still last.
    pub(crate) before: u64,
    /// What was done when it had its device again last.
    pub(crate) returned: u64,
    pub(crate) flight: Flight,
    /// What the device knows each page of its memory by.
    pub(crate) pages: Vec<u64>,
}

/// The controller's registers that are ours to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    pub(crate) configuration: u32,
    pub(crate) sizes: u32,
    pub(crate) commands: u64,
    pub(crate) answers: u64,
}

impl State {
    /// Writes it over the older copy.
    pub(crate) fn save(&mut self, memory: &Map) {
        self.number += 1;
        let start = copy_at(self.number);
        // A copy without its sum is none.
        memory.store64(start + 8 * (WORDS - 1), 0);
        memory.written_before();
        for (at, word) in self.encode().into_iter().enumerate() {
            memory.store64(start + 8 * at, word);
        }
        memory.written_before();
    }

    /// The newer copy; none: this memory is no device's.
    pub(crate) fn load(memory: &Map) -> Option<Self> {
        let copies = [0, 1].map(|copy| {
            let words: Vec<u64> = (0..WORDS).map(|word| memory.load64(copy_at(copy) + 8 * word)).collect();
            Self::decode(&words)
        });
        copies.into_iter().flatten().max_by_key(|state| state.number)
    }

    fn encode(&self) -> Vec<u64> {
        let mut address = [0; ADDRESS_BYTES];
        for (to, from) in address.iter_mut().zip(self.address.bytes()) {
            *to = from;
        }
        let registers = self.registers;
        let Counts { done, wrong, failed, strange, lost } = self.flight.counts;
        let mut words = vec![VERSION, self.number];
        words.extend(address.chunks_exact(8).map(little));
        words.extend([self.khz, self.disk, self.sector, self.writes.into()]);
        words.extend([u64::from(registers.configuration), u64::from(registers.sizes)]);
        words.extend([registers.commands, registers.answers, self.admin.word(), self.io.word()]);
        words.extend([self.off, self.before, self.returned]);
        words.extend([self.flight.next, done, wrong, failed, strange, lost]);
        words.push(self.flight.places.len() as u64);
        // 0: no command.
        words.extend(self.flight.places.iter().map(|number| number.map_or(0, |number| number + 1)));
        words.extend(&self.pages);
        words.resize(WORDS - 1, 0);
        words.push(sum(&words));
        words
    }

    fn decode(words: &[u64]) -> Option<Self> {
        let (last, all) = words.split_last()?;
        if *last != sum(all) {
            return None;
        }
        let mut words = all.iter().copied();
        let mut next = || words.next();
        if next()? != VERSION {
            return None;
        }
        let number = next()?;
        let address = [next()?, next()?].into_iter().flat_map(u64::to_le_bytes).take_while(|byte| *byte != 0);
        let address = String::from_utf8(address.collect()).ok()?;
        let (khz, disk, sector, writes) = (next()?, next()?, next()?, next()? == 1);
        let (configuration, sizes) = (u32::try_from(next()?).ok()?, u32::try_from(next()?).ok()?);
        let registers = Registers { configuration, sizes, commands: next()?, answers: next()? };
        let (admin, io) = (Ring::from_word(next()?)?, Ring::from_word(next()?)?);
        let (off, before, returned, following) = (next()?, next()?, next()?, next()?);
        let (done, wrong, failed) = (next()?, next()?, next()?);
        let counts = Counts { done, wrong, failed, strange: next()?, lost: next()? };
        let depth = usize::try_from(next()?).ok().filter(|depth| (1..=MOST).contains(depth))?;
        let places: Vec<_> = (0..depth).map_while(|_| next()).map(|number| number.checked_sub(1)).collect();
        let pages: Vec<_> = (0..PAGES).map_while(|_| next()).collect();
        let flight = Flight { places, next: following, counts };
        Some(Self {
            number,
            address,
            khz,
            disk,
            sector,
            writes,
            registers,
            admin,
            io,
            off,
            before,
            returned,
            flight,
            pages,
        })
    }
}

fn copy_at(number: u64) -> usize {
    at(STATE) + if number.is_multiple_of(2) { 0 } else { 8 * WORDS }
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
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

    fn memory() -> Map {
        let file = memfd_create("state", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, PAGE as u64).unwrap();
        Map::shared(&file, 0, PAGE).unwrap()
    }

    fn state() -> State {
        let mut flight = Flight::new(MOST);
        flight.start();
        flight.start();
        let registers =
            Registers { configuration: 0x0046_0001, sizes: 63 << 16 | 63, commands: 1 << 40, answers: 9 };
        State {
            number: 0,
            address: "0000:01:00.0".into(),
            khz: 3_000_000,
            disk: 16 << 20,
            sector: 512,
            writes: true,
            registers,
            admin: Ring::NEW,
            io: Ring::NEW,
            off: 77,
            before: 5,
            returned: 6,
            flight,
            pages: (0..PAGES as u64).map(|page| page << 12).collect(),
        }
    }

    #[test]
    fn the_newest_whole_copy_comes_back() {
        let (memory, mut state) = (memory(), state());
        assert_eq!(State::load(&memory), None, "memory of nobody");
        state.save(&memory);
        assert_eq!(State::load(&memory).as_ref(), Some(&state));
        let older = state.clone();
        state.flight.start();
        state.save(&memory);
        assert_eq!(State::load(&memory).as_ref(), Some(&state));
        // As if its writer had died in it.
        memory.store64(copy_at(state.number) + 8 * 20, 1 << 50);
        assert_eq!(State::load(&memory), Some(older));
    }

    #[test]
    fn copies_that_are_whole_and_nonsense_are_none() {
        let words = state().encode();
        assert_eq!(words.len(), WORDS);
        for (at, nonsense) in [(0, VERSION + 1), (12, u64::MAX), (23, 64), (23, 0)] {
            let mut words = words.clone();
            words[at] = nonsense;
            let last = WORDS - 1;
            words[last] = sum(&words[..last]);
            assert_eq!(State::decode(&words), None, "word {at}");
        }
    }
}
