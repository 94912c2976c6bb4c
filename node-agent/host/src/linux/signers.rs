//! The keys of those who may sign bundles, as `liveupdate-agent install-keeper` puts them on a machine. Agent and
//! keeper read them there, each for itself; the agent's container sees the folder read-only, and the keeper believes
//! nothing that the agent says of them.
//!
//! Of the folder's files the installer owns those that begin with [`MARK`]. All others are the administrator's: they
//! count as well, and stay as they are.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::root::Root;
use crate::HostError;
use crate::bundle::{LARGEST_KEY, PublicKey, Signer};

/// First line of a key's file that the installer wrote; what reads keys passes it over.
pub const MARK: &str =
    "# Written by liveupdate-agent install-keeper, which also takes it away: a change is lost.";

const PUBLIC_SUFFIX: &str = ".pub";

/// Makes these the installer's keys in a folder of the machine; true when that changed something. May be called again
/// after any error or kill: those that stay are never away.
///
/// # Errors
/// A name is that of somebody else's key, and nothing was changed; or a file cannot be read or written.
pub fn put(root: &Root, folder: &str, wanted: &[Signer]) -> Result<bool, HostError> {
    let failed = |what: &str, path: &Path, error: &io::Error| HostError::Io {
        what: format!("{what} {}", path.display()),
        why: error.to_string(),
    };
    let place = root.path(folder);
    let ours = ours(&place).map_err(|error| failed("read", &place, &error))?;
    let mut missing = Vec::new();
    for Signer { name, key } in wanted {
        let path = place.join(format!("{name}{PUBLIC_SUFFIX}"));
        let text = format!("{MARK}\n{}", key.to_pem().replace("\r\n", "\n"));
        match read(&path).map_err(|error| failed("read", &path, &error))? {
            Some(found) if found == text.as_bytes() => {}
            // Put there by hand, and the same: it stays theirs.
            Some(found) if !is_ours(&found) && PublicKey::from_pem(&found).as_ref() == Ok(key) => {}
            Some(found) if !is_ours(&found) => {
                let why = format!(
                    "{folder}/{name}{PUBLIC_SUFFIX} is another key that install-keeper did not write: take it away, or \
                     call this signer something else"
                );
                return Err(HostError::WrongMoment { operation: "putting the signers there", why });
            }
            _ => missing.push((path, text)),
        }
    }
    let named = |path: &PathBuf| {
        let names = wanted.iter().map(|signer| format!("{}{PUBLIC_SUFFIX}", signer.name));
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| names.into_iter().any(|n| n == name))
    };
    let gone: Vec<PathBuf> = ours.into_iter().filter(|path| !named(path)).collect();
    if missing.is_empty() && gone.is_empty() {
        return Ok(false);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&place)
        .map_err(|error| failed("make", &place, &error))?;
    for (path, text) in missing {
        write(&path, &text).map_err(|error| failed("write", &path, &error))?;
    }
    for path in gone {
        fs::remove_file(&path).map_err(|error| failed("remove", &path, &error))?;
    }
    File::open(&place)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed("sync", &place, &error))?;
    Ok(true)
}

/// The files that the installer wrote.
fn ours(place: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let key = path.extension().is_some_and(|extension| extension == &PUBLIC_SUFFIX[1..]);
        if key && read(&path)?.is_some_and(|bytes| is_ours(&bytes)) {
            found.push(path);
        }
    }
    Ok(found)
}

fn is_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(MARK.as_bytes())
}

/// A key's file as far as one may be long; none: there is no such file.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(LARGEST_KEY as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// After a kill or a power cut it has either the old bytes or the new ones.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Signers, SigningKey};

    const FOLDER: &str = "/etc/liveupdate/signers";

    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("liveupdate-keys-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).unwrap();
            Self(folder)
        }

        fn put(&self, wanted: &[Signer]) -> Result<bool, HostError> {
            put(&Root::at(&self.0), FOLDER, wanted)
        }

        fn path(&self, file: &str) -> PathBuf {
            self.0.join(&FOLDER[1..]).join(file)
        }

        /// As agent and keeper read them.
        fn trusted(&self) -> Vec<Signer> {
            let signers = Signers::read(&self.path("")).unwrap();
            assert_eq!(signers.skipped, Vec::<String>::new());
            signers.signers
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn signer(name: &str) -> Signer {
        Signer { name: name.into(), key: SigningKey::generate().unwrap().public() }
    }

    #[test]
    fn the_installers_keys_are_those_that_are_wanted_and_no_others() {
        let machine = Machine::new("wanted");
        let (one, two) = (signer("one"), signer("two"));
        assert!(!machine.put(&[]).unwrap());
        assert!(!machine.path("").exists(), "nothing is made for nothing");
        assert!(machine.put(&[one.clone(), two.clone()]).unwrap());
        assert_eq!(machine.trusted(), [one.clone(), two.clone()]);
        assert!(!machine.put(&[one.clone(), two.clone()]).unwrap());
        let other = signer("two");
        assert!(machine.put(std::slice::from_ref(&other)).unwrap());
        assert_eq!(machine.trusted(), [other]);
        assert!(machine.put(&[]).unwrap());
        assert_eq!(machine.trusted(), []);
    }

    #[test]
    fn invariant_7_an_administrators_keys_stay_and_none_is_written_over() {
        let machine = Machine::new("theirs");
        let (theirs, ours) = (signer("admin"), signer("ours"));
        fs::create_dir_all(machine.path("")).unwrap();
        fs::write(machine.path("admin.pub"), theirs.key.to_pem()).unwrap();
        machine.put(std::slice::from_ref(&ours)).unwrap();
        assert_eq!(machine.trusted(), [theirs.clone(), ours.clone()]);
        // The same key by the same name is no conflict, and not ours to take away.
        assert!(machine.put(std::slice::from_ref(&theirs)).unwrap());
        assert!(machine.put(std::slice::from_ref(&ours)).unwrap());
        assert_eq!(machine.trusted(), [theirs.clone(), ours.clone()]);
        let refused = machine.put(&[signer("admin"), signer("new")]).unwrap_err().to_string();
        assert!(refused.contains("admin.pub is another key that install-keeper did not write"), "{refused}");
        assert_eq!(machine.trusted(), [theirs, ours], "nothing was changed");
    }
}
