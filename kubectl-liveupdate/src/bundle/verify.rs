//! `bundle verify`: is it whole, is it the one, and who vouches for it.

use liveupdate_host::bundle::{Bundle, BundleError, Digest, Signers, Trust};
use serde::Serialize;

use super::text::Lines;
use crate::cli::{SimulateOutput, VerifyArgs};
use crate::error::Error;
use crate::output;

/// Carries out `bundle verify`.
///
/// # Errors
/// When anything is wrong with the bundle.
pub fn run(args: &VerifyArgs) -> Result<(), Error> {
    let wanted: Option<Digest> = args
        .digest
        .as_deref()
        .map(|text| text.parse().map_err(|error| Error::Usage(format!("--digest: {error}"))))
        .transpose()?;
    let signers = args
        .signers
        .as_deref()
        .map(|folder| Signers::read(folder).map_err(|source| Error::File { path: folder.to_owned(), source }))
        .transpose()?;
    let (said, fine) = verify(args, wanted, signers.as_ref())?;
    output::print(&said)?;
    fine
}

/// What is printed, and whether all is well.
///
/// # Errors
/// When the files are not the manifest's, or it is another bundle: then there is nothing to print.
pub fn verify(
    args: &VerifyArgs,
    wanted: Option<Digest>,
    signers: Option<&Signers>,
) -> Result<(String, Result<(), Error>), Error> {
    let failed = |error: BundleError| Error::Bundle(Box::new(error));
    let bundle = Bundle::open(&args.bundle).map_err(failed)?;
    let found = bundle.digest();
    if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
        let name = args.bundle.display().to_string();
        return Err(failed(BundleError::OtherDigest { name, found, wanted }));
    }
    bundle.verify(&mut |_, _| true).map_err(failed)?;
    let (signature, fine) = match signers {
        Some(signers) => judge(&bundle.trust(signers)),
        None if bundle.signature_bytes().is_none() => ("not signed".into(), Ok(())),
        None => ("not asked: give --signers".into(), Ok(())),
    };
    let said = match args.output {
        SimulateOutput::Table => {
            let mut lines = Lines::default();
            lines.line("Bundle:", &bundle.path().display().to_string());
            lines.line("Digest:", &found.to_string());
            lines.manifest(&bundle);
            lines.line("Files:", "all there, nothing else, and as the manifest says");
            lines.line("Signature:", &signature);
            lines.finish()
        }
        SimulateOutput::Json => {
            let trusted = signers.map(|_| fine.is_ok());
            output::json(&Report {
                digest: found,
                manifest: bundle.manifest(),
                signature: &signature,
                trusted,
            })?
        }
    };
    Ok((said, fine))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    digest: Digest,
    manifest: &'a liveupdate_host::bundle::Manifest,
    signature: &'a str,
    /// None: nobody asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted: Option<bool>,
}

fn judge(trust: &Trust) -> (String, Result<(), Error>) {
    let (text, why) = match trust {
        Trust::Signed { by } => return (format!("by {}", by.join(", ")), Ok(())),
        Trust::Unsigned => ("not signed".to_owned(), "it is not signed".to_owned()),
        Trust::OtherBytes { by } => {
            let text = format!("that of {} is of other bytes", by.join(", "));
            (text.clone(), format!("the signature is wrong: {text}"))
        }
        Trust::Stranger { keys } => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let text = format!("by nobody who is trusted, but by key {}", keys.join(", "));
            (text.clone(), format!("it is signed {text}"))
        }
        Trust::Malformed { why } => {
            (format!("cannot be read: {why}"), format!("its signatures cannot be read: {why}"))
        }
    };
    (text, Err(Error::Refused(format!("the bundle is not trusted: {why}"))))
}
