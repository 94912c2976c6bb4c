//! Chance, for tasks of many agents that should not all act at once.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

/// Some time between nothing and `most`, another one each time.
pub(crate) fn some(most: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8);
    // 16 bits of it: enough to spread, and exact.
    most.mul_f64(f64::from(u16::try_from(random & 0xffff).unwrap_or(0)) / 65536.0)
}
