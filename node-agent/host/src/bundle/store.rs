//! The bundle root of a node: bundles that people have put there under names, and those that were staged, under
//! their digests.
//!
//! ```text
//!  ROOT/<name>/            copied there by somebody; never changed or removed here
//!  ROOT/<64 hex digits>/   staged: copied, verified, synced, whole
//!  ROOT/.staging-…/        being copied ── verified, synced ──► renamed to the staged one
//!  ROOT/.removing-…/       was a staged one, renamed before the first file goes
//!  ROOT/.artifacts/<hex>   manifests of artifacts that were fetched: which bundle each of them is
//!  ROOT/.lock              held by whoever stages or removes
//! ```
//! A kill at any point leaves either no bundle or a whole one; what begins with `.staging-` or `.removing-` is
//! taken away when the root is next used for staging.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::artifact::{Artifact, LARGEST_ARTIFACT};
use super::delivery::{Delivered, Delivery};
use super::durable;
use super::manifest::MANIFEST;
use super::signature::{SIGNATURES, Signatures};
use super::source::{Progress, Source, fill_and_name};
use super::{Bundle, BundleError, Digest};

/// Where bundles lie unless the agent is told otherwise.
pub const ROOT: &str = "/var/lib/liveupdate/bundles";

const STAGING: &str = ".staging-";
const REMOVING: &str = ".removing-";
const LOCK: &str = ".lock";
const ARTIFACTS: &str = ".artifacts";

/// Says whether what is signed may be fetched, given the bytes of manifest and signatures; the error says why not.
pub type MayFetch<'a> = &'a dyn Fn(&[u8], Option<&[u8]>) -> Result<(), String>;

/// Bounds of a bundle root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Staged bundles that are kept, those that must not go included; the ones used longest ago go first.
    pub keep: usize,
    /// Bytes that stay free for others on the disk.
    pub reserve: u64,
}

impl Default for Limits {
    /// The running one, the next one and the one before.
    fn default() -> Self {
        Self { keep: 3, reserve: 256 << 20 }
    }
}

/// The root's lock. It is released by a call, not by closing the file: a process that is just being started
/// elsewhere has a duplicate of every file until its exec, and would hold the lock for that long.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // An error leaves what closing does anyway.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// A bundle root.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    limits: Limits,
}

impl Store {
    /// A root; nothing is read or made yet.
    pub fn at(root: impl Into<PathBuf>, limits: Limits) -> Self {
        Self { root: root.into(), limits }
    }

    /// The root's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A staged bundle; none when there is no such one. Its files are checked when they are read.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn staged(&self, digest: Digest) -> Result<Option<Bundle>, BundleError> {
        let digest = self.resolve(digest);
        let Some(bundle) = self.open(&digest.hex())? else { return Ok(None) };
        let found = bundle.digest();
        if found != digest {
            return Err(BundleError::OtherDigest { name: digest.hex(), found, wanted: digest });
        }
        Ok(Some(bundle))
    }

    /// Digests of all staged bundles, the one used last first. Whether they are whole is not asked.
    ///
    /// # Errors
    /// [`BundleError::Io`].
    pub fn list(&self) -> Result<Vec<Digest>, BundleError> {
        let mut all: Vec<(SystemTime, Digest)> = Vec::new();
        for name in self.names()? {
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            let used =
                fs::symlink_metadata(self.root.join(&name).join(MANIFEST)).and_then(|file| file.modified());
            // One without a manifest is no bundle any more, and the first to go.
            all.push((used.unwrap_or(SystemTime::UNIX_EPOCH), digest));
        }
        all.sort_unstable_by(|one, other| other.cmp(one));
        Ok(all.into_iter().map(|(_, digest)| digest).collect())
    }

    /// Finds a bundle by its digest: the staged one, else the one that was put there under this name, else under
    /// any other. It is not copied and not verified. The staged one comes with the signatures of both.
    ///
    /// # Errors
    /// [`BundleError::NotFound`]; [`BundleError::OtherDigest`] when there is one of this name that is another.
    pub fn find(&self, name: &str, digest: Digest) -> Result<Bundle, BundleError> {
        let digest = self.resolve(digest);
        if let Some(bundle) = self.staged(digest)? {
            return Ok(match self.signed_since(&bundle, name) {
                Some(signatures) => bundle.with_signatures(signatures),
                None => bundle,
            });
        }
        let mut of_this_name = None;
        if is_name(name)
            && let Some(bundle) = self.open(name)?
        {
            if bundle.digest() == digest {
                return Ok(bundle);
            }
            of_this_name = Some(bundle.digest());
        }
        for other in self.names()?.iter().filter(|other| is_name(other)) {
            // What is broken under another name is no matter here.
            if let Ok(Some(bundle)) = self.open(other)
                && bundle.digest() == digest
            {
                return Ok(bundle);
            }
        }
        Err(match of_this_name {
            Some(found) => BundleError::OtherDigest { name: name.into(), found, wanted: digest },
            None => BundleError::NotFound { root: self.root.clone(), wanted: digest },
        })
    }

    /// Bytes that [`Store::stage`] would write: zero for a staged bundle.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn to_fetch(&self, name: &str, digest: Digest) -> Result<u64, BundleError> {
        match self.staged(digest)? {
            Some(_) => Ok(0),
            None => self.find(name, digest).map(|bundle| bundle.manifest().size()),
        }
    }

    /// Finds a bundle, copies it unless it is staged already, verifies every byte, and makes it durable. `spare`
    /// are digests that must not be removed to keep the number bounded: the running one and the loaded one.
    /// A staged one that is damaged is copied again if there is another to copy from. Idempotent.
    ///
    /// # Errors
    /// [`BundleError`]; then nothing is staged that was not before.
    pub fn stage(
        &self,
        name: &str,
        digest: Digest,
        spare: &[Digest],
        progress: Progress<'_>,
    ) -> Result<Bundle, BundleError> {
        fs::create_dir_all(&self.root).map_err(BundleError::io("make", &self.root))?;
        let _lock = self.lock()?;
        self.clean()?;
        let digest = self.resolve(digest);
        if let Some(bundle) = self.whole(digest, progress)? {
            let signatures = self.signed_since(&bundle, name);
            return self.sign_anew(bundle, signatures.as_deref());
        }
        let mut source = self.find(name, digest)?;
        source.no_extra()?;
        self.take(&mut source, digest, spare, progress)
    }

    /// Fetches the bundle of an artifact unless it is staged already, verifies every byte, and makes it durable, as
    /// [`Store::stage`] does. From then on it is found by the artifact's digest, too. Nothing large is fetched before
    /// `may_fetch` has said yes. Idempotent.
    ///
    /// # Errors
    /// [`BundleError`]; then nothing is staged that was not before.
    pub fn receive(
        &self,
        artifact: Digest,
        delivery: &mut dyn Delivery,
        may_fetch: MayFetch<'_>,
        spare: &[Digest],
        progress: Progress<'_>,
    ) -> Result<Bundle, BundleError> {
        fs::create_dir_all(&self.root).map_err(BundleError::io("make", &self.root))?;
        let _lock = self.lock()?;
        self.clean()?;
        let mut delivered = Delivered::open(artifact, delivery)?;
        let digest = delivered.digest();
        let (manifest, signatures) = delivered.signed();
        may_fetch(manifest, signatures).map_err(|why| BundleError::NotTrusted { digest, why })?;
        let bundle = match self.whole(digest, progress)? {
            Some(bundle) => self.sign_anew(bundle, signatures)?,
            None => self.take(&mut delivered, digest, spare, progress)?,
        };
        self.note(artifact, delivered.artifact_bytes())?;
        Ok(bundle)
    }

    /// The staged bundle, if it is whole. Nobody can use one that is damaged: it goes, whether or not there is a
    /// better one. One that could not be read is not damaged for that: too many open files, or too little memory, say
    /// nothing of it, and it may be the running kernel's.
    fn whole(&self, digest: Digest, progress: Progress<'_>) -> Result<Option<Bundle>, BundleError> {
        match self.staged(digest).and_then(|found| match found {
            Some(bundle) => bundle.verify(progress).map(|()| Some(bundle)),
            None => Ok(None),
        }) {
            Ok(Some(bundle)) => {
                self.touch(digest)?;
                Ok(Some(bundle))
            }
            Ok(None) => Ok(None),
            Err(error @ (BundleError::Cancelled | BundleError::Io { .. })) => Err(error),
            Err(_) => self.remove(&digest.hex()).map(|()| None),
        }
    }

    /// Makes room, and copies.
    fn take(
        &self,
        source: &mut dyn Source,
        digest: Digest,
        spare: &[Digest],
        progress: Progress<'_>,
    ) -> Result<Bundle, BundleError> {
        self.thin_out(digest, spare)?;
        self.room(source.manifest().size())?;
        let new = self.root.join(format!("{STAGING}{}", digest.hex()));
        fill_and_name(source, &new, &self.root.join(digest.hex()), progress)?;
        self.staged(digest)?.ok_or_else(|| BundleError::NotFound { root: self.root.clone(), wanted: digest })
    }

    /// The signatures of a staged bundle are those that came with it last: the manifest may have been signed since.
    fn sign_anew(&self, bundle: Bundle, signatures: Option<&[u8]>) -> Result<Bundle, BundleError> {
        let Some(signatures) = signatures.filter(|new| bundle.signature_bytes() != Some(new)) else {
            return Ok(bundle);
        };
        let place = bundle.path().join(SIGNATURES);
        // Beside the bundles, where a kill leaves nothing that does not belong into one.
        let new = self.root.join(format!("{STAGING}{SIGNATURES}"));
        let written = fs::write(&new, signatures)
            .and_then(|()| File::open(&new)?.sync_all())
            .and_then(|()| fs::rename(&new, &place))
            .and_then(|()| durable::sync(bundle.path()));
        written.map_err(BundleError::io("write", &place))?;
        Bundle::open(bundle.path())
    }

    /// All signatures of a staged bundle, when the one that was put there under this name, the same otherwise, has
    /// some that the staged one lacks: people sign theirs, and do not know of the copy.
    fn signed_since(&self, staged: &Bundle, name: &str) -> Option<Vec<u8>> {
        // What is broken there is no matter for what is staged.
        let named = if is_name(name) { self.open(name).ok()?? } else { return None };
        (named.digest() == staged.digest())
            .then(|| Signatures::joined(staged.signature_bytes(), named.signature_bytes()))?
    }

    /// The bundle that a digest stands for: that of an artifact which was fetched, else itself.
    fn resolve(&self, digest: Digest) -> Digest {
        let mut bytes = Vec::new();
        let read = File::open(self.root.join(ARTIFACTS).join(digest.hex()))
            .and_then(|file| file.take(LARGEST_ARTIFACT as u64 + 1).read_to_end(&mut bytes));
        // Its name is its digest, so that the file proves itself.
        if read.is_err() || Digest::of(&bytes) != digest {
            return digest;
        }
        Artifact::parse(&bytes).map_or(digest, |artifact| artifact.manifest.digest)
    }

    /// Remembers which bundle an artifact is, and forgets those whose bundles are gone.
    fn note(&self, artifact: Digest, bytes: &[u8]) -> Result<(), BundleError> {
        let folder = self.root.join(ARTIFACTS);
        let failed = || BundleError::io("write", &folder);
        fs::create_dir_all(&folder).map_err(failed())?;
        durable::replace(&folder.join(artifact.hex()), bytes).map_err(failed())?;
        let staged = self.list()?;
        for entry in fs::read_dir(&folder).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let known = entry.file_name().into_string().ok().and_then(|name| Digest::from_hex(&name).ok());
            if !known.is_some_and(|known| staged.contains(&self.resolve(known))) {
                remove_any(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes staged bundles beyond the bound, never one of `spare`, and what a kill has left behind. Answers
    /// what was removed.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn tidy(&self, spare: &[Digest]) -> Result<Vec<Digest>, BundleError> {
        if !self.root.exists() {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        self.clean()?;
        self.remove_beyond(self.limits.keep, spare)
    }

    fn thin_out(&self, next: Digest, spare: &[Digest]) -> Result<(), BundleError> {
        let spare: Vec<Digest> = spare.iter().copied().chain([next]).collect();
        self.remove_beyond(self.limits.keep.saturating_sub(1), &spare).map(|_| ())
    }

    fn remove_beyond(&self, keep: usize, spare: &[Digest]) -> Result<Vec<Digest>, BundleError> {
        let spare: Vec<Digest> = spare.iter().map(|digest| self.resolve(*digest)).collect();
        let all = self.list()?;
        let excess = all.len().saturating_sub(keep);
        let go: Vec<Digest> =
            all.into_iter().rev().filter(|digest| !spare.contains(digest)).take(excess).collect();
        for digest in &go {
            self.remove(&digest.hex())?;
        }
        Ok(go)
    }

    fn room(&self, needed: u64) -> Result<(), BundleError> {
        let stat = rustix::fs::statvfs(&self.root)
            .map_err(|errno| BundleError::io("look at", &self.root)(errno.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let reserve = self.limits.reserve;
        if free < needed.saturating_add(reserve) {
            return Err(BundleError::NoRoom { folder: self.root.clone(), free, needed, reserve });
        }
        Ok(())
    }

    /// Says that a staged bundle was used now.
    fn touch(&self, digest: Digest) -> Result<(), BundleError> {
        let path = self.root.join(digest.hex()).join(MANIFEST);
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: access, last_modification: now };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| BundleError::io("touch", &path)(errno.into()))
    }

    /// Takes a staged bundle away so that half of one never has its name.
    fn remove(&self, name: &str) -> Result<(), BundleError> {
        let (place, gone) = (self.root.join(name), self.root.join(format!("{REMOVING}{name}")));
        fs::rename(&place, &gone).map_err(BundleError::io("remove", &place))?;
        remove_any(&gone)
    }

    /// Takes away what a kill has left behind.
    fn clean(&self) -> Result<(), BundleError> {
        for name in
            self.names()?.iter().filter(|name| name.starts_with(STAGING) || name.starts_with(REMOVING))
        {
            remove_any(&self.root.join(name))?;
        }
        Ok(())
    }

    fn lock(&self) -> Result<Lock, BundleError> {
        let path = self.root.join(LOCK);
        let open = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = open.map_err(BundleError::io("open", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(BundleError::Busy { folder: self.root.clone() }),
            Err(errno) => Err(BundleError::io("lock", &path)(errno.into())),
        }
    }

    /// A bundle of the root; none when there is no such folder. A link is none.
    fn open(&self, name: &str) -> Result<Option<Bundle>, BundleError> {
        let path = self.root.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => Bundle::open(&path).map(Some),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(BundleError::io("read", &path)(error)),
        }
    }

    /// Names in the root, in order; none when there is no root.
    fn names(&self) -> Result<Vec<String>, BundleError> {
        let failed = || BundleError::io("list", &self.root);
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed())?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed())?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// A folder's name that people give to a bundle.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains(['/', '\0'])
        && Digest::from_hex(name).is_err()
}

fn remove_any(path: &Path) -> Result<(), BundleError> {
    let kind = fs::symlink_metadata(path).map_err(BundleError::io("remove", path))?;
    if kind.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .map_err(BundleError::io("remove", path))
}
