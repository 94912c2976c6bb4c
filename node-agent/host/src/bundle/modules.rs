//! A kernel's modules as one archive: `lib/modules/<release>/…`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::build_error::BuildError;
use super::cpio::Archive;

/// Links to where the kernel was built: of no use on another machine.
const NOT_TAKEN: [&str; 2] = ["build", "source"];
/// Deeper no tree of modules is; a loop of mounts would be.
const DEEPEST: usize = 32;

/// Finds the folder of a release: itself, or the root that it lies under.
pub(super) fn folder(given: &Path, release: &str) -> Result<PathBuf, BuildError> {
    let under = given.join("lib/modules").join(release);
    if under.is_dir() {
        return Ok(under);
    }
    let named = given.canonicalize().map_err(BuildError::io("read", given))?;
    if named.file_name().is_some_and(|name| name.to_str() == Some(release)) {
        return Ok(named);
    }
    Err(BuildError::OtherModules { folder: given.to_owned(), release: release.to_owned() })
}

/// Writes the archive of a release's folder, in the order of names, so that the same files give the same bytes.
pub(super) fn archive(folder: &Path, release: &str, to: &mut dyn Write) -> Result<(), BuildError> {
    let mut archive = Archive::new();
    let mut path = String::new();
    for part in ["lib", "modules", release] {
        path = if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") };
        archive.folder(&path, 0o755);
    }
    walk(&mut archive, folder, &path, 0, to)?;
    to.write_all(&archive.finish()).map_err(BuildError::io("archive", folder))
}

fn walk(
    archive: &mut Archive,
    folder: &Path,
    path: &str,
    depth: usize,
    to: &mut dyn Write,
) -> Result<(), BuildError> {
    let failed = || BuildError::io("read", folder);
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed())?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.file_name().into_string();
        names.push(
            name.map_err(|_| BuildError::NotAFile { path: entry.path(), kind: "name that is no text" })?,
        );
    }
    names.sort_unstable();
    for name in names {
        let (from, path) = (folder.join(&name), format!("{path}/{name}"));
        let kind = fs::symlink_metadata(&from).map_err(BuildError::io("read", &from))?;
        if kind.is_symlink() && depth == 0 && NOT_TAKEN.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() && depth < DEEPEST {
            archive.folder(&path, 0o755);
            walk(archive, &from, &path, depth + 1, to)?;
        } else if kind.is_file() {
            let contents = fs::read(&from).map_err(BuildError::io("read", &from))?;
            archive.file(&path, 0o644, &contents);
            // One file at a time in memory.
            to.write_all(&archive.drain()).map_err(BuildError::io("archive", &from))?;
        } else {
            let kind = if kind.is_symlink() { "link" } else { "device, or a folder too deep" };
            return Err(BuildError::NotAFile { path: from, kind });
        }
    }
    Ok(())
}
