//! What goes wrong with a registry.

use std::path::PathBuf;
use std::time::Duration;

/// Why a registry is of no use. Each says what was asked of whom.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file with credentials or certificates cannot be used.
    #[error("{} cannot be used: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system has no certificates that a registry could be known by.
    #[error("no CA certificates: name a file of them (--registry-ca)")]
    NoRoots,
    /// Nobody answers there.
    #[error("cannot connect to {address}")]
    Connect {
        /// `host:port`
        address: String,
        /// What the system or TLS said.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{what}: nothing came within {limit:?}")]
    TimedOut {
        /// Which request.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Bytes come, but too few of them.
    #[error("{what}: given up: fewer than {least} bytes came within {within:?}")]
    Slow {
        /// Which request.
        what: String,
        /// The least that has to come.
        least: u64,
        /// In this time.
        within: Duration,
    },
    /// What is sent is not taken.
    #[error("{what}: given up: no more of it could be sent within {limit:?}")]
    NotTaken {
        /// Which request.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The connection broke, or what is spoken on it is no HTTP.
    #[error("{what} broke off")]
    Broken {
        /// Which request.
        what: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// It refuses.
    #[error("{what}: {status}{said}{hint}")]
    Refused {
        /// Which request.
        what: String,
        /// The status.
        status: http::StatusCode,
        /// Its own words, if it has any, with a colon before them.
        said: String,
        /// What to do.
        hint: &'static str,
    },
    /// It answers something that it may not.
    #[error("{what}: {why}")]
    Wrong {
        /// Which request.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// More bytes than were announced or are allowed.
    #[error("{what} is too long: more than the {limit} bytes that it may have")]
    TooLong {
        /// Which request.
        what: String,
        /// Bytes.
        limit: u64,
    },
    /// Fewer bytes than were announced.
    #[error("{what} is cut off: {found} of {wanted} bytes came")]
    Truncated {
        /// Which request.
        what: String,
        /// Bytes that came.
        found: u64,
        /// Bytes that should have.
        wanted: u64,
    },
    /// It points elsewhere, where nobody may be led.
    #[error("{what}: it points to {to}, which is not followed: {why}")]
    Redirect {
        /// Which request.
        what: String,
        /// Where to.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// What is pushed cannot be read.
    #[error("what is pushed cannot be read")]
    Source(#[from] std::io::Error),
}
