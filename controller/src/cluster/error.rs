//! What can go wrong with a call to the cluster, as far as it makes a difference to the caller.

/// Why a call to the cluster did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Somebody changed the object in between: observe it again.
    #[error("{what} was changed by somebody else in between")]
    Conflict {
        /// Which object.
        what: String,
    },
    /// The object is gone.
    #[error("{what} does not exist")]
    NotFound {
        /// Which object.
        what: String,
    },
    /// The API server refused the content: another attempt at the same is refused as well.
    #[error("the API server refused {what}: {message}")]
    Refused {
        /// Which object.
        what: String,
        /// In its words.
        message: String,
    },
    /// The API server could not be reached or could not answer.
    #[error("cannot {what}: {message}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// What happened.
        message: String,
    },
}

impl ClusterError {
    /// The word for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "conflict",
            Self::NotFound { .. } => "not_found",
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}
