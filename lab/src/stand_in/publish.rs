//! Files of a volume, written as a kubelet writes them: all anew into a folder of their own, then one link is exchanged.
//!
//! ```text
//!   tls.key ──► ..data/tls.key      ..data ──► ..1764256800   (before: ..1764256790, which goes then)
//! ```
//! Who opens one file after the other in that moment has some of both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::time::SystemTime;

use crate::{Error, Result};

/// Bytes by path in the volume.
pub(super) type Payload = BTreeMap<String, Vec<u8>>;

/// See the module. Nothing is written where nothing has changed.
pub(super) fn publish(folder: &Path, payload: &Payload) -> Result<()> {
    let tops: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    let current = folder.join("..data");
    let stale = stale(folder, &tops)?;
    if stale.is_empty() && payload.iter().all(|(path, bytes)| is(&current.join(path), bytes)) {
        return Ok(());
    }
    let name = format!("..{}", SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos());
    for (path, bytes) in payload {
        write(&current.join(path), &folder.join(&name).join(path), bytes)?;
    }
    let (before, partial) = (fs::read_link(&current).ok(), folder.join("..data_tmp"));
    let _ = fs::remove_file(&partial);
    symlink(&name, &partial).map_err(Error::file("link", &partial))?;
    fs::rename(&partial, &current).map_err(Error::file("exchange", &current))?;
    for top in tops {
        let link = folder.join(top);
        if link.symlink_metadata().is_err() {
            symlink(Path::new("..data").join(top), &link).map_err(Error::file("link", &link))?;
        }
    }
    for name in stale {
        let link = folder.join(name);
        fs::remove_file(&link).map_err(Error::file("remove", &link))?;
    }
    if let Some(before) = before {
        let before = folder.join(before);
        fs::remove_dir_all(&before).map_err(Error::file("remove", &before))?;
    }
    Ok(())
}

/// What was published and is no more.
fn stale(folder: &Path, tops: &BTreeSet<&str>) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let name = entry.map_err(Error::file("read", folder))?.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !tops.contains(name.as_str()) {
            stale.push(name);
        }
    }
    Ok(stale)
}

fn is(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).is_ok_and(|there| there == bytes)
}

/// What has not changed keeps its time of change, by which the age of a token is known.
fn write(before: &Path, path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |error| Error::file("write", path)(error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(fail)?;
    }
    if is(before, bytes) {
        return fs::hard_link(before, path).map_err(fail);
    }
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunDir;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_volume_is_exchanged_whole_and_what_is_gone_goes() {
        let run = RunDir::create().unwrap();
        let folder = run.folder("volume").unwrap();
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        publish(&folder, &payload(&[("tls.key", "a"), ("tls.crt", "a"), ("more/ca.crt", "ca")])).unwrap();
        let first = fs::read_link(folder.join("..data")).unwrap();
        let changed = |name: &str| fs::metadata(folder.join(name)).unwrap().modified().unwrap();
        let age = changed("more/ca.crt");
        assert_eq!(read("more/ca.crt").unwrap(), "ca");

        publish(&folder, &payload(&[("tls.key", "b"), ("more/ca.crt", "ca")])).unwrap();
        let second = fs::read_link(folder.join("..data")).unwrap();
        assert_eq!((read("tls.key").as_deref(), read("tls.crt")), (Some("b"), None));
        assert!(first != second && !folder.join(first).exists());
        assert_eq!(changed("more/ca.crt"), age);

        publish(&folder, &payload(&[("tls.key", "b"), ("more/ca.crt", "ca")])).unwrap();
        assert_eq!(fs::read_link(folder.join("..data")).unwrap(), second, "nothing changed");
    }
}
