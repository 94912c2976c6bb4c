//! Edits of the spec as revisions.
//!
//! Another target, other devices or acknowledgements are another run: step, failures, verbs, skipped
//! nodes and the end are forgotten. What is in flight finishes as it is, and its end does not count into
//! the new run (the attempt's id names its revision). Bad targets are known by digest and stay.

use crate::input::{Spec, UpdateRecord};

/// The record as it has to be for this spec.
pub(crate) fn current(record: &UpdateRecord, spec: Option<&Spec>) -> UpdateRecord {
    match spec {
        Some(spec) if spec.revision != record.revision => UpdateRecord {
            revision: spec.revision.clone(),
            in_flight: record.in_flight.clone(),
            bad_targets: record.bad_targets.clone(),
            ..UpdateRecord::default()
        },
        // The very text that verdicts were asked with: comparing that reads no letters.
        Some(spec) => UpdateRecord { revision: spec.revision.clone(), ..record.clone() },
        None => record.clone(),
    }
}
