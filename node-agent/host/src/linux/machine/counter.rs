//! The CPU's invariant counter. It goes on over a kexec, so that it can measure one.

use std::time::Duration;

use liveupdate_node_core::GateResult;
use serde::{Deserialize, Serialize};

use super::store::Store;
use crate::HostError;
use crate::linux::clock::Clock;
use crate::linux::root::Root;
use crate::linux::{gates, ticks};

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
    /// once and kept: two measurements differ by some millionths, which is seconds after a month. That is all that a record
    /// is worth: holders wait for their files behind this, and without one it goes on.
    pub(super) fn find(root: &Root, store: &Store, keep: bool) -> Option<Self> {
        if gates::clock_source(&Clock::read(root)).result != GateResult::Pass {
            return None;
        }
        let known = store.read::<Record>(KEY).unwrap_or_else(|error| {
            tell(&error);
            None
        });
        let known = known.map(|record| record.khz);
        let now = ticks::khz(if known.is_some() { SHORT } else { LONG })?;
        // Another machine on the same disk, or a guest that was moved.
        if let Some(khz) = known.filter(|known| known.abs_diff(now) < now / 500) {
            return Some(Self { khz });
        }
        if keep {
            store.write(KEY, Some(&Record { khz: now })).unwrap_or_else(|error| tell(&error));
        }
        Some(Self { khz: now })
    }

    /// Its frequency.
    pub(super) fn khz(self) -> u64 {
        self.khz
    }

    /// Its ticks now.
    pub(super) fn ticks(self) -> Option<u64> {
        ticks::now()
    }
}

fn tell(error: &HostError) {
    eprintln!(
        "liveupdate: the counter is measured anew at each start, and blackouts differ by that: {error}"
    );
}
