//! Disks for guests: sparse files of this machine.

use std::ffi::OsStr;
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
    make(&[OsStr::new("-q"), path.as_os_str()])?;
    Ok(path.to_owned())
}

/// A disk that is one ext4 file system with a folder's files in it, made without mounting anything.
///
/// # Errors
/// As [`ext4`], and when the folder cannot be read.
pub fn ext4_of(path: &Path, size: u64, folder: &Path) -> Result<PathBuf> {
    empty(path, size)?;
    let args = [
        OsStr::new("-q"),
        OsStr::new("-E"),
        OsStr::new("root_owner=0:0"),
        OsStr::new("-d"),
        folder.as_os_str(),
        path.as_os_str(),
    ];
    make(&args)?;
    Ok(path.to_owned())
}

/// Replays the journal of an ext4 disk that no guest uses now, as mounting it would, and looks it over. What was
/// found when it is not in order.
///
/// # Errors
/// When `e2fsck` cannot be run.
pub fn check(path: &Path) -> Result<std::result::Result<(), String>> {
    const FSCK: &str = "e2fsck";
    // Preening repairs what mounting would, and nothing else. 1: it did.
    let (code, said) = run(FSCK, &[OsStr::new("-p"), path.as_os_str()])?;
    if !matches!(code, Some(0 | 1)) {
        return Ok(Err(said));
    }
    let (code, said) = run(FSCK, &[OsStr::new("-fn"), path.as_os_str()])?;
    Ok(if code == Some(0) { Ok(()) } else { Err(said) })
}

fn make(args: &[&OsStr]) -> Result<()> {
    const MKFS: &str = "mkfs.ext4";
    match run(MKFS, args)? {
        (Some(0), _) => Ok(()),
        (code, said) => {
            let source = std::io::Error::other(format!("it ended with {code:?} and said: {said}"));
            Err(Error::Spawn { name: MKFS.into(), program: MKFS.into(), source })
        }
    }
}

/// Runs one of e2fsprogs, which are not on everybody's PATH.
fn run(name: &str, args: &[&OsStr]) -> Result<(Option<i32>, String)> {
    let places = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    let program = places.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name));
    let fail = |source| Error::Spawn { name: name.to_owned(), program: program.clone(), source };
    let output = Command::new(&program).args(args).stdin(Stdio::null()).output().map_err(fail)?;
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).trim().to_owned()))
}
