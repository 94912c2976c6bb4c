//! Devices, counted by what became of them.

use core::fmt;

use crate::input::Outcome;

/// How many devices got each outcome.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Devices([u32; Outcome::ALL.len()]);

impl Devices {
    /// So many more got it.
    pub fn add(&mut self, outcome: Outcome, number: u32) {
        let count = &mut self.0[outcome as usize];
        *count = count.saturating_add(number);
    }

    /// The outcomes that any device got, the worst first.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u32)> {
        Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome, self.0[outcome as usize]))
            .filter(|(_, number)| *number > 0)
    }
}

impl FromIterator<(Outcome, u32)> for Devices {
    fn from_iter<I: IntoIterator<Item = (Outcome, u32)>>(counts: I) -> Self {
        let mut devices = Self::default();
        counts.into_iter().for_each(|(outcome, number)| devices.add(outcome, number));
        devices
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_count_and_what_nobody_got_is_not_named() {
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
        let devices: Devices =
            [(Outcome::Paused, 2), (Outcome::Lost, 1), (Outcome::Paused, 1)].into_iter().collect();
        assert!(devices.iter().eq([(Outcome::Lost, 1), (Outcome::Paused, 3)]));
    }
}
