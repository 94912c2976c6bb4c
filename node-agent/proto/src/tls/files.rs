//! The three files of credentials: which version of them is there, and reading all of one version.
//!
//! A mounted volume is renewed by exchanging one link, while its files are opened one after the other:
//! ```text
//!   tls.key -> ..data/tls.key     ..data -> ..2026_11_27     exchanged for ..2026_11_28 between two reads
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::TlsError;

/// A CA bundle of an overlap has a few certificates of about 2 KiB; more is not what was meant.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Readings until one is of a single version. Nothing is exchanged twice within them, unless it is broken.
const READINGS: usize = 4;

/// Which version of the three files: change time and length of each.
pub(super) type Stamp = [(SystemTime, u64); 3];

/// Of what is in no file.
pub(super) const NO_FILES: Stamp = [(SystemTime::UNIX_EPOCH, 0); 3];

/// Where they are.
#[derive(Debug)]
pub(super) struct Files {
    ca: PathBuf,
    pub(super) certificate: PathBuf,
    key: PathBuf,
}

/// The three parts as bytes, and what they are called in errors.
pub(super) struct Parts<'a> {
    pub(super) ca: (&'a Path, Vec<u8>),
    pub(super) certificate: (&'a Path, Vec<u8>),
    pub(super) key: (&'a Path, Vec<u8>),
}

impl Files {
    pub(super) fn of(folder: &Path) -> Self {
        let [ca, certificate, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.join(name));
        Self { ca, certificate, key }
    }

    pub(super) fn stamp(&self) -> Result<Stamp, TlsError> {
        let mut stamp = NO_FILES;
        for (slot, path) in stamp.iter_mut().zip([&self.ca, &self.certificate, &self.key]) {
            let unreadable = |source| TlsError::Unreadable { path: path.clone(), source };
            let metadata = std::fs::metadata(path).map_err(unreadable)?;
            *slot = (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len());
        }
        Ok(stamp)
    }

    /// Makes something of the files, all of one version.
    pub(super) fn read<T>(
        &self,
        make: impl Fn(&Parts<'_>, Stamp) -> Result<T, TlsError>,
    ) -> Result<T, TlsError> {
        let read = |stamp| {
            let parts = Parts {
                ca: (&self.ca, bytes(&self.ca)?),
                certificate: (&self.certificate, bytes(&self.certificate)?),
                key: (&self.key, bytes(&self.key)?),
            };
            make(&parts, stamp)
        };
        settled(|| self.stamp(), read)
    }
}

/// What was read while nothing changed, good or bad. Files that never rest are read once more: the key of one version
/// and the certificate of another are refused by whoever puts them together.
fn settled<T>(
    mut stamp: impl FnMut() -> Result<Stamp, TlsError>,
    mut read: impl FnMut(Stamp) -> Result<T, TlsError>,
) -> Result<T, TlsError> {
    for _ in 1..READINGS {
        // A file that was just taken away has its successor by the next look.
        let Ok(before) = stamp() else { continue };
        let found = read(before);
        if stamp().is_ok_and(|after| after == before) {
            return found;
        }
    }
    read(stamp()?)
}

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(malformed(path, &format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

pub(super) fn malformed(path: &Path, why: &dyn ToString) -> TlsError {
    TlsError::Malformed { path: path.to_path_buf(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    fn version(number: u64) -> Stamp {
        [(SystemTime::UNIX_EPOCH + Duration::from_secs(number), 1); 3]
    }

    /// Files that are exchanged in the middle of so many readings, each of which is of two versions then.
    fn exchanged(times: u64) -> (Result<u64, TlsError>, u64) {
        let (current, readings) = (Cell::new(0), Cell::new(0));
        let read = |stamp| {
            readings.set(readings.get() + 1);
            if current.get() < times {
                current.set(current.get() + 1);
                return Err(malformed(Path::new("tls.key"), &"not the certificate's"));
            }
            assert_eq!(stamp, version(current.get()));
            Ok(current.get())
        };
        let found = settled(|| Ok(version(current.get())), read);
        (found, readings.get())
    }

    #[test]
    fn files_that_are_exchanged_while_they_are_read_are_read_again() {
        for times in 0..READINGS as u64 {
            let (found, readings) = exchanged(times);
            assert_eq!((found.unwrap(), readings), (times, times + 1));
        }
    }

    #[test]
    fn files_that_never_rest_are_given_up() {
        let (found, readings) = exchanged(1_000);
        assert!(found.unwrap_err().to_string().contains("tls.key"));
        assert_eq!(readings, READINGS as u64);
    }

    #[test]
    fn files_that_are_wrong_and_stay_so_are_read_once() {
        let mut readings = 0;
        let read = |_| {
            readings += 1;
            Err::<(), _>(malformed(Path::new("tls.crt"), &"no certificate in it"))
        };
        assert!(settled(|| Ok(version(0)), read).is_err());
        assert_eq!(readings, 1);
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_is_looked_for_again() {
        let mut looks = 0;
        let stamp = || {
            looks += 1;
            let gone = || std::io::ErrorKind::NotFound.into();
            if looks == 1 {
                return Err(TlsError::Unreadable { path: "tls.key".into(), source: gone() });
            }
            Ok(version(7))
        };
        assert_eq!(settled(stamp, Ok).unwrap(), version(7));
    }
}
