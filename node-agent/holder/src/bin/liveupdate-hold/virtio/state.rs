//! What a successor needs to go on with a NIC ([`copies`] says how it is written).

use super::counts::Counts;
use super::layout::{ENTRIES, PAGES};
use super::queue::Queue;
use super::transport::Told;
use crate::copies::{self, Copied};

/// Of this layout.
const VERSION: u64 = 0x4c55_564e_4943_0001;

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Counted by each writing.
    pub(crate) number: u64,
    /// The PCI address.
    pub(crate) address: String,
    /// Of the CPU's counter, in kHz.
    pub(crate) khz: u64,
    /// What the device was told last.
    pub(crate) told: Told,
    pub(crate) queue: Queue,
    /// The counter when the interrupts went off; 0: they are on.
    pub(crate) off: u64,
    /// Frames when it stood still last.
    pub(crate) before: u64,
    /// Frames when it had its device again last.
    pub(crate) returned: u64,
    pub(crate) counts: Counts,
    /// What the device knows each page of its memory by.
    pub(crate) pages: Vec<u64>,
}

impl Copied for State {
    fn number(&mut self) -> &mut u64 {
        &mut self.number
    }

    fn encode(&self) -> Vec<u64> {
        let Counts { next, received, lost, late, wrong, others, strange } = self.counts;
        let Told { features, entries, vector, on, addresses } = self.told;
        let mut words = vec![VERSION, self.number];
        words.extend(copies::address_words(&self.address));
        words.extend([self.khz, features, entries.into(), vector.into(), on.into()]);
        words.extend(addresses);
        words.extend([self.queue.posted, self.queue.seen].map(u64::from));
        words.extend([self.off, self.before, self.returned]);
        words.extend([next, received, lost, late, wrong, others, strange]);
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
        let (khz, features) = (next()?, next()?);
        let mut short = || u16::try_from(next()?).ok();
        let (entries, vector, on) = (short()?, short()?, short()?);
        let addresses = [next()?, next()?, next()?];
        let told = Told { features, entries, vector, on, addresses };
        let mut short = || u16::try_from(next()?).ok();
        let queue = Queue { posted: short()?, seen: short()? };
        if queue.outstanding() > ENTRIES {
            return None;
        }
        let (off, before, returned, following) = (next()?, next()?, next()?, next()?);
        let (received, lost, late, wrong) = (next()?, next()?, next()?, next()?);
        let (others, strange) = (next()?, next()?);
        let counts = Counts { next: following, received, lost, late, wrong, others, strange };
        let pages = (0..PAGES).map_while(|_| next()).collect();
        Some(Self { number, address, khz, told, queue, off, before, returned, counts, pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            number: 3,
            address: "0000:03:00.0".into(),
            khz: 3_000_000,
            told: Told { features: 1 << 32, entries: ENTRIES, vector: 0, on: 1, addresses: [1, 2, 3] },
            queue: Queue { posted: 10, seen: 65_530 },
            off: 77,
            before: 5,
            returned: 6,
            counts: Counts { next: 9, received: 8, lost: 7, late: 6, wrong: 5, others: 4, strange: 3 },
            pages: (0..PAGES as u64).map(|page| page << 12).collect(),
        }
    }

    #[test]
    fn it_comes_back_as_it_was_and_nonsense_does_not() {
        let words = state().encode();
        assert!(words.len() < copies::WORDS, "{}", words.len());
        let padded = [words.clone(), vec![0; copies::WORDS - 1 - words.len()]].concat();
        assert_eq!(State::decode(&padded), Some(state()));
        for (at, nonsense) in [(0, VERSION + 1), (2, u64::MAX), (6, u64::MAX), (12, 1 << 20), (12, 5000)] {
            let mut words = words.clone();
            words[at] = nonsense;
            assert_eq!(State::decode(&words), None, "word {at}");
        }
    }
}
