use std::io;

use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, named};
use crate::bundle::{BundleError, Signers, Trust};

/// What is known of the target's bundle and of those who may vouch for it.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The target's digest.
    pub digest: &'a str,
    /// What the signatures of the bundle with this digest say, judged with `signers`; an error when there is no
    /// such bundle here, or it cannot be read.
    pub trust: Result<&'a Trust, &'a BundleError>,
    /// Result of reading all files of the bundle; none when that was not done yet.
    pub files: Option<Result<(), &'a BundleError>>,
    /// Who is trusted.
    pub signers: Result<&'a Signers, &'a io::Error>,
    /// The folder with their keys.
    pub folder: &'a str,
}

/// Somebody who is trusted vouches for the bundle: for its manifest, and by its digests for image, initrd,
/// modules, shim and command line.
pub fn target_trusted(signed: Signed<'_>) -> Gate {
    let mut found = Findings::of(GateId::TargetTrusted, "");
    match (signed.signers, signed.trust) {
        // Before the bundle: without signers nothing is known of any.
        (Err(error), _) => found.unknown(
            format!("{}: {error}", signed.folder),
            format!("put the public keys of those who may sign bundles into {} (NAME.pub)", signed.folder),
        ),
        (Ok(signers), _) if signers.signers.is_empty() => found.bad(
            format!("{}: no key of a signer{}", signed.folder, skipped(signers)),
            format!("put the public keys of those who may sign bundles into {} (NAME.pub)", signed.folder),
        ),
        (Ok(_), Err(error @ (BundleError::Io { .. } | BundleError::Busy { .. }))) => {
            found.unknown(text(error), "see to it that the bundle root can be read");
        }
        (Ok(_), Err(error)) => {
            found.bad(text(error), "copy the bundle under the bundle root again, or correct target.bundle");
        }
        (Ok(signers), Ok(trust)) => signature(&mut found, signed, signers, trust),
    }
    if let Some(Err(error)) = signed.files {
        match error {
            BundleError::Io { .. } => found.unknown(text(error), "see to it that the bundle can be read"),
            _ => found.bad(text(error), "copy the bundle under the bundle root again, whole"),
        }
    }
    found.gate()
}

fn signature(found: &mut Findings, signed: Signed<'_>, signers: &Signers, trust: &Trust) {
    let digest = signed.digest;
    match trust {
        Trust::Signed { by } => {
            let by: Vec<String> = by.iter().map(|name| with_key(name, signers)).collect();
            found.good(format!("manifest {digest}: signed by {}", named(&by)));
        }
        Trust::Unsigned => {
            found.bad(format!("manifest {digest}: not signed"), "sign it: kubectl liveupdate bundle sign");
        }
        Trust::OtherBytes { by } => found.bad(
            format!("manifest {digest}: the signature of {} is of other bytes", named(by)),
            "copy the bundle again, or sign this one: kubectl liveupdate bundle sign",
        ),
        Trust::Stranger { keys } => {
            let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let known: Vec<&str> = signers.signers.iter().map(|signer| signer.name.as_str()).collect();
            found.bad(
                format!(
                    "manifest {digest}: signed by unknown key {}; {} knows {}{}",
                    named(&keys),
                    signed.folder,
                    named(&known),
                    skipped(signers)
                ),
                "sign it by a key that the nodes trust, or add that key to the nodes' signers",
            );
        }
        Trust::Malformed { why } => found.bad(
            format!("manifest {digest}: its signatures cannot be read: {why}"),
            "sign it again: kubectl liveupdate bundle sign",
        ),
    }
}

/// `TargetTrusted` as the policy alone has it: one of its signers vouches for the bundle's manifest.
pub fn signed_for_platform(trust: Result<Trust, &BundleError>, platform: &Signers) -> Gate {
    let mut found = Findings::of(GateId::TargetTrusted, "");
    let names: Vec<String> = platform.signers.iter().map(|signer| with_key(&signer.name, platform)).collect();
    let names = if names.is_empty() { "of whom no key can be read".to_owned() } else { named(&names) };
    match trust {
        Ok(Trust::Signed { by }) => {
            let by: Vec<String> = by.iter().map(|name| with_key(name, platform)).collect();
            found.good(format!("policy: signed by {}", named(&by)));
        }
        Ok(_) => found.bad(
            format!("policy: signed by none of its signers, {}{}", names, skipped(platform)),
            "sign it by one of the policy's signers, or add the key that signed it to the policy's signers",
        ),
        // The node's own part says so already.
        Err(_) => found.unknown("policy: there is no bundle to judge", ""),
    }
    found.gate()
}

/// A signer with its key, which tells two of one name apart.
fn with_key(name: &str, signers: &Signers) -> String {
    match signers.signers.iter().find(|signer| signer.name == name) {
        Some(signer) => format!("{name} (key {})", signer.key.id()),
        None => name.to_owned(),
    }
}

fn skipped(signers: &Signers) -> String {
    match signers.skipped.as_slice() {
        [] => String::new(),
        some => format!(" (passed over: {})", named(some)),
    }
}

fn text(error: &BundleError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
