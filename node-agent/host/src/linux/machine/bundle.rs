//! Bundles as this machine has them: found, staged, vouched for, looked into.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use liveupdate_node_core::gate::Gate;
use liveupdate_node_core::verdict::Signer;
use liveupdate_node_core::{GateResult, Target};

use super::images::Images;
use crate::HostError;
use crate::bundle::{
    self, Bundle, BundleError, Contents, Delivery, Digest, Limits, Part, PublicKey, Signers, Store, Trust,
    install_modules,
};
use crate::image::{ImageError, KernelImage};
use crate::linux::gates::{self, Manifest, Signed};
use crate::linux::root::Root;

/// A bundle's files, in memory that nobody can change any more: what is loaded is what was verified.
pub(super) struct Opened {
    pub(super) image: File,
    pub(super) initrd: Option<File>,
    pub(super) command_line: String,
}

/// What the gates ask of a bundle that is here.
pub(super) struct Looked {
    pub(super) image: Result<Arc<KernelImage>, ImageError>,
    /// Bytes of initrd and shim.
    pub(super) initrd: u64,
    /// Bytes of what is loaded.
    pub(super) bytes: u64,
    /// Bytes that staging it would still write.
    pub(super) to_fetch: u64,
    pub(super) command_line: String,
    /// What a trusted signer vouches for.
    pub(super) manifest: Option<Manifest>,
    /// What it has for devices, or why that cannot be read.
    pub(super) contents: Result<Arc<Contents>, String>,
}

/// A bundle, or why there is none; and who vouches for it.
pub(super) struct Sighted {
    pub(super) bundle: Result<Looked, BundleError>,
    pub(super) trusted: Gate,
}

/// How many bundles' contents are remembered.
const MANY: usize = 16;

/// The folder of bundles, and that of those who may vouch for them.
pub(super) struct Bundles {
    root: PathBuf,
    store: Store,
    signers: PathBuf,
    signers_name: String,
    images: Arc<Images>,
    /// By digest: archives are large, and gates are read often.
    contents: Mutex<HashMap<Digest, Arc<Contents>>>,
}

impl Bundles {
    pub(super) fn new(root: &Root, bundles: &str, signers: &str, images: Arc<Images>) -> Self {
        Self {
            root: root.folder().to_owned(),
            store: Store::at(root.path(bundles), Limits::default()),
            signers: root.path(signers),
            signers_name: signers.to_owned(),
            images,
            contents: Mutex::default(),
        }
    }

    /// Images of all bundles.
    pub(super) fn images(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.store.root()).into_iter().flatten().flatten();
        let images = folders.map(|folder| folder.path().join(Part::Image.file()));
        // A bundle holds no links.
        images.filter(|image| image.symlink_metadata().is_ok_and(|image| image.is_file())).collect()
    }

    /// Stages a bundle, unpacks its modules and reads all that is loaded; `running` is the digest of the one that must
    /// not go for it, where that is known, and `release` the running kernel's.
    pub(super) fn open(
        &self,
        target: &Target,
        running: Option<&str>,
        release: &str,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Opened, HostError> {
        let digest = digest(target)?;
        let spare: Vec<Digest> = running.into_iter().filter_map(|text| text.parse().ok()).collect();
        let bundle = self.store.stage(&target.bundle, digest, &spare, progress)?;
        let manifest = bundle.manifest();
        if manifest.release != target.release {
            return Err(HostError::ReleaseMismatch {
                name: target.bundle.clone(),
                wanted: target.release.clone(),
                found: manifest.release.clone(),
            });
        }
        let size = manifest.size();
        let staged = self.store.list()?;
        install_modules(&bundle, &self.root, release, &staged, &mut |_, _| progress(size, size))?;
        let command_line = manifest.command_line.clone();
        Ok(Opened { image: bundle.image()?, initrd: bundle.initrd()?, command_line })
    }

    /// See [`crate::Host::signed_for`].
    pub(super) fn signed_for(&self, target: &Target, platform: &[Signer]) -> Result<Gate, HostError> {
        let mut trusted = Signers::default();
        for Signer { name, key } in platform {
            match PublicKey::from_pem(key.as_bytes()) {
                Ok(key) => trusted.signers.push(bundle::Signer { name: name.clone(), key }),
                Err(why) => trusted.skipped.push(format!("{name}: {why}")),
            }
        }
        let found = self.store.find(&target.bundle, digest(target)?);
        Ok(gates::signed_for_platform(found.as_ref().map(|bundle| bundle.trust(&trusted)), &trusted))
    }

    /// Whether a bundle is here, be it whole or not.
    pub(super) fn has(&self, target: &Target) -> Result<bool, HostError> {
        match self.store.find(&target.bundle, digest(target)?) {
            Ok(_) => Ok(true),
            Err(error @ BundleError::Io { .. }) => Err(error.into()),
            Err(_) => Ok(false),
        }
    }

    /// Takes a bundle in from a registry, if somebody trusted signed it; `spare` are those that must not go for it.
    pub(super) fn receive(
        &self,
        target: &Target,
        spare: &[Option<String>],
        delivery: &mut dyn Delivery,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), HostError> {
        let spare: Vec<Digest> = spare.iter().flatten().filter_map(|text| text.parse().ok()).collect();
        let signers = Signers::read(&self.signers);
        let may_fetch = |manifest: &[u8], signatures: Option<&[u8]>| {
            let trust = Trust::judge(manifest, signatures, signers.as_ref().unwrap_or(&Signers::default()));
            let digest = Digest::of(manifest).to_string();
            let gate = gates::target_trusted(Signed {
                digest: &digest,
                trust: Ok(&trust),
                files: None,
                signers: signers.as_ref(),
                folder: &self.signers_name,
            });
            if gate.result == GateResult::Pass { Ok(()) } else { Err(gate.evidence) }
        };
        self.store.receive(digest(target)?, delivery, &may_fetch, &spare, progress)?;
        Ok(())
    }

    /// Finds a bundle; its files are checked as they are read.
    pub(super) fn find(&self, target: &Target) -> Result<Bundle, HostError> {
        Ok(self.store.find(&target.bundle, digest(target)?)?)
    }

    /// Looks at a bundle without believing it.
    pub(super) fn look(&self, target: &Target) -> Result<Sighted, HostError> {
        let signers = Signers::read(&self.signers);
        let found = self.store.find(&target.bundle, digest(target)?);
        let trusted = self.trusted(target, &found, &signers);
        // As long as the manifest says, and in its folder: what is not cannot be loaded.
        let bundle = match found.and_then(|bundle| bundle.part(Part::Image).map(|image| (bundle, image))) {
            Ok((bundle, image)) => Ok(self.looked(target, &bundle, image, signers.as_ref().ok())?),
            Err(error) => Err(error),
        };
        Ok(Sighted { bundle, trusted })
    }

    fn looked(
        &self,
        target: &Target,
        bundle: &Bundle,
        image: File,
        signers: Option<&Signers>,
    ) -> Result<Looked, HostError> {
        let manifest = bundle.manifest();
        let size = |part| manifest.part(part).map_or(0, |file| file.size);
        let initrd = size(Part::Initrd) + size(Part::Shim);
        Ok(Looked {
            image: self.images.look(&bundle.path().join(Part::Image.file()), image)?,
            initrd,
            bytes: size(Part::Image) + initrd,
            to_fetch: self.store.to_fetch(&target.bundle, bundle.digest())?,
            command_line: manifest.command_line.clone(),
            manifest: signers.and_then(|signers| bundle.vouched(signers)).map(|vouched| vouched.manifest),
            contents: self.contents(bundle),
        })
    }

    /// Looks into its archives, unless that was done. What is not as the manifest has it is not remembered.
    fn contents(&self, bundle: &Bundle) -> Result<Arc<Contents>, String> {
        let digest = bundle.digest();
        let known = || self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(contents) = known().get(&digest) {
            return Ok(Arc::clone(contents));
        }
        let contents = Arc::new(Contents::read(bundle)?);
        let mut known = known();
        if known.len() >= MANY {
            known.clear();
        }
        known.insert(digest, Arc::clone(&contents));
        Ok(contents)
    }

    fn trusted(
        &self,
        target: &Target,
        found: &Result<Bundle, BundleError>,
        signers: &io::Result<Signers>,
    ) -> Gate {
        let nobody = Signers::default();
        let trust = found.as_ref().map(|bundle| bundle.trust(signers.as_ref().unwrap_or(&nobody)));
        // What is signed is the bundle's manifest, also where the target names an artifact.
        let digest = found.as_ref().map_or(target.digest.clone(), |bundle| bundle.digest().to_string());
        gates::target_trusted(Signed {
            digest: &digest,
            trust: trust.as_ref().map_err(|error| *error),
            // They are read, each byte, when it is staged.
            files: None,
            signers: signers.as_ref(),
            folder: &self.signers_name,
        })
    }
}

fn digest(target: &Target) -> Result<Digest, HostError> {
    target.digest.parse().map_err(|error: crate::bundle::NotADigest| HostError::Malformed {
        what: "the target's digest".into(),
        why: error.to_string(),
    })
}
