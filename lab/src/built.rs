//! What scripts of the lab build into its cache.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// The folder that a script of the lab prints, once what it names is built: minutes the first time, with progress on
/// stderr.
///
/// # Errors
/// When the script cannot be started or fails; what it says goes to stderr.
pub(crate) fn by(script: &str, what: &str) -> Result<PathBuf> {
    with(script, &[], what)
}

/// As [`by`], of a script that is told something.
///
/// # Errors
/// As [`by`].
pub(crate) fn with(script: &str, words: &[&str], what: &str) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let fail = |source| Error::Spawn { name: what.to_owned(), program: script.clone(), source };
    let output = Command::new(&script)
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(fail)?;
    if !output.status.success() {
        return Err(fail(std::io::Error::other(format!("{}; its output is above", output.status))));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}
