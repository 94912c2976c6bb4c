//! Time, as the controller sees it: a trait, so that a simulation can turn it.

use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::{Either, select};
use liveupdate_planner::Time;

/// A source of time.
pub trait Clock: 'static {
    /// By the wall clock: for records and people. May be set back.
    fn now(&self) -> Time;
    /// Since some fixed moment; never goes back.
    fn monotonic(&self) -> Duration;
    /// Waits.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Runs `work` for `limit` at most; none when it took longer.
    fn limit<T>(&self, limit: Duration, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        async move {
            let work = std::pin::pin!(work);
            let sleep = std::pin::pin!(self.sleep(limit));
            match select(work, sleep).await {
                Either::Left((done, _)) => Some(done),
                Either::Right(_) => None,
            }
        }
    }
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A share of `duration` between `1 - spread` and `1 + spread`, by a hash of `seed`: peers that were asked
/// together are not asked together again, and yet a run can be repeated.
pub fn jitter(duration: Duration, spread: f64, seed: &str, turn: u64) -> Duration {
    // FNV-1a: stable between builds, unlike the standard library's hasher.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in seed.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let unit = f64::from((hash >> 40) as u32) / f64::from(1u32 << 24);
    duration.mul_f64(1.0 - spread + 2.0 * spread * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_spread_and_differs_by_seed() {
        let around = Duration::from_secs(100);
        let all: Vec<Duration> = (0..50).map(|i| jitter(around, 0.2, &format!("node-{i}"), 1)).collect();
        assert!(all.iter().all(|d| (80..=120).contains(&d.as_secs())));
        assert!(all.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > Duration::from_secs(1)));
    }
}
