//! Between messages and the core's types.
//!
//! A value that is not set, or that a newer peer sent and this build does not know, becomes the core's
//! "unknown" or `None`: it never helps anybody. Only where the core has no such value is it an error,
//! which names the field.

mod demands;
mod enums;
mod facts;
#[cfg(test)]
mod tests;

pub use demands::{deadlines, known_gates};
pub use facts::{device_outcome, proof};

use liveupdate_node_core as core;

use crate::common::v1 as pb;

/// A message that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field that has to be there is not.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// A field's value makes no sense.
    #[error("the field {field} makes no sense: {found:?}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What stands there.
        found: String,
    },
}

impl From<&core::Epoch> for pb::Epoch {
    fn from(epoch: &core::Epoch) -> Self {
        Self { cluster: epoch.cluster.clone(), counter: epoch.counter }
    }
}

impl TryFrom<&pb::Epoch> for core::Epoch {
    type Error = ConvertError;

    fn try_from(epoch: &pb::Epoch) -> Result<Self, ConvertError> {
        if epoch.cluster.is_empty() {
            return Err(ConvertError::Missing("epoch.cluster"));
        }
        if epoch.counter == 0 {
            return Err(ConvertError::Missing("epoch.counter"));
        }
        Ok(Self { cluster: epoch.cluster.clone(), counter: epoch.counter })
    }
}

impl From<&core::Target> for pb::Target {
    fn from(target: &core::Target) -> Self {
        let core::Target { release, bundle, digest } = target.clone();
        Self { release, bundle, digest }
    }
}

impl TryFrom<&pb::Target> for core::Target {
    type Error = ConvertError;

    fn try_from(target: &pb::Target) -> Result<Self, ConvertError> {
        let pb::Target { release, bundle, digest } = target.clone();
        for (field, word) in [("target.release", &release), ("target.bundle", &bundle)] {
            if word.is_empty() {
                return Err(ConvertError::Missing(field));
            }
        }
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ConvertError::Invalid { field: "target.digest", found: digest });
        }
        Ok(Self { release, bundle, digest })
    }
}
