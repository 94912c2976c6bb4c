//! Who is spoken to, about what, and in whose name.

use liveupdate_node_core as core;

use super::{ConvertError, word};
use crate::common::v1 as pb;

/// Checks a subject's words; whether they are the right ones is another question.
///
/// # Errors
/// The first word that is too long or holds what a word may not.
pub fn subject(subject: &pb::Subject) -> Result<(), ConvertError> {
    for (field, found) in [
        ("subject.node", &subject.node),
        ("subject.node_uid", &subject.node_uid),
        ("subject.update", &subject.update),
        ("subject.update_uid", &subject.update_uid),
        ("subject.revision", &subject.revision),
        ("subject.attempt", &subject.attempt),
    ] {
        word(field, found)?;
    }
    Ok(())
}

/// The epoch in whose name a call is made, for a fence.
///
/// # Errors
/// There is none, or it lacks its cluster or its counter.
pub fn epoch(subject: &pb::Subject) -> Result<core::Epoch, ConvertError> {
    const FIELD: &str = "subject.epoch";
    let epoch = subject.epoch.as_ref().ok_or(ConvertError::Missing(FIELD))?;
    if epoch.cluster.is_empty() || epoch.counter == 0 {
        let found = format!("cluster {:?}, counter {}", epoch.cluster, epoch.counter);
        return Err(ConvertError::Invalid { field: FIELD, found });
    }
    word(FIELD, &epoch.cluster)?;
    Ok(core::Epoch { cluster: epoch.cluster.clone(), counter: epoch.counter })
}
