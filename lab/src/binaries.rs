//! The product's own binaries, fresh from its sources.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result, cargo};

/// The path of a binary of one of the workspace's packages, built first in this process's own profile
/// and target folder. Cargo builds what a test links to, not what it starts: without this, tests would
/// start what was built some other day.
///
/// # Errors
/// When cargo fails; what it says goes to stderr.
pub fn fresh(package: &str, binary: &str) -> Result<PathBuf> {
    static BUILT: Mutex<bool> = Mutex::new(false);
    // Held while building: tests side by side wait for the one build.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let profile = profile_folder()?;
    if !*built {
        build(&profile)?;
        *built = true;
    }
    let path = profile.join(binary);
    if path.is_file() {
        return Ok(path);
    }
    let reason =
        std::io::Error::new(std::io::ErrorKind::NotFound, format!("package {package} builds no such binary"));
    Err(Error::Spawn { name: binary.to_owned(), program: path, source: reason })
}

fn build(profile: &Path) -> Result<()> {
    let mut command = cargo::build();
    // The whole workspace, as the scripts build it: one package alone would be built with fewer features of
    // what it shares with others, and so anew.
    command.arg("--workspace").arg("--target-dir").arg(profile.parent().unwrap_or(profile));
    // What the tests were built with: the lab itself is one of these packages.
    if cfg!(feature = "vm") {
        command.args(["--features", "liveupdate-lab/vm"]);
    }
    if profile.ends_with("release") {
        command.arg("--release");
    }
    cargo::run("the build of the workspace's binaries", &mut command)
}

/// `target/debug` or `target/release`: this executable is in it, or in its `deps` or `examples`.
pub(crate) fn profile_folder() -> Result<PathBuf> {
    let here = std::env::current_exe().map_err(Error::file("find", Path::new("/proc/self/exe")))?;
    let folder = here.parent().unwrap_or(&here);
    let inner = folder.ends_with("deps") || folder.ends_with("examples");
    Ok(if inner { folder.parent().unwrap_or(folder).to_owned() } else { folder.to_owned() })
}
