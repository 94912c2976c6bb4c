//! Why a bundle is not made.

use std::io;
use std::path::{Path, PathBuf};

use liveupdate_node_core::gate::Gate;

use super::manifest::ManifestError;
use super::{BundleError, Part};
use crate::image::ImageError;

/// Why no bundle was made. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The image cannot be used.
    #[error("{} cannot be used as a kernel", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ImageError,
    },
    /// The image does not tell its release.
    #[error("{} tells no release: name it (--release)", path.display())]
    NoRelease {
        /// The file.
        path: PathBuf,
    },
    /// The image tells another release than was given.
    #[error("{} is of release {found}, not {given}", path.display())]
    OtherRelease {
        /// The file.
        path: PathBuf,
        /// As the image has it.
        found: String,
        /// As it was given.
        given: String,
    },
    /// Nodes would refuse it.
    #[error(
        "TargetKernel would be {}: {}{}. --force makes the bundle all the same, for nodes that hold nothing",
        gate.result.as_str(), gate.evidence, remedy(gate)
    )]
    Unfit {
        /// The gate's word.
        gate: Box<Gate>,
    },
    /// Modules of another kernel.
    #[error("{} has no modules of {release}: name lib/modules/{release}, or the folder that lib/modules lies in", folder.display())]
    OtherModules {
        /// The folder that was given.
        folder: PathBuf,
        /// The image's release.
        release: String,
    },
    /// Something that cannot go into a bundle.
    #[error("{} is a {kind}: a bundle holds files and folders alone", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A file is too large.
    #[error("{} is larger than the {largest} bytes that a bundle's {} may have", path.display(), part.as_str())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it should become.
        part: Part,
        /// Bytes.
        largest: u64,
    },
    /// There is something already.
    #[error("{} exists already: choose another folder", path.display())]
    Exists {
        /// Where the bundle should go.
        path: PathBuf,
    },
    /// The manifest would be refused.
    #[error("the bundle's manifest would be refused")]
    Manifest(#[source] ManifestError),
    /// A file cannot be read or written.
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
    /// What was written does not read back.
    #[error("the new bundle does not read back")]
    ReadBack(#[source] BundleError),
}

impl BuildError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

fn remedy(gate: &Gate) -> String {
    if gate.remedy.is_empty() { String::new() } else { format!(" → {}", gate.remedy) }
}
