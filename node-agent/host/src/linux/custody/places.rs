//! Places for connections. A unit, a pod or a group has some of them and no more: no holder keeps others from the keeper.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections of one owner at a time: one for each of its guests, and those that are on their way out.
const MOST: usize = 16;

/// Who has how many connections.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<BTreeMap<String, usize>>);

/// One of them, until it is dropped.
pub(super) struct Place<'a> {
    places: &'a Places,
    owner: String,
}

impl Places {
    /// A place for this owner; the sentence says why there is none.
    pub(super) fn take(&self, owner: String) -> Result<Place<'_>, String> {
        let mut taken = self.lock();
        let count = taken.entry(owner.clone()).or_default();
        if *count >= MOST {
            return Err(format!("{owner} has {MOST} connections already, and no owner may have more"));
        }
        *count += 1;
        Ok(Place { places: self, owner })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}
