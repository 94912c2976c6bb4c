//! Where a pair of queues stands: what was told to the device, and what it answered.
//!
//! ```text
//!  submission:  … taken by the device │ waiting │ free …        completion:  … seen │ new (this phase) │ old …
//!                                    head      tail                               next
//! ```
//! The device inverts the phase bit of its entries on each turn of the ring: so a new one is told from an old one
//! without a register.

/// Entries of every queue here: a page of commands.
pub(crate) const ENTRIES: u16 = 64;

/// One pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    /// Where the next command goes.
    pub(crate) tail: u16,
    /// How far the device has taken commands, as its last answer told.
    head: u16,
    /// Where the next answer comes.
    pub(crate) next: u16,
    /// Of that answer, when it has come.
    phase: bool,
}

impl Ring {
    /// A pair that the device has just made.
    pub(crate) const NEW: Ring = Ring { tail: 0, head: 0, next: 0, phase: true };

    /// Takes a place for a command; none: the device has to take others first.
    pub(crate) fn push(&mut self) -> Option<u16> {
        let (place, after) = (self.tail, (self.tail + 1) % ENTRIES);
        if after == self.head {
            return None;
        }
        self.tail = after;
        Some(place)
    }

    /// The answer at the next place is new.
    pub(crate) fn is_new(self, phase: bool) -> bool {
        phase == self.phase
    }

    /// The answer at the next place was read; it told how far the device has taken commands.
    pub(crate) fn took(&mut self, head: u16) {
        // A device's word: a place that does not exist must not lead outside of the ring.
        self.head = head % ENTRIES;
        self.next = (self.next + 1) % ENTRIES;
        self.phase ^= self.next == 0;
    }

    /// In one word.
    pub(crate) fn word(self) -> u64 {
        let parts = [self.tail, self.head, self.next, self.phase.into()];
        parts.into_iter().rev().fold(0, |word, part| word << 16 | u64::from(part))
    }

    /// From its word; none: it is of no such ring.
    pub(crate) fn from_word(word: u64) -> Option<Ring> {
        let part = |at: u32| (word >> (16 * at)) as u16;
        let ring = Ring { tail: part(0), head: part(1), next: part(2), phase: part(3) == 1 };
        let within = [ring.tail, ring.head, ring.next].into_iter().all(|place| place < ENTRIES);
        (within && part(3) < 2).then_some(ring)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that takes every command and answers it at once.
    #[derive(Default)]
    struct Answers {
        entries: Vec<bool>,
        made: usize,
        head: u16,
    }

    impl Answers {
        fn make(&mut self) {
            self.entries.resize(ENTRIES.into(), false);
            let turn = self.made / usize::from(ENTRIES);
            self.entries[self.made % usize::from(ENTRIES)] = turn.is_multiple_of(2);
            self.made += 1;
            self.head = (self.head + 1) % ENTRIES;
        }
    }

    #[test]
    fn over_many_turns_each_answer_is_new_once() {
        let (mut ring, mut device) = (Ring::NEW, Answers::default());
        device.entries.resize(ENTRIES.into(), false);
        let mut seen = 0;
        // Never in step with the ring, so that its end is met in all ways.
        for burst in (1..=13).cycle().take(500) {
            for _ in 0..burst {
                let before = ring.tail;
                assert_eq!(ring.push(), Some(before));
                device.make();
            }
            while ring.is_new(device.entries[usize::from(ring.next)]) {
                ring.took(device.head);
                seen += 1;
            }
            assert_eq!(seen, device.made);
        }
        assert!(seen > 20 * usize::from(ENTRIES));
    }

    #[test]
    fn a_ring_that_is_full_takes_nothing_until_the_device_has_taken_something() {
        let mut ring = Ring { tail: 60, head: 60, next: 3, phase: false };
        for place in (60..64).chain(0..59) {
            assert_eq!(ring.push(), Some(place));
        }
        assert_eq!((ring.push(), ring.tail), (None, 59));
        ring.took(61);
        assert_eq!((ring.push(), ring.push()), (Some(59), None));
    }

    #[test]
    fn a_ring_comes_back_from_its_word_and_nonsense_does_not() {
        let mut ring = Ring::NEW;
        for step in 0..200 {
            ring.push();
            ring.took(step);
            assert_eq!(Ring::from_word(ring.word()), Some(ring));
        }
        for word in [64, 64 << 16, 64 << 32, 2 << 48, u64::MAX] {
            assert_eq!(Ring::from_word(word), None, "{word:#x}");
        }
    }
}
