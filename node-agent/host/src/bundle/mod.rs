//! Bundles: a kernel to update to, with all that belongs to it, under one digest and one signature.
//!
//! # The format, version 1
//!
//! This is a contract: what one release writes, the next one reads. A bundle is a folder with these files and no
//! others; links, folders and devices are refused.
//!
//! | file | what |
//! |---|---|
//! | `manifest.json` | UTF-8 JSON, at most 64 KiB; unknown fields are refused ([`Manifest`]) |
//! | `manifest.sig` | optional: JSON, at most 16 KiB and 16 signatures ([`Signatures`]) |
//! | `image` | the kernel |
//! | `initrd` | optional: what it starts with |
//! | `modules.cpio` | optional: `lib/modules/<release>/…` as one cpio archive ("newc"), to be unpacked on the node |
//! | `shim.cpio` | optional: an uncompressed cpio archive that follows the initrd in memory, at a multiple of four; it holds `/liveupdate-init`, which the command line names (`rdinit=`) |
//!
//! ```json
//! {
//!   "version": 1,
//!   "release": "7.3.5-lu2",
//!   "architecture": "x86_64",
//!   "commandLine": "root=/dev/vda1 kho=on liveupdate=on",
//!   "image": { "size": 3900000, "digest": "sha256:…" },
//!   "initrd": { "size": 1200000, "digest": "sha256:…" },
//!   "formats": { "kho": "kho-v4", "luo": "luo-v5", "memfd": "memfd-v2" },
//!   "configuration": { "CONFIG_LIVEUPDATE": "y" },
//!   "provenance": { "banner": "Linux version …", "builder": "kubectl-liveupdate 0.1.0" }
//! }
//! ```
//! The bundle's digest is the SHA-256 of the exact bytes of `manifest.json`, as `sha256sum` prints it, written
//! `sha256:…`: it covers every file by its digest. A signature is Ed25519 (RFC 8032) over the same exact bytes:
//!
//! ```json
//! { "version": 1,
//!   "signatures": [ { "keyId": "<32 hex digits>", "algorithm": "ed25519", "signature": "<128 hex digits>" } ] }
//! ```
//! `keyId` is the first half of the SHA-256 of the 32 bytes of the public key. Key files are PEM: PKCS #8 for the
//! private, SubjectPublicKeyInfo for the public half, so that other tools can make and check them:
//!
//! ```text
//! jq -r '.signatures[0].signature' manifest.sig | xxd -r -p > raw
//! openssl pkeyutl -verify -pubin -inkey release.pub -rawin -in manifest.json -sigfile raw
//! ```
//! Trusted are the files `*.pub` of one folder on the node ([`Signers`]); the file's name is the signer's.
//!
//! # A bundle's way
//!
//! ```text
//!  build, sign ─► ROOT/<name>/ ─ find ─► copy, verify, sync ─► ROOT/<digest>/ ─► image(), initrd() ─► kexec
//!       │                                                   ▲        └─ after verification: boot entry
//!       └─ push ─► registry ─ who signed it? fetch, verify, sync
//! ```
//! In a registry a bundle is an [`Artifact`]; under the root it is the same as one that was copied there.
//! Nothing is believed before it is read: [`Bundle::image`] and [`Bundle::initrd`] check the digest of the very
//! bytes that they return, in memory that is sealed.

mod artifact;
pub mod boot;
mod build;
mod build_error;
mod contents;
pub mod cpio;
mod cpio_read;
mod delivery;
mod digest;
mod durable;
mod error;
mod folder;
mod foreign;
mod key;
mod manifest;
mod modules;
pub mod shim;
mod signature;
mod source;
mod store;
mod unpack;

pub use artifact::{ARTIFACT_KIND, Artifact, Blob, LARGEST_ARTIFACT, MANIFEST_KIND, NO_CONFIGURATION};
pub use build::{Built, Inputs, build};
pub use build_error::BuildError;
pub use contents::{Contents, DriverModule};
pub use delivery::{Delivered, Delivery, pull};
pub use digest::{Digest, NotADigest};
pub use error::BundleError;
pub use folder::{Bundle, Vouched};
pub use key::{KeyError, KeyId, LARGEST_KEY, PublicKey, SigningKey};
pub use manifest::{File, Formats, LARGEST_MANIFEST, MANIFEST, Manifest, ManifestError, Part, VERSION};
pub use signature::{
    LARGEST_SIGNATURES, MOST_SIGNATURES, MOST_SIGNERS, SIGNATURES, Signatures, Signer, Signers, Trust,
};
pub use source::Progress;
pub use store::{Limits, MayFetch, ROOT, Store};
pub use unpack::install_modules;
