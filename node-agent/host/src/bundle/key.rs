//! Keys for signing bundles: Ed25519, in the files that other tools write and read too (PKCS #8 and
//! SubjectPublicKeyInfo in PEM, RFC 8410).

use std::fmt;
use std::str::FromStr;

use pem::Pem;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Digest;
use super::digest::{hex, unhex};

const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// `PrivateKeyInfo` of version 0 with Ed25519, up to the seed: the form that every tool reads.
const PRIVATE_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// `SubjectPublicKeyInfo` with Ed25519, up to the key.
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// Largest key file in bytes.
pub const LARGEST_KEY: usize = 4 << 10;

/// Why a file is no key for signing bundles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not the text of a key.
    #[error("no key in PEM, from its BEGIN line to its END line")]
    NotPem,
    /// Longer than any key.
    #[error("more than {LARGEST_KEY} bytes: no key")]
    TooLarge,
    /// Something else than what is wanted here.
    #[error("it holds a {found}, wanted is a {wanted}")]
    OtherKind {
        /// Its label.
        found: String,
        /// The label that it should have.
        wanted: &'static str,
    },
    /// Of another kind of key, or damaged.
    #[error("no Ed25519 key: make one with `kubectl liveupdate bundle keygen`")]
    NotEd25519,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// The name of a key in signatures: the first half of the SHA-256 of its 32 bytes, as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 16]);

/// A key that signatures are checked by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A key that signs. Its bytes are shown nowhere but by [`SigningKey::to_pem`].
pub struct SigningKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// [`KeyError::NoRandom`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| KeyError::NoRandom)?;
        Self::from_seed(seed)
    }

    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let der = open(text, PRIVATE)?;
        // Whatever else another tool has put behind the seed is checked by nobody, so it is not taken.
        let seed = der.strip_prefix(&PRIVATE_PREFIX).and_then(|rest| <[u8; 32]>::try_from(rest).ok());
        Self::from_seed(seed.ok_or(KeyError::NotEd25519)?)
    }

    /// The file's text. Whoever reads it can sign.
    pub fn to_pem(&self) -> String {
        pem::encode(&Pem::new(PRIVATE, [PRIVATE_PREFIX.as_slice(), &self.seed].concat()))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }

    fn from_seed(seed: [u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::NotEd25519)?;
        Ok(Self { seed, pair })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl PublicKey {
    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let der = open(text, PUBLIC)?;
        let key = der.strip_prefix(&PUBLIC_PREFIX).and_then(|rest| rest.try_into().ok());
        key.map(Self).ok_or(KeyError::NotEd25519)
    }

    /// The file's text.
    pub fn to_pem(&self) -> String {
        pem::encode(&Pem::new(PUBLIC, [PUBLIC_PREFIX.as_slice(), &self.0].concat()))
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        let mut id = [0; 16];
        id.copy_from_slice(&Digest::of(&self.0).bytes()[..16]);
        KeyId(id)
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

fn open(text: &[u8], wanted: &'static str) -> Result<Vec<u8>, KeyError> {
    if text.len() > LARGEST_KEY {
        return Err(KeyError::TooLarge);
    }
    let pem = pem::parse(text).map_err(|_| KeyError::NotPem)?;
    if pem.tag() != wanted {
        let found = pem.tag().chars().take(80).collect();
        return Err(KeyError::OtherKind { found, wanted });
    }
    Ok(pem.into_contents())
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        unhex(text).map(Self).ok_or_else(|| "want 32 lower-case hex digits".into())
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test of RFC 8032, in the files that `openssl genpkey` and `openssl pkey -pubout` make of it.
    const PRIVATE_FILE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    const PUBLIC_FILE: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn keys_and_signatures_are_those_of_the_standard() {
        let key = SigningKey::from_pem(PRIVATE_FILE.as_bytes()).unwrap();
        assert_eq!(PublicKey::from_pem(PUBLIC_FILE.as_bytes()), Ok(key.public()));
        assert_eq!(key.to_pem().replace("\r\n", "\n"), PRIVATE_FILE);
        assert_eq!(key.public().to_pem().replace("\r\n", "\n"), PUBLIC_FILE);
        assert_eq!(
            hex(&key.sign(b"")),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
             d25bf5f0595bbe24655141438e7a100b"
        );
        assert!(key.public().verifies(b"", &key.sign(b"")));
        assert!(!key.public().verifies(b"a", &key.sign(b"")));
    }

    #[test]
    fn files_read_back_and_others_are_told_apart() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(key.to_pem().as_bytes()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::from_pem(key.public().to_pem().as_bytes()).unwrap(), key.public());
        assert_eq!(key.public().id().to_string().parse(), Ok(key.public().id()));
        assert!(!format!("{key:?}").contains(&hex(&key.seed)));

        let swapped = PublicKey::from_pem(key.to_pem().as_bytes());
        assert_eq!(swapped, Err(KeyError::OtherKind { found: PRIVATE.into(), wanted: PUBLIC }));
        assert_eq!(PublicKey::from_pem(b"hello"), Err(KeyError::NotPem));
        assert_eq!(PublicKey::from_pem(&[b'a'; LARGEST_KEY + 1]), Err(KeyError::TooLarge));
        let other = pem::encode(&Pem::new(PUBLIC, vec![0x30; 44]));
        assert_eq!(PublicKey::from_pem(other.as_bytes()), Err(KeyError::NotEd25519));
    }
}
