//! Numbers and shares of nodes.

use crate::input::Amount;

impl Amount {
    /// Of `whole`; shares are rounded down, but to 1 at least (0 % is 0).
    pub fn of(self, whole: u32) -> u32 {
        match self {
            Self::Percent(1..) => self.rounded_down(whole).max(1),
            Self::Count(_) | Self::Percent(0) => self.rounded_down(whole),
        }
    }

    /// Of `whole`; shares are rounded down, to 0 if need be.
    pub fn rounded_down(self, whole: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                u32::try_from(u64::from(whole) * u64::from(percent) / 100).unwrap_or(u32::MAX)
            }
        }
    }
}

/// A length as a number of nodes.
pub(crate) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_down_but_not_to_nothing() {
        assert_eq!(Amount::Percent(10).of(25), 2);
        assert_eq!(Amount::Percent(10).of(9), 1);
        assert_eq!(Amount::Percent(100).of(7), 7);
        assert_eq!(Amount::Percent(0).of(7), 0);
        assert_eq!(Amount::Count(3).of(1), 3);
    }

    #[test]
    fn a_failure_budget_may_round_to_nothing() {
        assert_eq!(Amount::Percent(10).rounded_down(9), 0);
        assert_eq!(Amount::Percent(50).rounded_down(u32::MAX), u32::MAX / 2);
    }
}
