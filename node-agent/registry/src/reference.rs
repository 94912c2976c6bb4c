//! Names of repositories and of what lies in them.

use std::fmt;
use std::str::FromStr;

/// Longest `REGISTRY/REPOSITORY`.
const LONGEST: usize = 255;
const LONGEST_TAG: usize = 128;

/// `REGISTRY/REPOSITORY`. The registry is always named: there is no default one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
}

/// A text names no repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} names nothing in a registry: want REGISTRY/REPOSITORY, with @sha256:… or :TAG behind it where one is \
     asked for, in lower case and without a scheme, such as registry.example/kernels/7.3.5-lu2"
)]
pub struct NotAReference {
    found: String,
}

/// One manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// `REGISTRY/REPOSITORY@sha256:…`
    Digest(Reference, String),
    /// `REGISTRY/REPOSITORY:TAG`
    Tag(Reference, String),
    /// Neither.
    Repository(Reference),
}

impl Reference {
    /// `host` or `host:port`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path under the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }
}

impl FromStr for Reference {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, NotAReference> {
        let not = || NotAReference { found: text.chars().take(LONGEST).collect() };
        let (registry, repository) = text.split_once('/').ok_or_else(not)?;
        if text.len() > LONGEST || !is_registry(registry) || !repository.split('/').all(is_part) {
            return Err(not());
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned() })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)
    }
}

impl FromStr for Named {
    type Err = NotAReference;

    fn from_str(text: &str) -> Result<Self, NotAReference> {
        let not = || NotAReference { found: text.chars().take(LONGEST).collect() };
        if let Some((repository, digest)) = text.split_once('@') {
            let repository = repository.parse().map_err(|_| not())?;
            return is_digest(digest).then(|| Self::Digest(repository, digest.to_owned())).ok_or_else(not);
        }
        // A port comes before the first slash, a tag after the last.
        match text.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some((repository, tag)) if repository.contains('/') => {
                let repository = repository.parse().map_err(|_| not())?;
                is_tag(tag).then(|| Self::Tag(repository, tag.to_owned())).ok_or_else(not)
            }
            _ => text.parse().map(Self::Repository).map_err(|_| not()),
        }
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    !host.is_empty()
        && host.bytes().all(fine)
        && !host.starts_with(['.', '-'])
        && !host.ends_with(['.', '-'])
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Letters and digits, with separators between them: nothing that climbs.
fn is_part(text: &str) -> bool {
    let letter = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(letter)
        && bytes.last().is_some_and(letter)
        && bytes.iter().all(|byte| letter(byte) || b"._-".contains(byte))
        && !text.contains("..")
}

fn is_tag(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_TAG).contains(&text.len()) && text.bytes().all(fine) && !text.starts_with(['.', '-'])
}

fn is_digest(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or_default();
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_named_with_their_registry() {
        for text in ["registry.example/kernels/7.3.5-lu2", "127.0.0.1:5000/k", "localhost:5000/a/b_c/d.e"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        let long = format!("r/{}", "a".repeat(LONGEST));
        for text in [
            "",
            "kernels",
            "/kernels",
            "registry.example/",
            "registry.example/..",
            "registry.example/a/../b",
            "registry.example//a",
            "registry.example/a/",
            "https://registry.example/a",
            "r/A",
            "R/a",
            "r:0/a",
            "r:x/a",
            "r/a b",
            "r/a%2e",
            "user@r/a",
            "r/-a",
            "r/a-",
            &long,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_and_a_tag_are_told_apart() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let of = |text: &str| text.parse::<Named>();
        let plain: Reference = "r:5000/a".parse().unwrap();
        assert_eq!(of(&format!("r:5000/a@{digest}")), Ok(Named::Digest(plain.clone(), digest.clone())));
        assert_eq!(of("r:5000/a:v1.0"), Ok(Named::Tag(plain.clone(), "v1.0".into())));
        assert_eq!(of("r:5000/a"), Ok(Named::Repository(plain)));
        for text in [
            format!("r/a:v1@{digest}"),
            format!("r/a@{}", digest.to_uppercase()),
            "r/a:".into(),
            "r/a:../b".into(),
        ] {
            assert!(of(&text).is_err(), "{text}");
        }
    }
}
