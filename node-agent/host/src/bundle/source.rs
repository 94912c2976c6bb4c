//! Where the files of a bundle come from: a folder, or elsewhere. What is taken from either is checked on the way.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Take, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::digest::Hasher;
use super::manifest::{self, MANIFEST, Manifest, Part};
use super::signature::SIGNATURES;
use super::{BundleError, Digest, durable};

/// Is told bytes done and in all; answers whether to go on.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Bytes that are read at once. Progress is told, and the caller asked, as often.
const CHUNK: usize = 1 << 20;

/// A bundle that can be copied.
pub(super) trait Source {
    /// What it says of itself.
    fn manifest(&self) -> &Manifest;
    /// The manifest's exact bytes.
    fn manifest_bytes(&self) -> &[u8];
    /// Those of its signatures.
    fn signature_bytes(&self) -> Option<&[u8]>;
    /// Copies a file and checks it on the way. After an error, what was written is worth nothing.
    fn copy(
        &mut self,
        part: Part,
        to: &mut dyn Write,
        done: &mut u64,
        progress: Progress<'_>,
    ) -> Result<(), BundleError>;
}

/// What is copied.
#[derive(Clone, Copy)]
pub(super) struct Copied<'a> {
    /// What the manifest says of it.
    pub(super) file: manifest::File,
    /// What it is called in errors.
    pub(super) path: &'a Path,
    /// Bytes of all files.
    pub(super) all: u64,
}

/// Copies exactly what the manifest says. What is longer is cut off with an error.
pub(super) fn pump(
    from: &mut dyn Read,
    to: &mut dyn Write,
    copied: Copied<'_>,
    done: &mut u64,
    progress: Progress<'_>,
) -> Result<(), BundleError> {
    let Copied { file: manifest::File { size, digest }, path, all } = copied;
    let at = || path.to_owned();
    let (mut hasher, mut found, mut buffer) = (Hasher::new(), 0, vec![0; CHUNK]);
    loop {
        if !progress(*done, all) {
            return Err(BundleError::Cancelled);
        }
        let read = match from.read(&mut buffer) {
            Ok(read) => read,
            // What is cancelled while it waits breaks off.
            Err(_) if !progress(*done, all) => return Err(BundleError::Cancelled),
            Err(error) => return Err(BundleError::io("read", path)(error)),
        };
        if read == 0 {
            break;
        }
        found += read as u64;
        // It may grow while it is read.
        if found > size {
            return Err(BundleError::TooLong { path: at(), found, wanted: size });
        }
        hasher.feed(&buffer[..read]);
        to.write_all(&buffer[..read]).map_err(BundleError::io("copy", path))?;
        *done += read as u64;
    }
    if found < size {
        return Err(BundleError::Truncated { path: at(), found, wanted: size });
    }
    let found = hasher.finish();
    if found != digest {
        return Err(BundleError::Changed { path: at(), found, wanted: digest });
    }
    Ok(())
}

/// Reads a file of a bundle for somebody who looks at it piece by piece, and says at the end whether it was the
/// manifest's. Until then nothing of it counts.
pub(super) struct Checked {
    from: Take<File>,
    hasher: Hasher,
    path: PathBuf,
    wanted: Digest,
}

impl Checked {
    /// `from`: of the length that the manifest says. What it grows by later is not read.
    pub(super) fn new(from: File, wanted: manifest::File, path: PathBuf) -> Self {
        Self { from: from.take(wanted.size), hasher: Hasher::new(), path, wanted: wanted.digest }
    }

    /// Reads what is left of it.
    pub(super) fn finish(mut self) -> Result<(), BundleError> {
        io::copy(&mut self, &mut io::sink()).map_err(BundleError::io("read", &self.path))?;
        let found = self.hasher.finish();
        if found == self.wanted {
            return Ok(());
        }
        Err(BundleError::Changed { path: self.path, found, wanted: self.wanted })
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hasher.feed(&buffer[..read]);
        Ok(read)
    }
}

/// Writes all files of a bundle into an empty folder, each synced, then the folder.
fn fill(source: &mut dyn Source, new: &Path, progress: Progress<'_>) -> Result<(), BundleError> {
    let mut done = 0;
    let parts: Vec<Part> = source.manifest().parts().map(|(part, _)| part).collect();
    for part in parts {
        let (path, mut file) = create(new, part.file())?;
        source.copy(part, &mut file, &mut done, progress)?;
        file.sync_all().map_err(BundleError::io("sync", &path))?;
    }
    for (name, bytes) in [(SIGNATURES, source.signature_bytes()), (MANIFEST, Some(source.manifest_bytes()))] {
        let Some(bytes) = bytes else { continue };
        let (path, mut file) = create(new, name)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(BundleError::io("write", &path))?;
    }
    durable::sync(new).map_err(BundleError::io("sync", new))
}

/// Makes a folder of a bundle in `new`, which must not be there yet, and names it `place`: a name that a whole bundle
/// alone has.
pub(super) fn fill_and_name(
    source: &mut dyn Source,
    new: &Path,
    place: &Path,
    progress: Progress<'_>,
) -> Result<(), BundleError> {
    // What is there already is not ours: it is neither filled nor, after an error, removed.
    DirBuilder::new().mode(0o700).create(new).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => BundleError::Exists { path: new.to_owned() },
        _ => BundleError::io("make", new)(error),
    })?;
    let filled = fill(source, new, progress).and_then(|()| {
        fs::rename(new, place).map_err(BundleError::io("move into place", place))?;
        let above = place.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        durable::sync(above).map_err(BundleError::io("sync", above))
    });
    if filled.is_err() {
        // What is left of it goes with the next use at the latest.
        let _ = fs::remove_dir_all(new);
    }
    filled
}

fn create(folder: &Path, name: &str) -> Result<(PathBuf, File), BundleError> {
    let path = folder.join(name);
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
    file.map_err(BundleError::io("make", &path)).map(|file| (path, file))
}
