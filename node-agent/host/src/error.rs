//! What goes wrong on a machine.

/// Why an operation on the machine failed. Nothing was changed unless the operation says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The kernel of this process is gone: it jumped, or was cut off.
    #[error("the machine is off or has booted again: what this process knows is of the past")]
    PoweredOff,
    /// No such bundle.
    #[error("bundle {name} is not under the bundle root; copy it there or correct target.bundle")]
    NoSuchBundle {
        /// The bundle's name.
        name: String,
    },
    /// The bundle is not the one that was asked for.
    #[error("bundle {name} has digest {found}, wanted {wanted}; copy the right bundle or correct the digest")]
    DigestMismatch {
        /// The bundle's name.
        name: String,
        /// As the target has it.
        wanted: String,
        /// As it was computed.
        found: String,
    },
    /// The bundle would bring up another release.
    #[error("bundle {name} is of release {found}, wanted {wanted}; correct target.release")]
    ReleaseMismatch {
        /// The bundle's name.
        name: String,
        /// As the target has it.
        wanted: String,
        /// As the bundle's manifest has it.
        found: String,
    },
    /// The bundle's registry does not deliver it.
    #[error("{why}")]
    NotFetched {
        /// Whom was asked for what, and what came of it.
        why: String,
    },
    /// Nobody trusted vouches for the bundle.
    #[error("{why}")]
    NotTrusted {
        /// Which bundle, and who signed it.
        why: String,
    },
    /// The caller ended it.
    #[error("cancelled")]
    Cancelled,
    /// No such device.
    #[error("there is no device {address} here")]
    NoSuchDevice {
        /// PCI address.
        address: String,
    },
    /// A device or its holder cannot be taken into custody.
    #[error("cannot preserve {subject}: {why}")]
    NotPreserved {
        /// Device address or holder name.
        subject: String,
        /// What was found.
        why: String,
    },
    /// The operation does not fit what the machine is doing.
    #[error("{operation} does not fit: {why}")]
    WrongMoment {
        /// Which operation.
        operation: &'static str,
        /// What is in the way.
        why: String,
    },
    /// A file or call failed.
    #[error("{what}: {why}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What the system said.
        why: String,
    },
    /// Something that was read makes no sense.
    #[error("{what} is malformed: {why}")]
    Malformed {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The jump was refused, by the kernel or before it was asked; nothing has happened and guests can be resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the jump was refused: {why}")]
pub struct JumpRefused {
    /// What the system said.
    pub why: String,
}

impl From<HostError> for JumpRefused {
    fn from(error: HostError) -> Self {
        Self { why: error.to_string() }
    }
}
