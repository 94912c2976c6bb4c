//! What is wrong with a bundle, or with the folder that it lies in.

use std::io;
use std::path::{Path, PathBuf};

use liveupdate_proto::causes::chain;

use super::manifest::ManifestError;
use super::{Digest, MANIFEST};
use crate::HostError;

/// Why a bundle cannot be used. Nothing half done stays behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A file or folder cannot be read, written or moved.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The folder has no manifest.
    #[error("{} is no bundle: it has no {MANIFEST}", folder.display())]
    NoManifest {
        /// The folder.
        folder: PathBuf,
    },
    /// The manifest cannot be used.
    #[error("{} cannot be used", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ManifestError,
    },
    /// A file that the manifest names is not there.
    #[error("{} is missing: the manifest has it; copy the bundle again, whole", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Something lies in the folder that the manifest does not name: nobody vouches for it.
    #[error("{} is not in the manifest: take it out of the bundle", path.display())]
    Extra {
        /// The file.
        path: PathBuf,
    },
    /// A link, a folder or a device where a file should be.
    #[error("{} is a {kind}, want a file: a bundle holds nothing else", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Fewer bytes than the manifest says.
    #[error("{} is truncated: {found} bytes, the manifest says {wanted}; copy the bundle again", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        found: u64,
        /// By the manifest.
        wanted: u64,
    },
    /// More bytes than the manifest says.
    #[error("{} is too long: {found} bytes, the manifest says {wanted}; copy the bundle again", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        found: u64,
        /// By the manifest.
        wanted: u64,
    },
    /// Other bytes than the manifest says.
    #[error("{} was changed: its digest is {found}, the manifest says {wanted}; copy the bundle again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// As computed.
        found: Digest,
        /// By the manifest.
        wanted: Digest,
    },
    /// There is no bundle with this digest.
    #[error("no bundle with digest {wanted} is under {}: copy it there", root.display())]
    NotFound {
        /// The bundle root.
        root: PathBuf,
        /// The digest.
        wanted: Digest,
    },
    /// There is a bundle of this name, and it is another one.
    #[error("bundle {name} has digest {found}, wanted {wanted}; copy the right bundle or correct the digest")]
    OtherDigest {
        /// Its folder's name.
        name: String,
        /// Its digest.
        found: Digest,
        /// The one that is wanted.
        wanted: Digest,
    },
    /// The disk has no room for it.
    #[error(
        "{} has {free} bytes free; {needed} are needed, and {reserve} have to stay free for others: make room, or \
         take bundles away that nobody needs", folder.display()
    )]
    NoRoom {
        /// On whose disk.
        folder: PathBuf,
        /// Bytes that can be written there.
        free: u64,
        /// Bytes that the bundle takes.
        needed: u64,
        /// Bytes that stay free.
        reserve: u64,
    },
    /// There is something already.
    #[error("{} exists already and stays as it is: choose another folder, or move it away", path.display())]
    Exists {
        /// Where the bundle should go, or be made.
        path: PathBuf,
    },
    /// The registry does not deliver.
    #[error("it cannot be fetched: {why}")]
    NotFetched {
        /// What came of it.
        why: String,
    },
    /// What a registry has under this digest is no bundle, or another one.
    #[error("the artifact {digest} is no bundle that can be used: {why}")]
    NoBundle {
        /// Of the artifact's manifest.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody trusted vouches for it, so that it is not fetched.
    #[error("bundle {digest} is not fetched: {why}")]
    NotTrusted {
        /// Of the bundle's manifest.
        digest: Digest,
        /// As the gate has it.
        why: String,
    },
    /// Its modules would take the place of those that the running kernel loads.
    #[error(
        "the running kernel has the same release {release} and other modules, which it may still load: give the new one \
         another CONFIG_LOCALVERSION"
    )]
    SameRelease {
        /// Of both.
        release: String,
    },
    /// Modules of somebody else lie where its own would, and are others.
    #[error(
        "{} is not of a bundle, and {name} is missing there or not the bundle's: install there the modules that the \
         bundle was made with, or, if that kernel does not run, move it away so that the bundle's are unpacked",
        place.display()
    )]
    ForeignModules {
        /// The folder.
        place: PathBuf,
        /// The first module that is not there as the bundle has it, by its path in the archive.
        name: String,
    },
    /// Somebody else works there.
    #[error("{} is in use by another process: try again when it is done", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// The caller ended it.
    #[error("cancelled")]
    Cancelled,
}

impl BundleError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl From<BundleError> for HostError {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::Cancelled => Self::Cancelled,
            BundleError::OtherDigest { name, found, wanted } => {
                Self::DigestMismatch { name, wanted: wanted.to_string(), found: found.to_string() }
            }
            BundleError::NotFound { wanted, .. } => Self::NoSuchBundle { name: wanted.to_string() },
            BundleError::Io { doing, path, source } => {
                Self::Io { what: format!("{doing} {}", path.display()), why: source.to_string() }
            }
            BundleError::SameRelease { .. } | BundleError::ForeignModules { .. } => {
                Self::WrongMoment { operation: "stage", why: error.to_string() }
            }
            BundleError::NotFetched { .. } => Self::NotFetched { why: error.to_string() },
            BundleError::NotTrusted { .. } => Self::NotTrusted { why: error.to_string() },
            BundleError::NoRoom { .. } | BundleError::Busy { .. } => {
                Self::Io { what: "stage the bundle".into(), why: chain(&error) }
            }
            _ => Self::Malformed { what: "the bundle".into(), why: chain(&error) },
        }
    }
}
