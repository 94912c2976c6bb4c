//! The CPU's invariant counter. It goes on over a kexec, so that it can measure one.

use std::time::{Duration, Instant};

use liveupdate_node_core::GateResult;
use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::HostError;
use crate::linux::clock::{Clock, ticks};
use crate::linux::gates;
use crate::linux::root::Root;

const KEY: &str = "counter";
const LONG: Duration = Duration::from_millis(100);
const SHORT: Duration = Duration::from_millis(10);

/// The counter with its frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counter {
    khz: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    khz: u64,
}

impl Counter {
    /// The counter of this machine; none when it has none that can be relied on. The frequency is measured
    /// once and kept: two measurements differ by some millionths, which is seconds after a month.
    pub(super) fn find(root: &Root, store: &Store, keep: bool) -> Result<Option<Self>, HostError> {
        if gates::clock_source(&Clock::read(root)).result != GateResult::Pass {
            return Ok(None);
        }
        let known = store.read::<Record>(KEY)?.map(|record| record.khz);
        let Some(now) = measure(if known.is_some() { SHORT } else { LONG }) else { return Ok(None) };
        // Another machine on the same disk, or a guest that was moved.
        if let Some(khz) = known.filter(|known| known.abs_diff(now) < now / 500) {
            return Ok(Some(Self { khz }));
        }
        if keep {
            store.write(KEY, Some(&Record { khz: now }))?;
        }
        Ok(Some(Self { khz: now }))
    }

    /// Its frequency.
    pub(super) fn khz(self) -> u64 {
        self.khz
    }

    /// Its ticks now.
    pub(super) fn ticks(self) -> Option<u64> {
        ticks()
    }
}

/// Ticks as nanoseconds.
pub(super) fn nanoseconds(ticks: u64, khz: u64) -> u64 {
    let nanos = u128::from(ticks) * 1_000_000 / u128::from(khz.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn measure(over: Duration) -> Option<u64> {
    let (from, began) = (ticks()?, Instant::now());
    std::thread::sleep(over);
    let (to, took) = (ticks()?, began.elapsed());
    let khz = u128::from(to.checked_sub(from)?) * 1_000_000 / took.as_nanos().max(1);
    u64::try_from(khz).ok().filter(|khz| *khz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_without_overflow() {
        assert_eq!(nanoseconds(3_000_000, 3_000_000), 1_000_000);
        assert_eq!(nanoseconds(u64::MAX, 1_000_000), u64::MAX);
        assert_eq!(nanoseconds(7, 0), 7_000_000);
    }
}
