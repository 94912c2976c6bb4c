//! The product's binaries as they are shipped: optimised, linked statically. Guests have no libraries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::binaries::profile_folder;
use crate::{Error, Result};

/// Named even on a machine of this very kind: only then does cargo keep build scripts and macros, which
/// cannot be static, apart from what is shipped.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The path of a package's binary, built first in a target folder of its own: the flags differ from those
/// of all other builds.
///
/// # Errors
/// When cargo fails; what it says goes to stderr.
pub fn fresh(package: &str, binary: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    // Held while building: tests side by side wait for the one build.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let profile = profile_folder()?;
    let target = profile.parent().unwrap_or(&profile).join("static");
    if !built.contains(package) {
        build(package, &target)?;
        built.insert(package.to_owned());
    }
    Ok(target.join(TRIPLE).join("release").join(binary))
}

fn build(package: &str, target: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let name = format!("the static build of {package}");
    let fail = |source| Error::Spawn { name: name.clone(), program: PathBuf::from(&cargo), source };
    let status = Command::new(&cargo)
        .args(["build", "--quiet", "--release", "--bins", "--package", package, "--target", TRIPLE])
        .args(["--config", &format!("target.{TRIPLE}.rustflags=['-Ctarget-feature=+crt-static']")])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        // These would replace the flags above.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(fail)?;
    if status.success() {
        return Ok(());
    }
    Err(fail(std::io::Error::other(format!("{status}; its output is above"))))
}
