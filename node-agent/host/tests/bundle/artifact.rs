//! Bundles that come from elsewhere: what is taken in, and what is not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};

use liveupdate_host::bundle::{
    Artifact, Blob, Bundle, BundleError, Delivery, Digest, Limits, MANIFEST, Part, SIGNATURES, Signers,
    SigningKey, Store, Trust, pull,
};

use crate::make::{Folder, on, sign, signers, write};

const LIMITS: Limits = Limits { keep: 2, reserve: 0 };

/// What a registry holds and how it lies.
#[derive(Default)]
struct Shelf {
    manifest: Vec<u8>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// Digests that were asked for, in order.
    asked: Vec<String>,
    /// Breaks off after so many bytes of a blob.
    breaks_after: Option<usize>,
}

impl Shelf {
    fn of(folder: &std::path::Path) -> (Self, Digest) {
        let bundle = Bundle::open(folder).unwrap();
        let mut shelf =
            Self { manifest: Artifact::of(&bundle).to_bytes("7.3.5-lu2").unwrap(), ..Self::default() };
        for entry in fs::read_dir(folder).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            shelf.blobs.insert(Digest::of(&bytes).to_string(), bytes);
        }
        let digest = Digest::of(&shelf.manifest);
        (shelf, digest)
    }

    fn blob(&mut self, bytes: &[u8]) -> &mut Vec<u8> {
        self.blobs.get_mut(&Digest::of(bytes).to_string()).unwrap()
    }
}

struct Breaking<'a>(&'a [u8], Option<usize>);

impl Read for Breaking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1 == Some(0) {
            return Err(io::Error::other("the line is dead"));
        }
        let most = self.1.unwrap_or(usize::MAX).min(buffer.len());
        let read = self.0.read(&mut buffer[..most])?;
        self.1 = self.1.map(|left| left - read);
        Ok(read)
    }
}

impl Delivery for Shelf {
    fn manifest(&mut self) -> Result<Vec<u8>, String> {
        Ok(self.manifest.clone())
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, String> {
        let name = blob.digest.to_string();
        self.asked.push(name.clone());
        let bytes = self.blobs.get(&name).ok_or_else(|| format!("{name}: 404 Not Found"))?;
        Ok(Box::new(Breaking(bytes, self.breaks_after)))
    }
}

fn store(root: &Folder) -> Store {
    Store::at(root.path(), LIMITS)
}

fn anybody(_: &[u8], _: Option<&[u8]>) -> Result<(), String> {
    Ok(())
}

fn signed_by(signers: &Signers) -> impl Fn(&[u8], Option<&[u8]>) -> Result<(), String> {
    |manifest: &[u8], signatures: Option<&[u8]>| match Trust::judge(manifest, signatures, signers) {
        Trust::Signed { .. } => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn written(from: &Folder) -> (Digest, SigningKey) {
    let key = SigningKey::generate().unwrap();
    let digest = write(&from.at("7.3.5-lu2"), 0);
    sign(&from.at("7.3.5-lu2"), &key);
    (digest, key)
}

#[test]
fn an_artifact_becomes_the_bundle_that_was_pushed_and_is_found_by_both_digests() {
    let (from, root) = (Folder::new(), Folder::new());
    let (bundle, key) = written(&from);
    let (mut shelf, artifact) = Shelf::of(&from.at("7.3.5-lu2"));
    assert_ne!(artifact, bundle);
    let (store, signers) = (store(&root), signers(&key));
    let trusted = signed_by(&signers);
    let received = store.receive(artifact, &mut shelf, &trusted, &[], &mut on).unwrap();
    assert_eq!(received.digest(), bundle);
    received.verify(&mut on).unwrap();
    assert_eq!(shelf.asked.len(), 6);
    for digest in [artifact, bundle] {
        assert_eq!(store.find("lu2", digest).unwrap().digest(), bundle);
        assert_eq!(store.stage("lu2", digest, &[], &mut on).unwrap().digest(), bundle);
    }
    // Again, nothing large is fetched: what is here was verified.
    shelf.asked.clear();
    store.receive(artifact, &mut shelf, &trusted, &[], &mut on).unwrap();
    assert_eq!(shelf.asked.len(), 2);
    assert_eq!(root.names(), [".artifacts", ".lock", &bundle.hex()]);
}

#[test]
fn nothing_large_is_fetched_of_what_nobody_trusted_signed() {
    let (from, root) = (Folder::new(), Folder::new());
    let (_, key) = written(&from);
    let (mut shelf, artifact) = Shelf::of(&from.at("7.3.5-lu2"));
    let stranger = signers(&SigningKey::generate().unwrap());
    let error = store(&root).receive(artifact, &mut shelf, &signed_by(&stranger), &[], &mut on).unwrap_err();
    assert!(matches!(&error, BundleError::NotTrusted { why, .. } if why.contains("Stranger")), "{error}");
    assert_eq!(shelf.asked.len(), 2, "manifest.json and manifest.sig");
    assert_eq!(root.names(), [".lock"]);
    // Its twin.
    store(&root).receive(artifact, &mut shelf, &signed_by(&signers(&key)), &[], &mut on).unwrap();
}

/// One byte in each thing that is fetched, and each is refused by its name; put right, it is taken.
#[test]
fn a_changed_byte_in_any_part_is_found_and_leaves_nothing() {
    let (from, root) = (Folder::new(), Folder::new());
    written(&from);
    let folder = from.at("7.3.5-lu2");
    let (mut shelf, artifact) = Shelf::of(&folder);
    let parts = Part::ALL.iter().map(|part| part.file()).chain([MANIFEST, SIGNATURES]);
    let store = store(&root);
    for name in parts {
        let bytes = fs::read(folder.join(name)).unwrap();
        let middle = bytes.len() / 2;
        shelf.blob(&bytes)[middle] ^= 1;
        let error = store.receive(artifact, &mut shelf, &anybody, &[], &mut on).unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, BundleError::Changed { .. }), "{name}: {told}");
        assert!(told.starts_with(&format!("{name} was changed: its digest is")), "{told}");
        assert_eq!(root.names(), [".lock"], "{name}");
        shelf.blob(&bytes)[middle] ^= 1;
    }
    let middle = shelf.manifest.len() / 2;
    shelf.manifest[middle] ^= 1;
    let error = store.receive(artifact, &mut shelf, &anybody, &[], &mut on).unwrap_err();
    assert!(matches!(&error, BundleError::NoBundle { why, .. } if why.contains("has digest")), "{error}");
    shelf.manifest[middle] ^= 1;
    store.receive(artifact, &mut shelf, &anybody, &[], &mut on).unwrap();
}

#[test]
fn what_is_too_long_cut_off_or_gone_leaves_nothing() {
    let (from, root) = (Folder::new(), Folder::new());
    written(&from);
    let folder = from.at("7.3.5-lu2");
    let (mut shelf, artifact) = Shelf::of(&folder);
    let store = store(&root);
    let image = fs::read(folder.join("image")).unwrap();
    let refused = |shelf: &mut Shelf, what: &str| {
        let error = store.receive(artifact, shelf, &anybody, &[], &mut on).unwrap_err();
        assert_eq!(root.names(), [".lock"], "{error}");
        let told = format!(
            "{error}: {}",
            std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
        );
        assert!(told.contains(what), "{told}");
    };
    shelf.blob(&image).push(0);
    refused(&mut shelf, "image is too long: 3145729 bytes, the manifest says 3145728");
    shelf.blob(&image).truncate(1000);
    refused(&mut shelf, "image is truncated: 1000 bytes");
    *shelf.blob(&image) = image.clone();
    let gone = shelf.blobs.remove(&Digest::of(&image).to_string()).unwrap();
    refused(&mut shelf, "404 Not Found");
    shelf.blobs.insert(Digest::of(&image).to_string(), gone);
    shelf.breaks_after = Some(2 << 20);
    refused(&mut shelf, "cannot read image: the line is dead");
    shelf.breaks_after = None;
    let error =
        store.receive(artifact, &mut shelf, &anybody, &[], &mut |done, _| done < 1 << 20).unwrap_err();
    assert!(matches!(error, BundleError::Cancelled), "{error}");
    assert_eq!(root.names(), [".lock"]);
    store.receive(artifact, &mut shelf, &anybody, &[], &mut on).unwrap();
}

/// The registry's manifest may say what it likes: what counts is the signed one.
#[test]
fn a_manifest_that_swaps_files_is_refused() {
    let (from, root) = (Folder::new(), Folder::new());
    written(&from);
    let folder = from.at("7.3.5-lu2");
    let (mut shelf, _) = Shelf::of(&folder);
    let mut swapped = Artifact::of(&Bundle::open(&folder).unwrap());
    let initrd = swapped.parts[&Part::Initrd];
    swapped.parts.insert(Part::Shim, initrd);
    shelf.manifest = swapped.to_bytes("7.3.5-lu2").unwrap();
    let artifact = Digest::of(&shelf.manifest);
    let error = store(&root).receive(artifact, &mut shelf, &anybody, &[], &mut on).unwrap_err();
    assert!(error.to_string().contains("shim.cpio is another one"), "{error}");
    assert_eq!(shelf.asked.len(), 1, "{:?}", shelf.asked);
}

#[test]
fn a_signature_that_comes_later_is_taken_over() {
    let (from, root) = (Folder::new(), Folder::new());
    let digest = write(&from.at("b"), 0);
    let (mut shelf, artifact) = Shelf::of(&from.at("b"));
    let store = store(&root);
    assert!(store.receive(artifact, &mut shelf, &anybody, &[], &mut on).unwrap().signature_bytes().is_none());
    let key = SigningKey::generate().unwrap();
    sign(&from.at("b"), &key);
    let (mut shelf, artifact) = Shelf::of(&from.at("b"));
    let signers = signers(&key);
    store.receive(artifact, &mut shelf, &signed_by(&signers), &[], &mut on).unwrap();
    assert_eq!(shelf.asked.len(), 2);
    let staged = store.staged(digest).unwrap().unwrap();
    assert!(matches!(staged.trust(&signers), Trust::Signed { .. }));
    staged.verify(&mut on).unwrap();
}

#[test]
fn artifacts_are_forgotten_with_their_bundles_and_a_forged_note_counts_for_nothing() {
    let (from, root) = (Folder::new(), Folder::new());
    let store = store(&root);
    let mut artifacts = Vec::new();
    for seed in 0..3 {
        let name = format!("b{seed}");
        let digest = write(&from.at(&name), seed);
        let (mut shelf, artifact) = Shelf::of(&from.at(&name));
        // The first one runs: it must not go.
        let spare: Vec<Digest> = artifacts.first().map(|(artifact, _)| *artifact).into_iter().collect();
        store.receive(artifact, &mut shelf, &anybody, &spare, &mut on).unwrap();
        artifacts.push((artifact, digest));
    }
    let here = |(artifact, _): &(Digest, Digest)| store.find("x", *artifact).is_ok();
    assert_eq!(artifacts.iter().map(here).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(fs::read_dir(root.at(".artifacts")).unwrap().count(), 2);
    let (gone, _) = artifacts[1];
    let (last, _) = artifacts[2];
    let note = |digest: Digest| root.at(".artifacts").join(digest.hex());
    fs::copy(note(last), note(gone)).unwrap();
    assert!(store.find("x", gone).is_err(), "its name is not its digest");
}

#[test]
fn a_bundle_is_pulled_into_a_folder_whole_or_not_at_all() {
    let (from, to) = (Folder::new(), Folder::new());
    let (digest, _) = written(&from);
    let (mut shelf, artifact) = Shelf::of(&from.at("7.3.5-lu2"));
    let error = pull(artifact, &mut shelf, &to.at("b"), &mut |done, _| done < 1 << 20).unwrap_err();
    assert!(matches!(error, BundleError::Cancelled), "{error}");
    assert!(to.names().is_empty());
    let bundle = pull(artifact, &mut shelf, &to.at("b"), &mut on).unwrap();
    assert_eq!(bundle.digest(), digest);
    bundle.verify(&mut on).unwrap();
    let error = pull(artifact, &mut shelf, &to.at("b"), &mut on).unwrap_err();
    assert!(matches!(error, BundleError::Exists { .. }), "{error}");
}

#[test]
fn a_folder_that_was_there_before_a_pull_stays_as_it_is() {
    let (from, to) = (Folder::new(), Folder::new());
    written(&from);
    let (mut shelf, artifact) = Shelf::of(&from.at("7.3.5-lu2"));
    fs::create_dir(to.at("b.new")).unwrap();
    fs::write(to.at("b.new/notes"), "somebody's").unwrap();
    let error = pull(artifact, &mut shelf, &to.at("b"), &mut on).unwrap_err();
    assert!(matches!(&error, BundleError::Exists { path } if *path == to.at("b.new")), "{error}");
    assert_eq!(fs::read_to_string(to.at("b.new/notes")).unwrap(), "somebody's");
    assert_eq!(to.names(), ["b.new"]);
}
