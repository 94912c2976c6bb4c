//! A bundle that comes from a registry. Nothing that is delivered is believed before it was checked, and nothing large
//! is taken before somebody trusted vouches for it.
//!
//! ```text
//!  artifact's manifest ── its digest? ─► manifest.json, manifest.sig ── digests? fit? ─► trusted? ─► the other files
//!    ≤ 64 KiB                              ≤ 64 KiB, ≤ 16 KiB                                          as the manifest says
//! ```

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use super::artifact::{Artifact, Blob};
use super::manifest::{self, MANIFEST, Manifest, Part};
use super::signature::SIGNATURES;
use super::source::{Copied, Progress, Source, fill_and_name, pump};
use super::{Bundle, BundleError, Digest};

/// Where an artifact is fetched from.
pub trait Delivery {
    /// The artifact's manifest.
    ///
    /// # Errors
    /// Why there is none, in a sentence.
    fn manifest(&mut self) -> Result<Vec<u8>, String>;
    /// The bytes of a blob as they come.
    ///
    /// # Errors
    /// Why there are none, in a sentence.
    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, String>;
}

/// An artifact whose small files are here.
pub struct Delivered<'a> {
    delivery: &'a mut dyn Delivery,
    artifact_bytes: Vec<u8>,
    artifact: Artifact,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    signatures: Option<Vec<u8>>,
}

impl<'a> Delivered<'a> {
    /// Takes what is small, and checks it.
    ///
    /// # Errors
    /// It cannot be fetched, is not the one with this digest, or makes no sense.
    pub fn open(wanted: Digest, delivery: &'a mut dyn Delivery) -> Result<Self, BundleError> {
        let artifact_bytes = delivery.manifest().map_err(|why| BundleError::NotFetched { why })?;
        let no_bundle = |why: String| BundleError::NoBundle { digest: wanted, why };
        let found = Digest::of(&artifact_bytes);
        if found != wanted {
            return Err(no_bundle(format!("what the registry sends has digest {found}")));
        }
        let artifact = Artifact::parse(&artifact_bytes).map_err(no_bundle)?;
        let manifest_bytes = small(delivery, &artifact.manifest, MANIFEST)?;
        let manifest = Manifest::parse(&manifest_bytes)
            .map_err(|source| BundleError::Manifest { path: MANIFEST.into(), source })?;
        artifact.fits(&manifest).map_err(no_bundle)?;
        let signatures = match &artifact.signatures {
            Some(blob) => Some(small(delivery, blob, SIGNATURES)?),
            None => None,
        };
        Ok(Self { delivery, artifact_bytes, artifact, manifest, manifest_bytes, signatures })
    }

    /// The bundle's digest, by which it is known from here on.
    pub fn digest(&self) -> Digest {
        self.artifact.manifest.digest
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The exact bytes of the bundle's manifest and of its signatures.
    pub fn signed(&self) -> (&[u8], Option<&[u8]>) {
        (&self.manifest_bytes, self.signatures.as_deref())
    }

    /// The exact bytes of the artifact's manifest.
    pub(super) fn artifact_bytes(&self) -> &[u8] {
        &self.artifact_bytes
    }

    /// Reads all files and keeps none: whether they are what they should be.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn read_through(&mut self, progress: Progress<'_>) -> Result<(), BundleError> {
        let mut done = 0;
        for part in Part::ALL {
            self.copy(part, &mut std::io::sink(), &mut done, progress)?;
        }
        Ok(())
    }
}

impl Source for Delivered<'_> {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    fn signature_bytes(&self) -> Option<&[u8]> {
        self.signatures.as_deref()
    }

    fn copy(
        &mut self,
        part: Part,
        to: &mut dyn Write,
        done: &mut u64,
        progress: Progress<'_>,
    ) -> Result<(), BundleError> {
        let Some(file) = self.manifest.part(part) else { return Ok(()) };
        if !progress(*done, self.manifest.size()) {
            return Err(BundleError::Cancelled);
        }
        let blob = Blob { digest: file.digest, size: file.size };
        let copied = Copied { file, path: Path::new(part.file()), all: self.manifest.size() };
        let mut from = match self.delivery.blob(&blob) {
            Ok(from) => from,
            Err(_) if !progress(*done, self.manifest.size()) => return Err(BundleError::Cancelled),
            Err(why) => return Err(BundleError::NotFetched { why }),
        };
        pump(&mut from, to, copied, done, progress)
    }
}

/// A small file, whole and checked.
fn small(delivery: &mut dyn Delivery, blob: &Blob, name: &str) -> Result<Vec<u8>, BundleError> {
    let mut bytes = Vec::new();
    let file = manifest::File { size: blob.size, digest: blob.digest };
    let copied = Copied { file, path: Path::new(name), all: blob.size };
    let mut from = delivery.blob(blob).map_err(|why| BundleError::NotFetched { why })?;
    pump(&mut from, &mut bytes, copied, &mut 0, &mut |_, _| true)?;
    Ok(bytes)
}

/// Fetches an artifact into a folder that is not there yet: all of it, or nothing.
///
/// # Errors
/// [`BundleError`].
pub fn pull(
    wanted: Digest,
    delivery: &mut dyn Delivery,
    folder: &Path,
    progress: Progress<'_>,
) -> Result<Bundle, BundleError> {
    if fs::symlink_metadata(folder).is_ok() {
        return Err(BundleError::Exists { path: folder.to_owned() });
    }
    let mut delivered = Delivered::open(wanted, delivery)?;
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    fill_and_name(&mut delivered, &folder.with_file_name(name), folder, progress)?;
    Bundle::open(folder)
}
