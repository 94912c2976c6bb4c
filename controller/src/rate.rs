//! How often something may be done: buckets that fill with time.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Peers that are remembered; those whose buckets are full again are forgotten first.
const REMEMBERED: usize = 4096;

/// So many at once, and so many a second.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// At once.
    pub burst: f64,
    /// A second.
    pub per_second: f64,
}

/// A bucket that fills with time.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * self.rate.per_second).min(self.rate.burst);
        self.filled = now;
    }

    /// Takes one out, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let open = self.tokens >= 1.0;
        if open {
            self.tokens -= 1.0;
        }
        open
    }
}

/// A bucket for each peer and one for all: one peer cannot empty the others'.
#[derive(Debug)]
pub struct PerPeer<K> {
    each: Rate,
    all: Bucket,
    of: HashMap<K, Bucket>,
    told: Option<Instant>,
}

/// There was nothing left. `news` when that was not said a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Empty {
    /// See there.
    pub news: bool,
}

impl<K: Eq + Hash> PerPeer<K> {
    /// Full ones.
    pub fn new(each: Rate, all: Rate, now: Instant) -> Self {
        Self { each, all: Bucket::new(all, now), of: HashMap::new(), told: None }
    }

    /// Takes one out of the peer's and of everybody's.
    ///
    /// # Errors
    /// Whose share is used up.
    pub fn take(&mut self, peer: K, now: Instant) -> Result<(), Empty> {
        if self.of.len() >= REMEMBERED {
            self.of.retain(|_, bucket| {
                bucket.fill(now);
                bucket.tokens < bucket.rate.burst
            });
        }
        // With as many peers as that at once, the bucket of all is what counts.
        let own = self.of.len() < REMEMBERED || self.of.contains_key(&peer);
        let each = self.each;
        let open = !own || self.of.entry(peer).or_insert_with(|| Bucket::new(each, now)).take(now);
        if open && self.all.take(now) {
            return Ok(());
        }
        let news =
            self.told.is_none_or(|told| now.saturating_duration_since(told) >= Duration::from_secs(10));
        if news {
            self.told = Some(now);
        }
        Err(Empty { news })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_in_and_then_a_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { burst: 2_000.0, per_second: 700.0 }, start);
        assert_eq!((0..5_000).filter(|_| bucket.take(start)).count(), 2_000);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..5_000).filter(|_| bucket.take(later)).count(), 700);
    }

    #[test]
    fn one_peer_empties_its_own_bucket_and_all_together_the_one_of_all() {
        let start = Instant::now();
        let (each, all) = (Rate { burst: 5.0, per_second: 1.0 }, Rate { burst: 12.0, per_second: 100.0 });
        let mut buckets = PerPeer::new(each, all, start);
        let mut count = |peer: &'static str, now| (0..20).filter(|_| buckets.take(peer, now).is_ok()).count();
        assert_eq!([count("a", start), count("b", start), count("c", start)], [5, 5, 2]);
        assert_eq!(count("a", start + Duration::from_secs(2)), 2);
        let now = start + Duration::from_secs(3);
        let mut buckets = PerPeer::new(each, all, now);
        let news = (0..8).filter_map(|_| buckets.take("a", now).err()).map(|empty| empty.news);
        assert_eq!(news.collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn peers_that_came_long_ago_are_forgotten() {
        let start = Instant::now();
        let rate = Rate { burst: 1e9, per_second: 1e9 };
        let mut buckets = PerPeer::new(Rate { burst: 1.0, per_second: 1.0 }, rate, start);
        for peer in 0..REMEMBERED {
            buckets.take(peer, start).unwrap();
        }
        buckets.take(REMEMBERED, start + Duration::from_secs(1)).unwrap();
        assert_eq!(buckets.of.len(), 1);
    }
}
