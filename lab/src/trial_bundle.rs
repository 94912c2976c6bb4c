//! Manifests of bundles whose parts are whatever bytes a test wants; `kubectl liveupdate bundle build` makes real ones.

use liveupdate_host::bundle::{Digest, File, Formats, Manifest, VERSION};

/// A part as a manifest has it.
pub fn file(bytes: &[u8]) -> File {
    File { size: bytes.len() as u64, digest: Digest::of(bytes) }
}

/// A manifest for this machine's architecture that says nothing beyond its image.
pub fn manifest(release: &str, command_line: &str, image: File) -> Manifest {
    Manifest {
        version: VERSION,
        release: release.to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        command_line: command_line.to_owned(),
        image,
        initrd: None,
        modules: None,
        shim: None,
        formats: Formats::default(),
        configuration: None,
        provenance: [].into(),
    }
}
