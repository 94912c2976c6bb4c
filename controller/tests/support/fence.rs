//! The rule of the schema about epochs.

use liveupdate_controller::cluster::{ClusterError, Result};
use liveupdate_crds::Epoch;

/// An epoch is never lowered or removed.
pub fn fence(what: &str, old: Option<&Epoch>, new: Option<&Epoch>) -> Result<()> {
    let lower = match (old, new) {
        (Some(old), Some(new)) => new.counter < old.counter,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if lower {
        let message = "the epoch is never lowered".into();
        return Err(ClusterError::Refused { what: what.into(), message });
    }
    Ok(())
}
