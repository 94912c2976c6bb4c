//! Who vouches for a bundle: `manifest.sig`, and the folder of those who are trusted.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::key::{KeyId, LARGEST_KEY, PublicKey, SigningKey};

/// The signatures' file name.
pub const SIGNATURES: &str = "manifest.sig";
/// Largest file of signatures in bytes; more is refused before it is parsed.
pub const LARGEST_SIGNATURES: usize = 16 << 10;
/// Most signatures in it.
pub const MOST_SIGNATURES: usize = 16;
/// Most keys in a folder of trusted signers.
pub const MOST_SIGNERS: usize = 256;

const VERSION: u32 = 1;
const ALGORITHM: &str = "ed25519";
const PUBLIC_SUFFIX: &str = ".pub";

/// The file of signatures. Each is over the exact bytes of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signatures {
    version: u32,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signature {
    key_id: KeyId,
    algorithm: String,
    /// 128 hex digits.
    signature: String,
}

impl Default for Signatures {
    fn default() -> Self {
        Self { version: VERSION, signatures: Vec::new() }
    }
}

impl Signatures {
    /// Reads the file. Its size is checked before anything is parsed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > LARGEST_SIGNATURES {
            return Err(format!("it has more than {LARGEST_SIGNATURES} bytes"));
        }
        let file: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if file.version != VERSION {
            return Err(format!("it is of version {}, this build reads {VERSION}", file.version));
        }
        if file.signatures.len() > MOST_SIGNATURES {
            return Err(format!("it has more than {MOST_SIGNATURES} signatures"));
        }
        Ok(file)
    }

    /// Signs a manifest's bytes; an earlier signature by the same key is replaced.
    ///
    /// # Errors
    /// There are [`MOST_SIGNATURES`] by others already.
    pub fn sign(&mut self, manifest: &[u8], key: &SigningKey) -> Result<(), String> {
        let key_id = key.public().id();
        self.signatures.retain(|signature| signature.key_id != key_id);
        if self.signatures.len() >= MOST_SIGNATURES {
            return Err(format!("it has {MOST_SIGNATURES} signatures already"));
        }
        let signature = super::digest::hex(&key.sign(manifest));
        self.signatures.push(Signature { key_id, algorithm: ALGORITHM.into(), signature });
        self.signatures.sort_by_key(|signature| signature.key_id);
        Ok(())
    }

    /// The file with all signatures of two; none when the first one has all of the other's. Two by one key stay both:
    /// which one is right only the key tells. Where not all of them are allowed, the other's alone count.
    pub(super) fn joined(own: Option<&[u8]>, other: Option<&[u8]>) -> Option<Vec<u8>> {
        let bytes = other?;
        let other = Self::parse(bytes).ok()?;
        let Some(mut all) = own.and_then(|own| Self::parse(own).ok()) else { return Some(bytes.to_owned()) };
        let before = all.signatures.len();
        for signature in other.signatures {
            if !all.signatures.contains(&signature) {
                all.signatures.push(signature);
            }
        }
        if all.signatures.len() == before {
            return None;
        }
        all.signatures.sort_by_key(|signature| signature.key_id);
        let joined = all.to_bytes().ok().filter(|bytes| Self::parse(bytes).is_ok());
        Some(joined.unwrap_or_else(|| bytes.to_owned()))
    }

    /// The bytes to write.
    ///
    /// # Errors
    /// They cannot be made, which is a fault of this program.
    pub fn to_bytes(&self) -> Result<Vec<u8>, String> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| error.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Somebody who is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The key file's name without `.pub`.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
}

/// Those who are trusted: the files `*.pub` of a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signers {
    /// In the order of their names.
    pub signers: Vec<Signer>,
    /// Files that are no keys, each with the reason: they are passed over.
    pub skipped: Vec<String>,
}

impl Signers {
    /// Reads a folder. Links are followed: it is the administrator's, and volumes are made of links.
    ///
    /// # Errors
    /// The folder cannot be read, or has more than [`MOST_SIGNERS`] keys.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.retain(|name| name.ends_with(PUBLIC_SUFFIX) && !name.starts_with('.'));
        names.sort_unstable();
        if names.len() > MOST_SIGNERS {
            return Err(io::Error::other(format!("more than {MOST_SIGNERS} keys")));
        }
        let mut found = Self::default();
        for file in names {
            match read_key(&folder.join(&file)) {
                Ok(key) => {
                    let name = file.strip_suffix(PUBLIC_SUFFIX).unwrap_or(&file).to_owned();
                    found.signers.push(Signer { name, key });
                }
                Err(why) => found.skipped.push(format!("{file}: {why}")),
            }
        }
        Ok(found)
    }

    fn by_id(&self, id: KeyId) -> Option<&Signer> {
        self.signers.iter().find(|signer| signer.key.id() == id)
    }
}

/// Reads the file of a public key.
fn read_key(path: &Path) -> Result<PublicKey, String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(LARGEST_KEY as u64 + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    PublicKey::from_pem(&bytes).map_err(|error| error.to_string())
}

/// What the signatures say of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// At least one trusted signer vouches for exactly these bytes.
    Signed {
        /// Names of all who do.
        by: Vec<String>,
    },
    /// There is no signature at all.
    Unsigned,
    /// A trusted signer's signature is of other bytes, and no other trusted one is right.
    OtherBytes {
        /// Their names.
        by: Vec<String>,
    },
    /// Signed, by nobody who is trusted.
    Stranger {
        /// Their keys.
        keys: Vec<KeyId>,
    },
    /// The file of signatures makes no sense.
    Malformed {
        /// What is wrong.
        why: String,
    },
}

impl Trust {
    /// Judges a manifest's bytes by its signatures. `file` is what [`SIGNATURES`] holds; none when there is no
    /// such file. Pure.
    pub fn judge(manifest: &[u8], file: Option<&[u8]>, signers: &Signers) -> Self {
        let Some(file) = file else { return Self::Unsigned };
        let signatures = match Signatures::parse(file) {
            Ok(file) => file.signatures,
            Err(why) => return Self::Malformed { why },
        };
        if signatures.is_empty() {
            return Self::Unsigned;
        }
        let (mut right, mut wrong, mut strangers) = (Vec::new(), Vec::new(), Vec::new());
        for Signature { key_id, algorithm, signature } in signatures {
            let Some(signer) = signers.by_id(key_id) else {
                strangers.push(key_id);
                continue;
            };
            // Another algorithm under a known key's name is no signature of that key.
            let bytes: Option<[u8; 64]> = super::digest::unhex(&signature).filter(|_| algorithm == ALGORITHM);
            let holds = bytes.is_some_and(|bytes| signer.key.verifies(manifest, &bytes));
            (if holds { &mut right } else { &mut wrong }).push(signer.name.clone());
        }
        match (right.is_empty(), wrong.is_empty()) {
            (false, _) => Self::Signed { by: right },
            (true, false) => Self::OtherBytes { by: wrong },
            (true, true) => Self::Stranger { keys: strangers },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signers(keys: &[(&str, &SigningKey)]) -> Signers {
        let signer = |(name, key): &(&str, &SigningKey)| Signer { name: (*name).into(), key: key.public() };
        Signers { signers: keys.iter().map(signer).collect(), skipped: Vec::new() }
    }

    fn file(manifest: &[u8], keys: &[&SigningKey]) -> Vec<u8> {
        let mut signatures = Signatures::default();
        for key in keys {
            signatures.sign(manifest, key).unwrap();
        }
        signatures.to_bytes().unwrap()
    }

    #[test]
    fn signatures_of_two_files_are_joined_and_none_that_was_there_goes() {
        let (one, two) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let both = signers(&[("one", &one), ("two", &two)]);
        let (first, second) = (file(b"m", &[&one]), file(b"m", &[&two]));
        let joined = Signatures::joined(Some(&first), Some(&second)).unwrap();
        let Trust::Signed { by } = Trust::judge(b"m", Some(&joined), &both) else { panic!("nobody") };
        assert!(by.len() == 2 && by.contains(&"one".into()) && by.contains(&"two".into()), "{by:?}");
        assert_eq!(Signatures::joined(Some(&joined), Some(&first)), None);
        assert_eq!(Signatures::joined(Some(&first), None), None);
        assert_eq!(Signatures::joined(Some(&first), Some(b"no signatures")), None);
        assert_eq!(Signatures::joined(None, Some(&first)), Some(first.clone()));
        assert_eq!(Signatures::joined(Some(b"no signatures"), Some(&first)), Some(first.clone()));
        // A wrong one of the same key takes nothing away.
        let wrong = file(b"other", &[&one]);
        let joined = Signatures::joined(Some(&first), Some(&wrong)).unwrap();
        assert_eq!(Trust::judge(b"m", Some(&joined), &both), Trust::Signed { by: vec!["one".into()] });
        let keys: Vec<SigningKey> = (0..MOST_SIGNATURES).map(|_| SigningKey::generate().unwrap()).collect();
        let full = file(b"m", &keys.iter().collect::<Vec<_>>());
        assert_eq!(Signatures::joined(Some(&full), Some(&first)), Some(first));
    }

    #[test]
    fn only_a_trusted_signature_of_these_very_bytes_counts() {
        let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let trusted = signers(&[("release", &ours)]);
        let judge = |manifest: &[u8], file: Option<&[u8]>| Trust::judge(manifest, file, &trusted);
        assert_eq!(judge(b"m", None), Trust::Unsigned);
        assert_eq!(judge(b"m", Some(&file(b"m", &[]))), Trust::Unsigned);
        assert_eq!(judge(b"m", Some(&file(b"m", &[&ours]))), Trust::Signed { by: vec!["release".into()] });
        assert_eq!(
            judge(b"n", Some(&file(b"m", &[&ours]))),
            Trust::OtherBytes { by: vec!["release".into()] }
        );
        let stranger = Trust::Stranger { keys: vec![theirs.public().id()] };
        assert_eq!(judge(b"m", Some(&file(b"m", &[&theirs]))), stranger);
        assert_eq!(
            judge(b"m", Some(&file(b"m", &[&theirs, &ours]))),
            Trust::Signed { by: vec!["release".into()] }
        );
        assert!(matches!(judge(b"m", Some(b"{}")), Trust::Malformed { .. }));
        let large = vec![b' '; LARGEST_SIGNATURES + 1];
        assert!(matches!(judge(b"m", Some(&large)), Trust::Malformed { .. }));
    }

    /// The name of a trusted key over another key's signature, another algorithm, half a signature.
    #[test]
    fn a_claimed_key_proves_nothing() {
        let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let trusted = signers(&[("release", &ours)]);
        let wrong = Trust::OtherBytes { by: vec!["release".into()] };
        let theirs_as_ours = String::from_utf8(file(b"m", &[&theirs]))
            .unwrap()
            .replace(&theirs.public().id().to_string(), &ours.public().id().to_string());
        assert_eq!(Trust::judge(b"m", Some(theirs_as_ours.as_bytes()), &trusted), wrong);
        let good = String::from_utf8(file(b"m", &[&ours])).unwrap();
        let other = good.replace(ALGORITHM, "none");
        assert_eq!(Trust::judge(b"m", Some(other.as_bytes()), &trusted), wrong);
        let end = good.rfind("\"\n").unwrap();
        let half = format!("{}{}", &good[..end - 2], &good[end..]);
        assert_eq!(Trust::judge(b"m", Some(half.as_bytes()), &trusted), wrong);
    }

    #[test]
    fn signing_again_replaces_and_is_bounded() {
        let key = SigningKey::generate().unwrap();
        let mut signatures = Signatures::default();
        signatures.sign(b"m", &key).unwrap();
        let once = signatures.clone();
        signatures.sign(b"m", &key).unwrap();
        assert_eq!(signatures, once);
        for _ in 1..MOST_SIGNATURES {
            signatures.sign(b"m", &SigningKey::generate().unwrap()).unwrap();
        }
        assert!(signatures.sign(b"m", &SigningKey::generate().unwrap()).is_err());
        let bytes = signatures.to_bytes().unwrap();
        assert!(bytes.len() <= LARGEST_SIGNATURES);
        assert_eq!(Signatures::parse(&bytes), Ok(signatures));
    }

    #[test]
    fn a_folder_of_signers_is_read_and_what_is_no_key_is_named() {
        let folder = std::env::temp_dir().join(format!("liveupdate-signers-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let key = SigningKey::generate().unwrap();
        fs::write(folder.join("release.pub"), key.public().to_pem()).unwrap();
        fs::write(folder.join("private.pub"), key.to_pem()).unwrap();
        fs::write(folder.join("notes.txt"), "hello").unwrap();
        let found = Signers::read(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.signers, [Signer { name: "release".into(), key: key.public() }]);
        assert_eq!(found.skipped.len(), 1);
        assert!(found.skipped[0].starts_with("private.pub: it holds a PRIVATE KEY"), "{:?}", found.skipped);
        assert!(Signers::read(&folder).is_err());
    }
}
