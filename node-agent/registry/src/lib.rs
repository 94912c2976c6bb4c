//! A client of OCI registries: what of the distribution specification is needed to fetch and to push bundles.
//!
//! ```text
//!  Reference ── which repository
//!  Client ───── manifest(digest) ── blob(digest, size) ──► bytes, bounded, at a pace
//!               push: has, upload, put_manifest
//! ```
//! A registry is not trusted. Everything that it sends is bounded in size and time before it is kept, and what it points
//! at elsewhere is followed only where that cannot lead down from TLS. Credentials go to the registry that they are for
//! and to the token server that it names: on another host only if it said so over TLS. *No digest is checked here*:
//! whoever takes the bytes knows what they have to be.

mod auth;
mod body;
mod client;
mod dial;
mod error;
mod push;
mod reference;

pub use body::{Blob, Reader};
pub use client::{Client, LARGEST_MANIFEST, Limits, Options};
pub use error::Error;
pub use reference::{Named, NotAReference, Reference};
