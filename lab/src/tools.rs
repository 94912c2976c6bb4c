//! The control plane's binaries: found, or built by `tools/build.sh` into the cache.

use std::path::{Path, PathBuf};

use crate::{Error, Result, built};

/// Names a folder that already holds the binaries, for machines where they come from elsewhere.
pub const TOOLS_VARIABLE: &str = "LIVEUPDATE_LAB_TOOLS";

const BINARIES: [&str; 5] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"];

/// A folder in which all binaries are present.
#[derive(Clone, Debug)]
pub struct Tools {
    folder: PathBuf,
}

impl Tools {
    /// The binaries, built first when they are missing (minutes, once; progress goes to stderr).
    ///
    /// # Errors
    /// When Go is missing, a build fails, or the folder named by [`TOOLS_VARIABLE`] lacks a binary.
    pub fn find() -> Result<Tools> {
        match std::env::var_os(TOOLS_VARIABLE).filter(|folder| !folder.is_empty()) {
            Some(folder) => Tools::in_folder(PathBuf::from(folder)),
            None => Tools::build(),
        }
    }

    /// The binaries of one folder; nothing is built.
    ///
    /// # Errors
    /// Names the first binary that is missing.
    pub fn in_folder(folder: PathBuf) -> Result<Tools> {
        match BINARIES.iter().find(|binary| !folder.join(binary).is_file()) {
            Some(missing) => Err(Error::Tools {
                reason: format!(
                    "{} holds no {missing}; unset {TOOLS_VARIABLE} to have them built",
                    folder.display()
                ),
            }),
            None => Ok(Tools { folder }),
        }
    }

    fn build() -> Result<Tools> {
        Tools::in_folder(built::by("tools/build.sh", "the build of the tools")?)
    }

    /// The folder, as one would put it on `PATH`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The path of one binary.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
