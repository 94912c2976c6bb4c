//! The folder with the agent's credentials, which the agent writes itself. All three files change in one step,
//! as a mounted Secret's do:
//!
//! ```text
//!   tls.crt ──► ..data/tls.crt        ..data ──► ..7/   (renamed over: what was there before is then removed)
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// The files, and who may read them.
const FILES: [(&str, u32); 3] = [("ca.crt", 0o644), ("tls.crt", 0o644), ("tls.key", 0o600)];
/// Where the files of now are.
const NOW: &str = "..data";
const NEXT: &str = "..next";

/// Why the folder cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}; the agent needs --tls-dir to be writable for itself")]
pub(super) struct FolderError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_path_buf();
    move |source| FolderError { action, path, source }
}

/// Writes CA bundle, certificate and key, in this order, in one step.
pub(super) fn write(folder: &Path, contents: [&str; 3]) -> Result<(), FolderError> {
    fs::create_dir_all(folder).map_err(at("make", folder))?;
    let old = fs::read_link(folder.join(NOW)).ok();
    let number = old.as_deref().and_then(number_of).map_or(0, |number| number + 1);
    let version = format!("..{number}");
    let version_path = folder.join(&version);
    // Left by a process that was killed in the middle.
    if version_path.exists() {
        fs::remove_dir_all(&version_path).map_err(at("remove", &version_path))?;
    }
    fs::create_dir(&version_path).map_err(at("make", &version_path))?;
    for ((name, mode), content) in FILES.iter().zip(contents) {
        let path = version_path.join(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(*mode).open(&path);
        let written = file.and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        });
        written.map_err(at("write", &path))?;
    }
    sync(&version_path)?;
    for (name, _) in FILES {
        link(folder, name, &Path::new(NOW).join(name))?;
    }
    link(folder, NOW, Path::new(&version))?;
    sync(folder)?;
    if let Some(old) = old.filter(|old| number_of(old).is_some()) {
        let old = folder.join(old);
        fs::remove_dir_all(&old).map_err(at("remove", &old))?;
    }
    Ok(())
}

/// Takes one of the files anew, and keeps the others.
pub(super) fn write_authorities(folder: &Path, authorities: &str) -> Result<(), FolderError> {
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(at("read", &path))
    });
    write(folder, [authorities, &certificate?, &key?])
}

/// Makes a name lead there, whatever it led to before.
fn link(folder: &Path, name: &str, target: &Path) -> Result<(), FolderError> {
    let path = folder.join(name);
    if fs::read_link(&path).is_ok_and(|found| found == target) {
        return Ok(());
    }
    let next = folder.join(NEXT);
    let _ = fs::remove_file(&next);
    symlink(target, &next).and_then(|()| fs::rename(&next, &path)).map_err(at("write", &path))
}

fn sync(folder: &Path) -> Result<(), FolderError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(at("sync", folder))
}

fn number_of(version: &Path) -> Option<u64> {
    version.to_str()?.strip_prefix("..")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn read(folder: &Path) -> [String; 3] {
        FILES.map(|(name, _)| fs::read_to_string(folder.join(name)).unwrap())
    }

    #[test]
    fn the_three_change_together_and_nothing_of_before_stays() {
        let folder = std::env::temp_dir().join(format!("liveupdate-enrol-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        write(&folder, ["a", "b", "c"]).unwrap();
        assert_eq!(read(&folder), ["a", "b", "c"]);
        let mode = fs::metadata(folder.join("tls.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A writer that was killed left half of the next version.
        fs::create_dir(folder.join("..1")).unwrap();
        fs::write(folder.join("..1/tls.crt"), "half").unwrap();
        assert_eq!(read(&folder), ["a", "b", "c"]);
        write(&folder, ["d", "e", "f"]).unwrap();
        write_authorities(&folder, "g").unwrap();
        assert_eq!(read(&folder), ["g", "e", "f"]);
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["..2", "..data", "ca.crt", "tls.crt", "tls.key"]);
        // Files that somebody else wrote before are taken over.
        fs::remove_file(folder.join("tls.crt")).unwrap();
        fs::write(folder.join("tls.crt"), "theirs").unwrap();
        write(&folder, ["h", "i", "j"]).unwrap();
        assert_eq!(read(&folder), ["h", "i", "j"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
