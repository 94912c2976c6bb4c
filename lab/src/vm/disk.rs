//! Disks for guests: sparse files of this machine.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use memchr::memmem;

use crate::{Error, Result};

/// Of a disk, at once.
const CHUNK: usize = 1 << 20;

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

/// The first of these that stands anywhere in a disk, a hole being zeros.
///
/// # Errors
/// When it cannot be read.
pub fn find<'a>(path: &Path, needles: &'a [Vec<u8>]) -> Result<Option<&'a [u8]>> {
    let failed = || Error::file("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let overlap = needles.iter().map(Vec::len).max().unwrap_or_default();
    let (zeros, mut chunk) = (vec![0; CHUNK], vec![0; CHUNK]);
    // What may be the beginning of one that goes on in the next chunk.
    let mut kept = 0;
    loop {
        let read = file.read(chunk.get_mut(kept..).unwrap_or_default()).map_err(failed())?;
        let seen = chunk.get(..kept + read).unwrap_or_default();
        if read == 0 {
            return Ok(None);
        }
        if seen != zeros.get(..seen.len()).unwrap_or_default()
            && let Some(found) = needles.iter().find(|needle| memmem::find(seen, needle).is_some())
        {
            return Ok(Some(found));
        }
        let end = kept + read;
        kept = overlap.min(end);
        chunk.copy_within(end - kept..end, 0);
    }
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::RunDir;

    #[test]
    fn what_stands_on_a_disk_is_found_wherever_it_is() {
        let folder = RunDir::create().unwrap();
        let needles = [b"secret".to_vec(), b"other".to_vec()];
        for at in [0, CHUNK - 3, CHUNK, 3 * CHUNK - 1, 5 * CHUNK - 6] {
            let path = empty(&folder.path().join("disk"), 5 * CHUNK as u64).unwrap();
            assert_eq!(find(&path, &needles).unwrap(), None);
            let mut file = File::options().write(true).open(&path).unwrap();
            std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(at as u64)).unwrap();
            file.write_all(b"secret").unwrap();
            assert_eq!(find(&path, &needles).unwrap(), Some(b"secret".as_slice()), "at {at}");
            assert_eq!(find(&path, &needles[1..]).unwrap(), None);
        }
    }
}
