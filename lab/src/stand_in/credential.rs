//! What a kubelet remembers of its pods' certificates.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// What is known of one pod's certificates.
#[derive(Default)]
pub(super) struct Certificates {
    known: Mutex<BTreeMap<Place, Credential>>,
}

/// Volume, and number of the source in it.
pub(super) type Place = (String, usize);

/// One source's key and chain, and how far the next ones are.
#[derive(Clone, Default)]
pub(super) struct Credential {
    pub(super) held: Option<Held>,
    pub(super) asked: Option<Asked>,
    /// For good.
    pub(super) refused: Option<String>,
}

/// Both PEM.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) key: String,
    pub(super) chain: String,
    /// Seconds since 1970.
    pub(super) begin_refresh_at: i64,
}

/// A request, by name, and the key that it is for.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) request: String,
    pub(super) key: String,
}

impl Certificates {
    /// The kubelet was started again.
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn get(&self, place: &Place) -> Credential {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(place).cloned().unwrap_or_default()
    }

    pub(super) fn set(&self, place: &Place, credential: Credential) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone(), credential);
    }
}
