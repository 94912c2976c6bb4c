//! Helm, as a person would type it, with the product's chart.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::control_plane::Output;
use crate::{Account, ControlPlane, Error, Result, built};

/// Helm, built by `helm/build.sh` into the cache.
#[derive(Clone, Debug)]
pub struct Helm {
    program: PathBuf,
}

/// The chart's folder in the sources.
pub fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../helm/liveupdate")
}

/// The files of documented values, by name.
///
/// # Errors
/// When their folder cannot be read.
pub fn documented_values() -> Result<Vec<PathBuf>> {
    let folder = chart().join("ci");
    let fail = |error| Error::file("read", &folder)(error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(fail)? {
        files.push(entry.map_err(fail)?.path());
    }
    files.sort();
    Ok(files)
}

impl Helm {
    /// Helm, built first when it is missing (minutes, once; progress goes to stderr).
    ///
    /// # Errors
    /// When Go is missing or the build fails.
    pub async fn find() -> Result<Helm> {
        let building = tokio::task::spawn_blocking(|| built::by("helm/build.sh", "the build of Helm"));
        let folder = building.await.map_err(|error| Error::Tools { reason: error.to_string() })??;
        Ok(Helm { program: folder.join("helm") })
    }

    /// Runs Helm on a cluster as the administrator, in a namespace.
    ///
    /// # Errors
    /// When it cannot be started. A command that fails is no error here: see [`Output::code`].
    pub async fn run<A: Into<OsString>>(
        &self,
        plane: &ControlPlane,
        namespace: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Output> {
        let args = args.into_iter().map(Into::into);
        let args = args.chain([OsString::from("--namespace"), OsString::from(namespace)]);
        plane.run_as(&self.program, &Account::admin(), args).await
    }
}
