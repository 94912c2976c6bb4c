//! Disks for guests: sparse files of this machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Error, Result};

/// An empty disk of a size in bytes.
///
/// # Errors
/// When it cannot be written.
pub fn empty(path: &Path, size: u64) -> Result<PathBuf> {
    let file = File::create(path).map_err(Error::file("create", path))?;
    file.set_len(size).map_err(Error::file("resize", path))?;
    Ok(path.to_owned())
}

/// A disk that is one ext4 file system.
///
/// # Errors
/// When it cannot be written or `mkfs.ext4` fails.
pub fn ext4(path: &Path, size: u64) -> Result<PathBuf> {
    empty(path, size)?;
    let mkfs = ["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"].into_iter().find(|path| Path::new(path).exists());
    let program = PathBuf::from(mkfs.unwrap_or("mkfs.ext4"));
    let fail = |source| Error::Spawn { name: "mkfs".into(), program: program.clone(), source };
    let output = Command::new(&program).arg("-q").arg(path).stdin(Stdio::null()).output().map_err(fail)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(fail(std::io::Error::other(format!("{}: {text}", output.status))));
    }
    Ok(path.to_owned())
}
