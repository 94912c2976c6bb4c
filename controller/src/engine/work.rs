//! What is under way: one operation of a kind per object at a time, each kind in a lane of bounded width.
//! Nothing here is awaited by anything else, so that nothing blocks the rest (invariant 9).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};

/// What an operation does to its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Writes an update's status.
    UpdateStatus,
    /// Writes an update's finalizers.
    Finalizer,
    /// Marks or unmarks a Node.
    NodeMark,
    /// Makes or deletes a `NodeLiveUpdate`, or writes its status.
    NodeUpdate,
    /// Asks an agent for all that it knows.
    Inspect,
    /// Asks an agent for a verdict.
    Preflight,
    /// Runs an attempt.
    Run,
    /// Undoes an attempt.
    Abort,
    /// Asks what became of an attempt.
    Outcome,
    /// Tells an agent that an outcome is on record.
    Confirm,
    /// Has an agent give up what it keeps of an attempt.
    Release,
    /// Reads a node's Lease.
    NodeLease,
    /// Records an Event.
    Event,
}

/// Which operation on which object.
pub type Key = (String, Kind);

/// Lanes, with how many operations each lets go on at a time.
const LANES: [usize; 6] = [
    32,         // Writes that let a node start or end.
    32,         // Writes that only tell: they hold up no start and no end, and are held up by none.
    8,          // Events.
    64,         // Questions to agents.
    usize::MAX, // Runs: bounded by what is in flight.
    64,         // Short calls about attempts.
];
/// The lane of writes that only tell.
const TELLING: usize = 1;
/// Writes that only tell and wait for a place in their lane.
const TELLING_WAIT: usize = 64;

impl Kind {
    const fn lane(self) -> usize {
        match self {
            Self::UpdateStatus | Self::Finalizer | Self::NodeMark | Self::NodeUpdate => 0,
            Self::Event => 2,
            Self::Inspect | Self::Preflight => 3,
            Self::Run => 4,
            Self::Abort | Self::Outcome | Self::Confirm | Self::Release | Self::NodeLease => 5,
        }
    }
}

/// When an operation that failed may be tried again.
#[derive(Clone, Debug)]
struct Retry {
    failures: u32,
    not_before: Duration,
    /// Version of the object that it was tried with: another one may be tried at once.
    version: String,
}

/// Operations under way, and those that wait for a place in their lane.
pub struct Work<T> {
    running: FuturesUnordered<LocalBoxFuture<'static, (Key, usize, T)>>,
    places: [usize; LANES.len()],
    waiting: [VecDeque<LocalBoxFuture<'static, (Key, usize, T)>>; LANES.len()],
    outstanding: HashMap<Key, ()>,
    retries: HashMap<Key, Retry>,
}

impl<T> std::fmt::Debug for Work<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").field("outstanding", &self.outstanding.len()).finish_non_exhaustive()
    }
}

impl<T> Default for Work<T> {
    fn default() -> Self {
        Self {
            running: FuturesUnordered::new(),
            places: [0; LANES.len()],
            waiting: Default::default(),
            outstanding: HashMap::new(),
            retries: HashMap::new(),
        }
    }
}

impl<T: 'static> Work<T> {
    /// Whether the operation may be begun now: it is not under way, and not too soon after it failed. The
    /// version is that of the object as it is known now.
    pub fn free(&self, key: &Key, version: &str, now: Duration) -> bool {
        !self.outstanding.contains_key(key)
            && self.retries.get(key).is_none_or(|retry| {
                now >= retry.not_before || (!version.is_empty() && retry.version != version)
            })
    }

    /// Whether it is under way.
    pub fn busy(&self, key: &Key) -> bool {
        self.outstanding.contains_key(key)
    }

    /// How many more of a kind would begin at once.
    pub fn room(&self, kind: Kind) -> usize {
        self.room_in(kind.lane(), 0)
    }

    /// How many more writes that only tell may be begun. Some may wait for a place, so that the lane is not idle
    /// until the next pass.
    pub fn room_to_tell(&self) -> usize {
        self.room_in(TELLING, TELLING_WAIT)
    }

    fn room_in(&self, lane: usize, wait: usize) -> usize {
        (LANES[lane] + wait).saturating_sub(self.places[lane] + self.waiting[lane].len())
    }

    /// Begins it, now or when its lane has a place.
    pub fn begin(&mut self, key: Key, future: impl Future<Output = T> + 'static) {
        let lane = key.1.lane();
        self.begin_in(lane, key, future);
    }

    /// Begins a write that only tells, whatever its kind.
    pub fn tell(&mut self, key: Key, future: impl Future<Output = T> + 'static) {
        self.begin_in(TELLING, key, future);
    }

    fn begin_in(&mut self, lane: usize, key: Key, future: impl Future<Output = T> + 'static) {
        self.outstanding.insert(key.clone(), ());
        let task = future.map(move |done| (key, lane, done)).boxed_local();
        if self.places[lane] < LANES[lane] {
            self.places[lane] += 1;
            self.running.push(task);
        } else {
            self.waiting[lane].push_back(task);
        }
    }

    /// The next one that is done; waits for ever when nothing is under way.
    pub async fn next(&mut self) -> (Key, T) {
        match self.running.next().await {
            Some((key, lane, done)) => {
                self.outstanding.remove(&key);
                match self.waiting[lane].pop_front() {
                    Some(task) => self.running.push(task),
                    None => self.places[lane] -= 1,
                }
                (key, done)
            }
            None => std::future::pending().await,
        }
    }

    /// It went well.
    pub fn succeeded(&mut self, key: &Key) {
        self.retries.remove(key);
    }

    /// It failed: it waits twice as long as the last time, from `first` to `last`; returns how long.
    pub fn failed(
        &mut self,
        key: &Key,
        version: &str,
        now: Duration,
        (first, last): (Duration, Duration),
    ) -> Duration {
        let failures = self.retries.get(key).map_or(0, |retry| retry.failures);
        let pause = crate::clock::jitter(
            last.min(first * 2u32.saturating_pow(failures.min(16))),
            0.2,
            &key.0,
            u64::from(failures),
        );
        let retry = Retry { failures: failures + 1, not_before: now + pause, version: version.to_owned() };
        self.retries.insert(key.clone(), retry);
        pause
    }

    /// When the next operation that failed may be tried again.
    pub fn next_retry(&self, now: Duration) -> Option<Duration> {
        self.retries.values().map(|retry| retry.not_before).filter(|at| *at > now).min()
    }

    /// Forgets failures that are long past, so that objects which are gone leave nothing behind.
    pub fn tidy(&mut self, now: Duration) {
        self.retries.retain(|_, retry| retry.not_before + Duration::from_secs(600) > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, kind: Kind) -> Key {
        (name.to_owned(), kind)
    }

    #[test]
    fn one_operation_of_a_kind_per_object() {
        let mut work = Work::default();
        let one = key("a", Kind::NodeMark);
        assert!(work.free(&one, "1", Duration::ZERO));
        work.begin(one.clone(), std::future::ready(1));
        assert!(!work.free(&one, "1", Duration::ZERO));
        assert!(work.free(&key("a", Kind::Inspect), "", Duration::ZERO));
        let (done, value) = work.next().now_or_never().unwrap();
        assert_eq!((done, value), (one.clone(), 1));
        assert!(work.free(&one, "1", Duration::ZERO));
    }

    #[test]
    fn a_full_lane_keeps_the_rest_waiting() {
        let mut work = Work::default();
        for i in 0..100 {
            work.begin(key(&i.to_string(), Kind::Preflight), std::future::ready(i));
        }
        assert_eq!(work.room(Kind::Preflight), 0);
        assert_eq!(work.running.len(), 64);
        let mut done = 0;
        while work.next().now_or_never().is_some() {
            done += 1;
        }
        assert_eq!(done, 100);
        assert_eq!(work.room(Kind::Preflight), 64);
    }

    #[test]
    fn what_only_tells_holds_up_nothing() {
        let mut work = Work::default();
        for i in 0..100 {
            work.tell(key(&i.to_string(), Kind::NodeUpdate), std::future::pending::<()>());
        }
        assert_eq!(work.room_to_tell(), 0);
        let end = key("end", Kind::NodeUpdate);
        work.begin(end.clone(), std::future::ready(()));
        assert_eq!(work.next().now_or_never().unwrap().0, end);
        assert!(work.busy(&key("99", Kind::NodeUpdate)));
    }

    #[test]
    fn a_failure_waits_longer_each_time_but_a_new_version_is_tried_at_once() {
        let mut work: Work<()> = Work::default();
        let one = key("a", Kind::NodeMark);
        let limits = (Duration::from_secs(1), Duration::from_secs(8));
        let pauses: Vec<Duration> = (0..6).map(|_| work.failed(&one, "1", Duration::ZERO, limits)).collect();
        assert!(pauses[0] < pauses[2] && pauses[5] <= Duration::from_secs(10));
        assert!(!work.free(&one, "1", Duration::from_millis(100)));
        assert!(work.free(&one, "2", Duration::from_millis(100)));
        work.succeeded(&one);
        assert!(work.free(&one, "1", Duration::ZERO));
    }
}
