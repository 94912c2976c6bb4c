//! A bundle's modules on the node, where its kernel looks for them.
//!
//! ```text
//!  lib/modules/.liveupdate-<release>/…    being unpacked ── right, marked, synced ──► renamed to
//!  lib/modules/<release>/…, .liveupdate   ours: the file holds the bundle's digest, or those of all whose modules they are
//! ```
//! The archive is checked as it is unpacked; only when every byte was right does the folder get its name. A folder of
//! that release without the mark is somebody else's, such as the kernel's package, and stays as it is: it serves when
//! all of the bundle's modules are in it, byte for byte, and else the bundle cannot be staged. Ours go when
//! their bundle is staged no more: a kernel that may still start from cold finds its modules. Those of the kernel that runs
//! are never touched: it loads them when they are needed, and guests run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use super::cpio_read::{HEADER, Header, LAST};
use super::source::Progress;
use super::{Bundle, BundleError, Digest, Part, durable, foreign};

/// Marks what is ours.
const MARK: &str = ".liveupdate";
/// Beside it, the digest of the archive that was unpacked: what two bundles may have in common.
const CONTENTS: &str = ".liveupdate-modules";
/// What a folder of modules is called while it is unpacked, before its release.
const UNPACKING: &str = ".liveupdate-";
pub(super) const FOLDER: &str = "lib/modules";

/// Unpacks the modules of a bundle under a machine's root folder, unless they are there. `running`: the release of the
/// kernel that runs, whose modules stay as they are. `staged`: digests of bundles whose modules stay. Idempotent; true when
/// something was unpacked.
///
/// # Errors
/// [`BundleError`]; then what was there before is there still.
pub fn install_modules(
    bundle: &Bundle,
    root: &Path,
    running: &str,
    staged: &[Digest],
    progress: Progress<'_>,
) -> Result<bool, BundleError> {
    let modules = root.join(FOLDER);
    tidy(&modules, running, staged, bundle.digest())?;
    let Some(archive) = bundle.manifest().part(Part::Modules) else { return Ok(false) };
    let release = &bundle.manifest().release;
    let place = modules.join(release);
    let replaced = match marks(&place)? {
        Some(marks) if marks.contains(&bundle.digest().to_string()) => return Ok(false),
        Some(marks) if release == running => return share(&place, marks, bundle, archive.digest),
        Some(_) => true,
        None if place.exists() => return foreign::serves(bundle, &place, progress).map(|()| false),
        None => false,
    };
    let new = modules.join(format!("{UNPACKING}{release}"));
    remove(&new)?;
    let done = unpack(bundle, &new, archive.digest, progress).and_then(|()| {
        if replaced {
            remove(&place)?;
        }
        fs::rename(&new, &place).map_err(BundleError::io("move into place", &place))?;
        durable::sync(&modules).map_err(BundleError::io("sync", &modules))
    });
    if done.is_err() {
        // What is left of it goes with the next try at the latest.
        let _ = fs::remove_dir_all(&new);
    }
    done.map(|()| true)
}

/// Modules of the kernel that runs serve another bundle of its release, if they are that one's, too.
fn share(
    place: &Path,
    mut marks: Vec<String>,
    bundle: &Bundle,
    archive: Digest,
) -> Result<bool, BundleError> {
    let unpacked = fs::read_to_string(place.join(CONTENTS));
    if unpacked.ok().is_none_or(|unpacked| unpacked.trim() != archive.to_string()) {
        return Err(BundleError::SameRelease { release: bundle.manifest().release.clone() });
    }
    marks.push(bundle.digest().to_string());
    let mark = place.join(MARK);
    durable::replace(&mark, marks.join("\n").as_bytes()).map_err(BundleError::io("write", &mark))?;
    Ok(false)
}

fn unpack(bundle: &Bundle, new: &Path, archive: Digest, progress: Progress<'_>) -> Result<(), BundleError> {
    fs::create_dir_all(new).map_err(BundleError::io("make", new))?;
    let mut unpacker = Unpacker::new(new, &bundle.manifest().release);
    bundle.copy(Part::Modules, &mut unpacker, &mut 0, progress)?;
    unpacker.finish().map_err(BundleError::io("unpack to", new))?;
    for (name, digest) in [(CONTENTS, archive), (MARK, bundle.digest())] {
        let file = new.join(name);
        fs::write(&file, digest.to_string()).map_err(BundleError::io("write", &file))?;
    }
    // All of its files at once: there may be thousands.
    let synced = File::open(new).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.map_err(BundleError::io("sync", new))
}

/// Removes what a kill has left behind, and what is ours and of no staged bundle, unless it is the running kernel's: that of which bundle it is may not be
/// known.
fn tidy(modules: &Path, running: &str, staged: &[Digest], next: Digest) -> Result<(), BundleError> {
    let entries = match fs::read_dir(modules) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(BundleError::io("list", modules))?,
    };
    for entry in entries {
        let entry = entry.map_err(BundleError::io("list", modules))?;
        let place = entry.path();
        if entry.file_name().to_string_lossy().starts_with(UNPACKING) {
            // A kill while modules were unpacked: nobody unpacks now but who is about to.
            remove(&place)?;
            continue;
        }
        if place == modules.join(running) {
            continue;
        }
        let needed = |digest: &String| staged.iter().chain([&next]).any(|other| other.to_string() == *digest);
        // What somebody else calls by our mark's name, and is no such text, makes nothing ours.
        let marks = marks(&place).unwrap_or_default();
        if marks.is_some_and(|digests| !digests.iter().any(needed)) {
            remove(&place)?;
        }
    }
    Ok(())
}

/// Digests of the bundles whose modules they are; none when they are not ours.
fn marks(place: &Path) -> Result<Option<Vec<String>>, BundleError> {
    match fs::read_to_string(place.join(MARK)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        text => text
            .map(|text| Some(text.split_whitespace().map(str::to_owned).collect()))
            .map_err(BundleError::io("read", place)),
    }
}

fn remove(folder: &Path) -> Result<(), BundleError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(BundleError::io("remove", folder)(error))
        }
        _ => Ok(()),
    }
}

/// Takes an archive's bytes as they come.
///
/// ```text
///  Header ─► Name ─► Contents ─► Header …      TRAILER!!! ─► Over: only zeros may follow
/// ```
struct Unpacker {
    folder: PathBuf,
    /// `lib/modules/<release>`: what every path begins with.
    prefix: PathBuf,
    /// Of the header or name that is being read.
    held: Vec<u8>,
    state: State,
}

enum State {
    Header,
    Name(Header),
    Contents { file: Option<File>, left: u64, padding: u64 },
    Over,
}

impl Unpacker {
    fn new(folder: &Path, release: &str) -> Self {
        let prefix = Path::new(FOLDER).join(release);
        Self { folder: folder.to_owned(), prefix, held: Vec::new(), state: State::Header }
    }

    fn finish(&self) -> io::Result<()> {
        match self.state {
            State::Over => Ok(()),
            _ => Err(wrong("the archive of modules has no end")),
        }
    }

    /// One step; how many bytes it took.
    fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Over => match bytes.iter().all(|byte| *byte == 0) {
                true => Ok(bytes.len()),
                false => Err(wrong("something follows the end of the archive of modules")),
            },
            State::Header => {
                let taken = self.hold(bytes, HEADER);
                if self.held.len() == HEADER {
                    self.state = State::Name(Header::read(&self.held)?);
                    self.held.clear();
                }
                Ok(taken)
            }
            &mut State::Name(header) => {
                let taken = self.hold(bytes, header.padded_name());
                if self.held.len() == header.padded_name() {
                    let name = std::mem::take(&mut self.held);
                    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                    let name = std::str::from_utf8(&name[..end]);
                    let name = name.map_err(|_| wrong("a name in the archive of modules is no text"))?;
                    self.state = self.begin(name, header)?;
                }
                Ok(taken)
            }
            State::Contents { file, left, padding } => {
                let contents = least(bytes, *left);
                if let Some(file) = file {
                    file.write_all(&bytes[..contents])?;
                }
                *left -= contents as u64;
                let zeros = least(&bytes[contents..], *padding);
                *padding -= zeros as u64;
                if *left == 0 && *padding == 0 {
                    self.state = State::Header;
                }
                Ok(contents + zeros)
            }
        }
    }

    fn hold(&mut self, bytes: &[u8], length: usize) -> usize {
        let taken = bytes.len().min(length - self.held.len());
        self.held.extend_from_slice(&bytes[..taken]);
        taken
    }

    fn begin(&self, name: &str, header: Header) -> io::Result<State> {
        if name == LAST {
            return Ok(State::Over);
        }
        let path = Path::new(name);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let above = self.prefix.starts_with(path) && header.is_folder();
        let place = match path.strip_prefix(&self.prefix) {
            Ok(rest) if plain && rest.as_os_str() != MARK && rest.as_os_str() != CONTENTS => {
                self.folder.join(rest)
            }
            _ if plain && above => self.folder.clone(),
            _ => return Err(wrong(&format!("{name:?} does not belong under {}", self.prefix.display()))),
        };
        let file = if header.is_folder() && header.size == 0 {
            fs::create_dir_all(&place)?;
            None
        } else if header.is_file() {
            Some(File::options().write(true).create_new(true).open(&place)?)
        } else {
            return Err(wrong(&format!("{name:?} is neither a file nor a folder")));
        };
        if header.size == 0 {
            return Ok(State::Header);
        }
        Ok(State::Contents { file, left: header.size, padding: header.padding() })
    }
}

impl Write for Unpacker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            taken += self.take(&bytes[taken..])?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn least(bytes: &[u8], limit: u64) -> usize {
    usize::try_from(limit).map_or(bytes.len(), |limit| bytes.len().min(limit))
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::cpio::Archive;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("liveupdate-unpack-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Feeds the bytes in pieces.
    fn unpacked(folder: &Path, bytes: &[u8], piece: usize) -> io::Result<()> {
        let mut unpacker = Unpacker::new(folder, "7.3");
        bytes.chunks(piece).try_for_each(|piece| unpacker.write_all(piece))?;
        unpacker.finish()
    }

    fn archive(edit: impl FnOnce(&mut Archive)) -> Vec<u8> {
        let mut archive = Archive::new();
        for folder in ["lib", "lib/modules", "lib/modules/7.3"] {
            archive.folder(folder, 0o755);
        }
        edit(&mut archive);
        archive.finish()
    }

    #[test]
    fn files_are_whole_in_whatever_pieces_the_archive_comes() {
        let bytes = archive(|archive| {
            archive.folder("lib/modules/7.3/kernel", 0o755);
            archive.file("lib/modules/7.3/kernel/nvme.ko", 0o644, b"odd length of bytes");
            archive.file("lib/modules/7.3/modules.empty", 0o644, b"");
            archive.file("lib/modules/7.3/modules.dep", 0o644, b"four");
        });
        for piece in [1, 3, 110, 1000] {
            let folder = Folder::new(&format!("pieces-{piece}"));
            unpacked(&folder.0, &bytes, piece).unwrap();
            let read = |name: &str| fs::read(folder.0.join(name)).unwrap();
            assert_eq!(read("kernel/nvme.ko"), b"odd length of bytes");
            assert_eq!((read("modules.empty").len(), read("modules.dep").len()), (0, 4));
        }
    }

    #[test]
    fn nothing_is_written_beside_the_releases_folder() {
        type Edit = fn(&mut Archive);
        let hostile: [(&str, Edit); 8] = [
            ("above", |archive| archive.file("lib/modules/7.3/../escaped", 0o644, b"x")),
            ("elsewhere", |archive| archive.file("etc/passwd", 0o644, b"x")),
            ("absolute", |archive| archive.file("/etc/passwd", 0o644, b"x")),
            ("other release", |archive| archive.file("lib/modules/7.30/x", 0o644, b"x")),
            ("link", |archive| archive.link("lib/modules/7.3/link", "/etc")),
            ("twice", |archive| {
                archive.file("lib/modules/7.3/x", 0o644, b"x");
                archive.file("lib/modules/7.3/x", 0o644, b"y");
            }),
            ("mark", |archive| archive.file("lib/modules/7.3/.liveupdate", 0o644, b"x")),
            ("contents", |archive| archive.file("lib/modules/7.3/.liveupdate-modules", 0o644, b"x")),
        ];
        for (name, edit) in hostile {
            let folder = Folder::new("hostile");
            let error = unpacked(&folder.0.join("in"), &archive(edit), 64).err();
            assert!(error.is_some(), "{name}");
            assert_eq!(
                fs::read_dir(&folder.0).unwrap().filter(|e| e.as_ref().unwrap().file_name() != "in").count(),
                0
            );
        }
    }

    #[test]
    fn what_is_cut_off_or_no_archive_is_an_error() {
        let bytes = archive(|archive| archive.file("lib/modules/7.3/x", 0o644, b"four"));
        for length in 0..bytes.len() - 4 {
            let folder = Folder::new("cut");
            assert!(unpacked(&folder.0, &bytes[..length], 64).is_err(), "{length}");
        }
        let folder = Folder::new("none");
        assert!(unpacked(&folder.0, &[b'x'; 200], 64).is_err());
        let more = [&bytes[..], b"more"].concat();
        assert!(unpacked(&Folder::new("more").0, &more, 64).is_err());
    }
}
