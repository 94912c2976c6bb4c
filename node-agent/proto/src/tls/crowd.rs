//! Who is let in when many come at once: so many in all, and so many of each, so that whoever comes in
//! numbers stands in nobody's way but its own.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// One who was turned away is written about this often, whoever comes how often.
const QUIET: Duration = Duration::from_secs(10);

/// Those who are in, by who they are.
#[derive(Debug)]
pub(super) struct Crowd<K> {
    all: usize,
    each: usize,
    /// Of each, how many may do at a time what [`Place::turn`] is for.
    turns: usize,
    inside: Mutex<Inside<K>>,
}

#[derive(Debug)]
struct Inside<K> {
    count: usize,
    of: HashMap<K, Group>,
}

#[derive(Debug)]
struct Group {
    count: usize,
    turns: Arc<Semaphore>,
    told: Option<Instant>,
}

/// Room for one, until it is dropped.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    crowd: Arc<Crowd<K>>,
    who: K,
    turns: Arc<Semaphore>,
}

/// There is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    /// It was not said a moment ago of the same one.
    pub(super) news: bool,
}

impl<K: Eq + Hash + Clone> Crowd<K> {
    pub(super) fn new(all: usize, each: usize, turns: usize) -> Arc<Self> {
        let inside = Mutex::new(Inside { count: 0, of: HashMap::new() });
        Arc::new(Self { all, each, turns: turns.max(1), inside })
    }

    /// Lets one more in, if there is room.
    pub(super) fn enter(self: &Arc<Self>, who: K, now: Instant) -> Result<Place<K>, Full> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let full = inside.count >= self.all;
        let Some(group) = inside.of.get_mut(&who) else {
            if full {
                return Err(Full { news: true });
            }
            let turns = Arc::new(Semaphore::new(self.turns));
            inside.of.insert(who.clone(), Group { count: 1, turns: Arc::clone(&turns), told: None });
            inside.count += 1;
            return Ok(Place { crowd: Arc::clone(self), who, turns });
        };
        if full || group.count >= self.each {
            let news = group.told.is_none_or(|told| now.saturating_duration_since(told) >= QUIET);
            if news {
                group.told = Some(now);
            }
            return Err(Full { news });
        }
        group.count += 1;
        let turns = Arc::clone(&group.turns);
        inside.count += 1;
        Ok(Place { crowd: Arc::clone(self), who, turns })
    }
}

impl<K: Eq + Hash> Place<K> {
    /// For waiting until it is this one's turn among its own kind.
    pub(super) fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turns)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut inside = self.crowd.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.count = inside.count.saturating_sub(1);
        if let Some(group) = inside.of.get_mut(&self.who) {
            group.count -= 1;
            if group.count == 0 {
                inside.of.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_comes_in_numbers_stands_in_nobody_elses_way() {
        let now = Instant::now();
        let crowd = Crowd::new(10, 4, 1);
        let mut in_all: Vec<_> = (0..4).map(|_| crowd.enter("a", now).unwrap()).collect();
        assert_eq!(crowd.enter("a", now).unwrap_err(), Full { news: true });
        assert_eq!(crowd.enter("a", now).unwrap_err(), Full { news: false });
        assert_eq!(crowd.enter("a", now + QUIET).unwrap_err(), Full { news: true });
        in_all.push(crowd.enter("b", now).unwrap());
        in_all.remove(0);
        in_all.push(crowd.enter("a", now).unwrap());
        in_all.extend((0..4).map(|_| crowd.enter("c", now).unwrap()));
        in_all.push(crowd.enter("d", now).unwrap());
        assert_eq!(in_all.len(), 10);
        assert_eq!(crowd.enter("e", now).unwrap_err(), Full { news: true });
        in_all.clear();
        assert!(crowd.inside.lock().unwrap().of.is_empty(), "nobody is remembered");
        assert_eq!(crowd.inside.lock().unwrap().count, 0);
    }
}
