//! Between messages and the core's types.
//!
//! A value that is not set, or that a newer peer sent and this build does not know, becomes the core's
//! "unknown" or `None`: it never helps anybody. Only where the core has no such value is it an error,
//! which names the field.

mod demands;
mod enums;
mod facts;
mod subject;
#[cfg(test)]
mod tests;

pub use demands::{deadlines, known_gates};
pub use facts::{device_outcome, proof};
pub use subject::{epoch, subject};

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
    /// A name, id or UID that could do harm in file names, in logs and on terminals.
    #[error(
        "the field {field} may have at most {MAX_WORD} letters, digits, '-', '.', '_', '+' and '~', and not \
         begin with '.': {found:?}"
    )]
    Word {
        /// Which.
        field: &'static str,
        /// How it begins.
        found: String,
    },
}

impl ConvertError {
    /// Which field it is about.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing(field) | Self::Invalid { field, .. } | Self::Word { field, .. } => field,
        }
    }
}

/// Longest name, id or UID, in bytes. Kubernetes names have at most as many.
pub const MAX_WORD: usize = 253;

/// A word may go on into file names, logs and terminals; an empty one does no harm.
fn word(field: &'static str, word: &str) -> Result<(), ConvertError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+~".contains(&byte);
    if word.len() > MAX_WORD || word.starts_with('.') || !word.bytes().all(plain) {
        return Err(ConvertError::Word { field, found: word.chars().take(64).collect() });
    }
    Ok(())
}

/// The kernel to update to; see its `TryFrom`.
///
/// # Errors
/// It is missing or makes no sense.
pub fn target(message: Option<&pb::Target>) -> Result<core::Target, ConvertError> {
    message.ok_or(ConvertError::Missing("target"))?.try_into()
}

/// What the platform and the team ask for; see its `TryFrom`.
///
/// # Errors
/// They are missing, or one is not understood.
pub fn demands(message: Option<&pb::Demands>) -> Result<core::verdict::Demands, ConvertError> {
    message.ok_or(ConvertError::Missing("demands"))?.try_into()
}

impl From<&core::Epoch> for pb::Epoch {
    fn from(epoch: &core::Epoch) -> Self {
        Self { cluster: epoch.cluster.clone(), counter: epoch.counter }
    }
}

impl From<&core::Target> for pb::Target {
    fn from(target: &core::Target) -> Self {
        let core::Target { release, bundle, digest } = target.clone();
        // Who fetched it is done with the registry.
        Self { release, bundle, digest, repository: String::new() }
    }
}

impl TryFrom<&pb::Target> for core::Target {
    type Error = ConvertError;

    /// The bundle's name cannot leave the bundle root, and the digest is one. Of a repository the core knows nothing.
    fn try_from(target: &pb::Target) -> Result<Self, ConvertError> {
        let pb::Target { release, bundle, digest, repository: _ } = target.clone();
        for (field, name) in [("target.release", &release), ("target.bundle", &bundle)] {
            if name.is_empty() {
                return Err(ConvertError::Missing(field));
            }
            word(field, name)?;
        }
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let found = digest.chars().take(80).collect();
            return Err(ConvertError::Invalid { field: "target.digest", found });
        }
        Ok(Self { release, bundle, digest })
    }
}
