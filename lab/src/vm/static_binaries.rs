//! The product's binaries as they are shipped: optimised, linked statically. Guests have no libraries.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::binaries::profile_folder;
use crate::{Error, Result, cargo};

/// All that guests run. Built together: one by one, what they share is built once for each set of features.
const PACKAGES: [&str; 5] =
    ["liveupdate-agent", "liveupdate-holder", "liveupdate-keeper", "liveupdate-lab-guest", "liveupdate-shim"];
/// As the images' binaries are built.
const SCRIPT: &str = "../scripts/static-binaries.sh";

/// The path of a package's binary, built first in a target folder of its own: the flags differ from those
/// of all other builds.
///
/// # Errors
/// When the package is none of those that guests run, or cargo fails; what it says goes to stderr.
pub fn fresh(package: &str, binary: &str) -> Result<PathBuf> {
    if !PACKAGES.contains(&package) {
        let reason =
            std::io::Error::new(std::io::ErrorKind::NotFound, format!("{package} is none of {PACKAGES:?}"));
        return Err(Error::Spawn { name: binary.to_owned(), program: PathBuf::from(binary), source: reason });
    }
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    // Held while building: tests side by side wait for the one build.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(folder) = &*built {
        return Ok(folder.join(binary));
    }
    let profile = profile_folder()?;
    let target = profile.parent().unwrap_or(&profile).join("static");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(SCRIPT);
    let mut command = Command::new(&script);
    command.arg(target).args(PACKAGES).stdin(Stdio::null()).stderr(Stdio::inherit());
    cargo::as_if_by_hand(&mut command);
    let fail = |source| Error::Spawn {
        name: "the static build of what guests run".to_owned(),
        program: script.clone(),
        source,
    };
    let output = command.output().map_err(fail)?;
    if !output.status.success() {
        return Err(fail(std::io::Error::other(format!("{}; its output is above", output.status))));
    }
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    Ok(built.insert(folder).join(binary))
}
