//! `bundle keygen`: keys for signing bundles.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use liveupdate_host::bundle::{KeyError, LARGEST_KEY, SigningKey};

use super::text::Lines;
use crate::cli::KeygenArgs;
use crate::error::Error;

/// Carries out `bundle keygen`; answers what is printed.
///
/// # Errors
/// When a file is there already, or cannot be written.
pub fn run(args: &KeygenArgs) -> Result<String, Error> {
    let name = args.name.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.is_empty() || name.starts_with('.') {
        return Err(Error::Usage(format!("{}: name the keys, such as release", args.name.display())));
    }
    let file = |ending: &str| args.name.with_file_name(format!("{name}.{ending}"));
    let (private, public) = (file("key"), file("pub"));
    let key = SigningKey::generate().map_err(|source| Error::Key { path: private.clone(), source })?;
    create(&private, 0o600, &key.to_pem())?;
    if let Err(error) = create(&public, 0o644, &key.public().to_pem()) {
        // A private key alone looks as if there were a pair.
        let _ = fs::remove_file(&private);
        return Err(error);
    }
    let mut lines = Lines::default();
    lines.line("Key id:", &key.public().id().to_string());
    lines.line("Private key:", &format!("{}; whoever has it can sign", private.display()));
    lines.line("Public key:", &format!("{}; copy it to the nodes' signers", public.display()));
    Ok(lines.finish())
}

/// Reads a private key.
pub(super) fn private(path: &Path) -> Result<SigningKey, Error> {
    let failed = |source| Error::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    fs::File::open(path)
        .map_err(failed)?
        .take(LARGEST_KEY as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    SigningKey::from_pem(&bytes).map_err(|source: KeyError| Error::Key { path: path.to_owned(), source })
}

/// Never over another file: an old key may be the only one of its kind.
fn create(path: &PathBuf, mode: u32, text: &str) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let mut file = fs::File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| Error::Write { path: path.clone(), source })
}
