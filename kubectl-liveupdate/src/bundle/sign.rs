//! `bundle sign`: vouching for a bundle.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

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
    replace(&path, &bytes).map_err(|source| Error::Write { path: path.clone(), source })?;
    Ok(format!("key {}", key.public().id()))
}

/// Whole and on the disk, or not at all: half a file would make the bundle unreadable, and one that is left beside it
/// would make it a bundle that no node takes.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_file_name(format!(".{SIGNATURES}.new"));
    let written = File::create(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_that_cannot_be_written_leaves_nothing_in_the_bundle() {
        let folder = std::env::temp_dir().join(format!("liveupdate-sign-{}", std::process::id()));
        let path = folder.join(SIGNATURES);
        // What cannot be replaced by a file.
        fs::create_dir_all(&path).unwrap();
        assert!(replace(&path, b"signatures").is_err());
        let names =
            || -> Vec<_> { fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
        assert_eq!(names(), [SIGNATURES]);
        fs::remove_dir(&path).unwrap();
        replace(&path, b"signatures").unwrap();
        assert_eq!(
            (names(), fs::read(&path).unwrap().as_slice()),
            (vec![SIGNATURES.into()], &b"signatures"[..])
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}
