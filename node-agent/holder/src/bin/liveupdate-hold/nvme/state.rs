//! What a successor needs to go on with a disk ([`copies`] says how it is written).

use super::flight::{Counts, Flight, MOST};
use super::layout::PAGES;
use super::ring::Ring;
use crate::copies::{self, Copied};

/// Of this layout.
const VERSION: u64 = 0x4c55_4e56_4d45_0001;

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

impl Copied for State {
    fn number(&mut self) -> &mut u64 {
        &mut self.number
    }

    fn encode(&self) -> Vec<u64> {
        let registers = self.registers;
        let Counts { done, wrong, failed, strange, lost } = self.flight.counts;
        let mut words = vec![VERSION, self.number];
        words.extend(copies::address_words(&self.address));
        words.extend([self.khz, self.disk, self.sector, self.writes.into()]);
        words.extend([u64::from(registers.configuration), u64::from(registers.sizes)]);
        words.extend([registers.commands, registers.answers, self.admin.word(), self.io.word()]);
        words.extend([self.off, self.before, self.returned]);
        words.extend([self.flight.next, done, wrong, failed, strange, lost]);
        words.push(self.flight.places.len() as u64);
        // 0: no command.
        words.extend(self.flight.places.iter().map(|number| number.map_or(0, |number| number + 1)));
        words.extend(&self.pages);
        words
    }

    fn decode(words: &[u64]) -> Option<Self> {
        let mut words = words.iter().copied();
        let mut next = || words.next();
        if next()? != VERSION {
            return None;
        }
        let number = next()?;
        let address = copies::address_of([next()?, next()?])?;
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

#[cfg(test)]
mod tests {
    use liveupdate_host::linux::vfio::Map;
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
        memory.store64(copies::copy_at(state.number) + 8 * 20, 1 << 50);
        assert_eq!(State::load(&memory), Some(older));
    }

    #[test]
    fn copies_that_are_whole_and_nonsense_are_none() {
        let words = state().encode();
        assert!(words.len() < copies::WORDS, "{}", words.len());
        for (at, nonsense) in [(0, VERSION + 1), (12, u64::MAX), (23, 64), (23, 0)] {
            let mut words = words.clone();
            words[at] = nonsense;
            assert_eq!(State::decode(&words), None, "word {at}");
        }
    }
}
