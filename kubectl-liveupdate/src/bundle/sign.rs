//! `bundle sign`: vouching for a bundle.

use std::fs;

use liveupdate_host::bundle::{Bundle, BundleError, SIGNATURES, Signatures, SigningKey};

use super::keygen;
use super::text::Lines;
use crate::cli::SignArgs;
use crate::error::Error;

/// Carries out `bundle sign`; answers what is printed.
///
/// # Errors
/// When the bundle is not whole, the key cannot be used, or the signature cannot be written.
pub fn run(args: &SignArgs) -> Result<String, Error> {
    let failed = |error: BundleError| Error::Bundle(Box::new(error));
    let key = keygen::private(&args.key)?;
    let bundle = Bundle::open(&args.bundle).map_err(failed)?;
    // Nobody should vouch for what is damaged already.
    bundle.verify(&mut |_, _| true).map_err(failed)?;
    let by = sign(&bundle, &key)?;
    let mut lines = Lines::default();
    lines.line("Bundle:", &bundle.path().display().to_string());
    lines.line("Digest:", &bundle.digest().to_string());
    lines.manifest(&bundle);
    lines.line("Signed by:", &by);
    Ok(lines.finish())
}

/// Writes a signature beside those that are there; answers who signed.
pub(super) fn sign(bundle: &Bundle, key: &SigningKey) -> Result<String, Error> {
    let path = bundle.path().join(SIGNATURES);
    let unusable = |why: String| Error::Refused(format!("{} cannot be used: {why}", path.display()));
    let mut signatures = match bundle.signature_bytes() {
        Some(bytes) => Signatures::parse(bytes).map_err(unusable)?,
        None => Signatures::default(),
    };
    signatures.sign(bundle.manifest_bytes(), key).map_err(unusable)?;
    let bytes = signatures.to_bytes().map_err(unusable)?;
    // Whole or not at all: half a file would make the bundle unreadable.
    let new = path.with_file_name(format!(".{SIGNATURES}.new"));
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, &path))
        .map_err(|source| Error::Write { path: path.clone(), source })?;
    Ok(format!("key {}", key.public().id()))
}
