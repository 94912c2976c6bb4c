//! Cargo, started by what cargo itself may have started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// What cargo tells the programs that it runs about the package that they are of.
const OF_A_PACKAGE: [&str; 5] =
    ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_"];

/// A build of binaries of the workspace; which ones and where to is for the caller to add.
pub(crate) fn build() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--quiet", "--bins", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .stdin(Stdio::null())
        // Standard output may be somebody's answer.
        .stdout(Stdio::null());
    as_if_by_hand(&mut command);
    command
}

/// Takes away from a program that builds what cargo told this one.
pub(crate) fn as_if_by_hand(command: &mut Command) {
    // A build script may ask to be run again when one of these changes, and ring's does: all that stands on it
    // would be built anew by each run of the tests, and again by the next cargo that no test has started.
    let of_a_package = |name: &str| OF_A_PACKAGE.iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(of_a_package) {
            command.env_remove(name);
        }
    }
}

/// Runs it to its end. `what` names it in errors.
///
/// # Errors
/// When cargo cannot be started or fails; what it says goes to stderr.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    let outcome = command.status();
    let fail = |source| Error::Spawn {
        name: what.to_owned(),
        program: PathBuf::from(command.get_program()),
        source,
    };
    let status = outcome.map_err(fail)?;
    if status.success() {
        return Ok(());
    }
    Err(fail(std::io::Error::other(format!("{status}; its output is above"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_not_told_which_package_started_it() {
        let command = build();
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).collect();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR"] {
            // Cargo has set it for this very process.
            assert!(std::env::var_os(name).is_some(), "{name}");
            assert!(removed.iter().any(|(removed, _)| *removed == name), "{name} of {removed:?}");
        }
        // Where cargo finds what it builds from, and what else a person may have set.
        assert!(removed.iter().all(|(name, _)| *name != "CARGO_HOME" && *name != "CARGO_TARGET_DIR"));
    }
}
