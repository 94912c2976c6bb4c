//! The product's binaries as they are shipped: optimised, linked statically. Guests have no libraries.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::binaries::profile_folder;
use crate::{Error, Result, cargo};

/// Named even on a machine of this very kind: only then does cargo keep build scripts and macros, which
/// cannot be static, apart from what is shipped.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
/// All that guests run. Built together: one by one, what they share is built once for each set of features.
const PACKAGES: [&str; 5] =
    ["liveupdate-agent", "liveupdate-holder", "liveupdate-keeper", "liveupdate-lab-guest", "liveupdate-shim"];

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
    static BUILT: Mutex<bool> = Mutex::new(false);
    // Held while building: tests side by side wait for the one build.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let profile = profile_folder()?;
    let target = profile.parent().unwrap_or(&profile).join("static");
    if !*built {
        let mut command = cargo::build();
        command
            .args(["--release", "--target", TRIPLE, "--target-dir"])
            .arg(&target)
            .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
            .args(["--config", &format!("target.{TRIPLE}.rustflags=['-Ctarget-feature=+crt-static']")])
            // These would replace the flags above.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS");
        cargo::run("the static build of what guests run", &mut command)?;
        *built = true;
    }
    Ok(target.join(TRIPLE).join("release").join(binary))
}
