//! Modules that somebody else put where a bundle's would be unpacked, such as the package of a distribution's kernel.
//!
//! The next kernel loads these, and everything that was looked at and signed is about the bundle's. So each of the
//! bundle's modules has to be there, byte for byte. What else lies there is no matter, nor are the lists that `depmod`
//! writes on every machine anew.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path};

use super::source::Progress;
use super::unpack::FOLDER;
use super::{Bundle, BundleError, Part, cpio_read};

/// The folder has all modules of the bundle.
///
/// # Errors
/// [`BundleError::ForeignModules`] with the first that it has not; and what cannot be read.
pub(super) fn serves(bundle: &Bundle, place: &Path, progress: Progress<'_>) -> Result<(), BundleError> {
    let Some(mut archive) = bundle.checked(Part::Modules)? else { return Ok(()) };
    let prefix = Path::new(FOLDER).join(&bundle.manifest().release);
    let (all, mut done) = (bundle.manifest().modules.map_or(0, |file| file.size), 0);
    let (mut other, mut cancelled) = (None, false);
    let read = cpio_read::files(&mut BufReader::new(&mut archive), &mut |name, size, contents| {
        cancelled = !progress(done, all);
        if cancelled {
            return Err(io::Error::other("cancelled"));
        }
        done += size;
        if other.is_none() && is_module(name) {
            let rest = Path::new(name).strip_prefix(&prefix).ok().filter(|rest| is_plain(rest));
            let is_there = match rest {
                Some(rest) => same(&place.join(rest), size, contents)?,
                None => false,
            };
            other = (!is_there).then(|| name.to_owned());
        }
        Ok(())
    });
    if cancelled {
        return Err(BundleError::Cancelled);
    }
    // First this: a change may be why it is another, or makes no sense.
    archive.finish()?;
    read.map_err(BundleError::io("look into", &bundle.path().join(Part::Modules.file())))?;
    match other {
        Some(name) => Err(BundleError::ForeignModules { place: place.to_owned(), name }),
        None => Ok(()),
    }
}

/// `nvme.ko`, packed or not.
fn is_module(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.ends_with(".ko") || name.rsplit_once('.').is_some_and(|(name, _)| name.ends_with(".ko"))
}

fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}

/// There is a file with these contents. One that cannot be read has others.
fn same(path: &Path, size: u64, contents: &mut dyn Read) -> io::Result<bool> {
    let there = |file: &File| file.metadata().is_ok_and(|file| file.is_file() && file.len() == size);
    let Some(mut file) = File::open(path).ok().filter(there) else { return Ok(false) };
    let (mut wanted, mut found) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let read = contents.read(&mut wanted)?;
        if read == 0 {
            return Ok(true);
        }
        if file.read_exact(&mut found[..read]).is_err() || found[..read] != wanted[..read] {
            return Ok(false);
        }
    }
}
