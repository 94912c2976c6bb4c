//! A bundle as an OCI artifact: the manifest that a registry keeps for it.
//!
//! This is a contract, as the folder is ([the module](super)). One layer for each file of the folder, as it is, each
//! known by its kind alone:
//!
//! | kind (`mediaType`) | file |
//! |---|---|
//! | `application/vnd.liveupdate.bundle.manifest.v1+json` | `manifest.json`; has to be there |
//! | `application/vnd.liveupdate.bundle.signatures.v1+json` | `manifest.sig` |
//! | `application/vnd.liveupdate.bundle.image.v1` | `image`; has to be there |
//! | `application/vnd.liveupdate.bundle.initrd.v1` | `initrd` |
//! | `application/vnd.liveupdate.bundle.modules.v1` | `modules.cpio` |
//! | `application/vnd.liveupdate.bundle.shim.v1` | `shim.cpio` |
//!
//! Titles are there for other tools, which unpack by them; here none names a place, and one that leads out of the folder
//! that such a tool unpacks into is refused for its sake. No layer is packed: there is nothing to unpack, and so no bomb.
//! Digest and size of each layer have to be those that the signed `manifest.json` has for the file: the registry's word
//! counts for nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::manifest::{LARGEST_MANIFEST, MANIFEST, Manifest, Part};
use super::signature::{LARGEST_SIGNATURES, SIGNATURES};
use super::{Bundle, Digest};

/// What kind of artifact it is.
pub const ARTIFACT_KIND: &str = "application/vnd.liveupdate.bundle.v1";
/// What registries call the manifest of one.
pub const MANIFEST_KIND: &str = "application/vnd.oci.image.manifest.v1+json";
/// Largest manifest of an artifact in bytes; more is refused before it is parsed.
pub const LARGEST_ARTIFACT: usize = 64 << 10;
/// The configuration that an artifact without one has by the specification.
pub const NO_CONFIGURATION: &[u8] = b"{}";

const NO_CONFIGURATION_KIND: &str = "application/vnd.oci.empty.v1+json";
const LAYER: &str = "application/vnd.liveupdate.bundle.";
const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";
/// A bundle has six files at most; one more shows that there are more.
const MOST_LAYERS: usize = 7;

/// Bytes in a registry: how many, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Of all of them.
    pub digest: Digest,
    /// How many.
    pub size: u64,
}

/// What an artifact consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// `manifest.json`, whose digest is the bundle's.
    pub manifest: Blob,
    /// `manifest.sig`.
    pub signatures: Option<Blob>,
    /// The other files.
    pub parts: BTreeMap<Part, Blob>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    Manifest,
    Signatures,
    Part(Part),
}

impl Layer {
    const ALL: [Self; 6] = [
        Self::Manifest,
        Self::Signatures,
        Self::Part(Part::Image),
        Self::Part(Part::Initrd),
        Self::Part(Part::Modules),
        Self::Part(Part::Shim),
    ];

    fn kind(self) -> String {
        match self {
            Self::Manifest => format!("{LAYER}manifest.v1+json"),
            Self::Signatures => format!("{LAYER}signatures.v1+json"),
            Self::Part(part) => format!("{LAYER}{}.v1", part.as_str()),
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Manifest => MANIFEST,
            Self::Signatures => SIGNATURES,
            Self::Part(part) => part.file(),
        }
    }

    const fn largest(self) -> u64 {
        match self {
            Self::Manifest => LARGEST_MANIFEST as u64,
            Self::Signatures => LARGEST_SIGNATURES as u64,
            Self::Part(part) => part.largest(),
        }
    }

    fn of(kind: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|layer| layer.kind() == kind);
        found.ok_or_else(|| {
            let base = Self::ALL.into_iter().map(Self::kind).find(|known| kind.starts_with(known.as_str()));
            match base {
                Some(base) => format!("a layer is of kind {kind:?}: layers are not packed, want {base}"),
                None => format!("a layer is of kind {:?}, which no bundle has", short(kind)),
            }
        })
    }
}

/// Whether a tool that unpacks by this name could be led out of its folder.
fn climbs_out(title: &str) -> bool {
    title.starts_with('/') || title.split(['/', '\\']).any(|part| part == "..")
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

impl Artifact {
    /// What a bundle is as an artifact.
    pub fn of(bundle: &Bundle) -> Self {
        let blob = |bytes: &[u8]| Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
        let parts = bundle.manifest().parts();
        Self {
            manifest: blob(bundle.manifest_bytes()),
            signatures: bundle.signature_bytes().map(blob),
            parts: parts.map(|(part, file)| (part, Blob { digest: file.digest, size: file.size })).collect(),
        }
    }

    /// The bytes that a registry keeps: the same bundle gives the same bytes, and so the same digest.
    ///
    /// # Errors
    /// They cannot be made, which is a fault of this program.
    pub fn to_bytes(&self, release: &str) -> Result<Vec<u8>, String> {
        let layers = Layer::ALL.into_iter().filter_map(|layer| {
            let Blob { digest, size } = self.layer(layer)?;
            let annotations = [(TITLE.to_owned(), layer.file().to_owned())].into();
            Some(Descriptor { media_type: layer.kind(), digest, size, annotations })
        });
        let wire = Wire {
            schema_version: 2,
            media_type: MANIFEST_KIND.into(),
            artifact_type: ARTIFACT_KIND.into(),
            config: Some(Descriptor {
                media_type: NO_CONFIGURATION_KIND.into(),
                digest: Digest::of(NO_CONFIGURATION),
                size: NO_CONFIGURATION.len() as u64,
                annotations: BTreeMap::new(),
            }),
            layers: layers.collect(),
            annotations: [(VERSION.to_owned(), release.to_owned())].into(),
        };
        serde_json::to_vec_pretty(&wire).map_err(|error| error.to_string())
    }

    /// Reads a registry's manifest. Its size is checked before anything is parsed, and that of each layer before
    /// anything is fetched.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > LARGEST_ARTIFACT {
            return Err(format!("it has more than {LARGEST_ARTIFACT} bytes"));
        }
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if wire.schema_version != 2 || wire.media_type != MANIFEST_KIND {
            let found = short(&wire.media_type);
            return Err(format!(
                "it is of kind {found:?}, want {MANIFEST_KIND}: name one artifact, and no index"
            ));
        }
        if wire.artifact_type != ARTIFACT_KIND {
            let found = short(&wire.artifact_type);
            return Err(format!(
                "it is an artifact of kind {found:?}, want {ARTIFACT_KIND}: it is no bundle"
            ));
        }
        if wire.layers.len() >= MOST_LAYERS {
            return Err("it has more layers than a bundle has files".to_owned());
        }
        let mut found: Vec<(Layer, Blob)> = Vec::new();
        for Descriptor { media_type, digest, size, annotations } in wire.layers {
            let layer = Layer::of(&media_type)?;
            if let Some(title) = annotations.get(TITLE).filter(|title| climbs_out(title)) {
                return Err(format!("{} has the title {:?}, which climbs out", layer.file(), short(title)));
            }
            if size == 0 || size > layer.largest() {
                return Err(format!("{}: {size} bytes; want 1 to {}", layer.file(), layer.largest()));
            }
            if found.iter().any(|(other, _)| *other == layer) {
                return Err(format!("it has {} twice", layer.file()));
            }
            found.push((layer, Blob { digest, size }));
        }
        let of = |wanted| found.iter().find(|(layer, _)| *layer == wanted).map(|(_, blob)| *blob);
        let parts = Part::ALL.into_iter().filter_map(|part| Some((part, of(Layer::Part(part))?)));
        Ok(Self {
            manifest: of(Layer::Manifest).ok_or_else(|| format!("it has no {MANIFEST}"))?,
            signatures: of(Layer::Signatures),
            parts: parts.collect(),
        })
    }

    /// That the layers are the files that a bundle's own manifest names, all of them and no others.
    ///
    /// # Errors
    /// Which one is not.
    pub fn fits(&self, manifest: &Manifest) -> Result<(), String> {
        for part in Part::ALL {
            let wanted = manifest.part(part).map(|file| Blob { digest: file.digest, size: file.size });
            let name = part.file();
            match (self.parts.get(&part).copied(), wanted) {
                (found, wanted) if found == wanted => {}
                (None, _) => return Err(format!("{name} is missing: {MANIFEST} names it")),
                (Some(_), None) => return Err(format!("{name} is there and not in {MANIFEST}")),
                (Some(found), Some(wanted)) => {
                    return Err(format!(
                        "{name} is another one: {} with {} bytes, {MANIFEST} says {} with {}",
                        found.digest, found.size, wanted.digest, wanted.size
                    ));
                }
            }
        }
        Ok(())
    }

    fn layer(&self, layer: Layer) -> Option<Blob> {
        match layer {
            Layer::Manifest => Some(self.manifest),
            Layer::Signatures => self.signatures,
            Layer::Part(part) => self.parts.get(&part).copied(),
        }
    }
}

#[cfg(test)]
#[path = "artifact_tests.rs"]
mod tests;
