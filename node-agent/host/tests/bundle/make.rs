//! Folders, and bundles in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use liveupdate_host::bundle::{
    Digest, File, Formats, MANIFEST, Manifest, Part, SIGNATURES, Signatures, Signer, Signers, SigningKey,
    VERSION,
};

/// A folder of its own, gone when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("liveupdate-bundle-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Names in it, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// Bytes that differ by seed.
pub(crate) fn bytes(seed: u8, length: usize) -> Vec<u8> {
    let pattern: Vec<u8> = (0..251).map(|byte| byte ^ seed).collect();
    let mut bytes = pattern.repeat(length.div_ceil(pattern.len()));
    bytes.truncate(length);
    bytes
}

pub(crate) fn file(bytes: &[u8]) -> File {
    File { size: bytes.len() as u64, digest: Digest::of(bytes) }
}

/// A bundle with all parts; `seed` changes its image.
pub(crate) fn parts(seed: u8) -> BTreeMap<Part, Vec<u8>> {
    [
        (Part::Image, bytes(seed, 3 << 20)),
        (Part::Initrd, bytes(1, 1001)),
        (Part::Modules, bytes(2, 5000)),
        (Part::Shim, bytes(3, 4096)),
    ]
    .into()
}

pub(crate) fn manifest(parts: &BTreeMap<Part, Vec<u8>>) -> Manifest {
    let part = |part| parts.get(&part).map(|bytes| file(bytes));
    Manifest {
        version: VERSION,
        release: "7.3.5-lu2".into(),
        architecture: "x86_64".into(),
        command_line: "root=/dev/vda kho=on liveupdate=on".into(),
        image: part(Part::Image).unwrap(),
        initrd: part(Part::Initrd),
        modules: part(Part::Modules),
        shim: part(Part::Shim),
        formats: Formats {
            kho: Some("kho-v4".into()),
            luo: Some("luo-v5".into()),
            memfd: Some("memfd-v2".into()),
        },
        configuration: Some([("CONFIG_LIVEUPDATE".into(), "y".into())].into()),
        provenance: [("builder".into(), "a test".into())].into(),
    }
}

/// Writes a bundle and answers its digest.
pub(crate) fn write(folder: &Path, seed: u8) -> Digest {
    write_parts(folder, &parts(seed))
}

/// As [`write`], of these parts.
pub(crate) fn write_parts(folder: &Path, parts: &BTreeMap<Part, Vec<u8>>) -> Digest {
    fs::create_dir_all(folder).unwrap();
    for (part, bytes) in parts {
        fs::write(folder.join(part.file()), bytes).unwrap();
    }
    let bytes = manifest(parts).to_bytes().unwrap();
    fs::write(folder.join(MANIFEST), &bytes).unwrap();
    Digest::of(&bytes)
}

pub(crate) fn sign(folder: &Path, key: &SigningKey) {
    let mut signatures = Signatures::default();
    signatures.sign(&fs::read(folder.join(MANIFEST)).unwrap(), key).unwrap();
    fs::write(folder.join(SIGNATURES), signatures.to_bytes().unwrap()).unwrap();
}

pub(crate) fn signers(key: &SigningKey) -> Signers {
    Signers { signers: vec![Signer { name: "release".into(), key: key.public() }], skipped: Vec::new() }
}

/// Goes on whatever happens.
pub(crate) fn on(_done: u64, _all: u64) -> bool {
    true
}
