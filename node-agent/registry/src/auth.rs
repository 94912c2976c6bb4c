//! Credentials: a file as `kubectl create secret docker-registry` makes it, and what a registry asks for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::Error;

/// Largest file of credentials.
const LARGEST_FILE: u64 = 256 << 10;
/// Longest challenge.
const LONGEST_CHALLENGE: usize = 4 << 10;

#[derive(Default, Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

/// Reads the value of a basic `Authorization` for a registry; none: the file has nothing for it.
pub(crate) fn basic(file: &Path, registry: &str) -> Result<Option<String>, Error> {
    let failed = |why: String| Error::File { path: file.to_owned(), why };
    let mut text = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut text));
    opened.map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(failed(format!("it has more than {LARGEST_FILE} bytes")));
    }
    // Without the text itself: what is wrong may be beside a password.
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| failed(format!("it is no docker config.json: line {}", error.line())))?;
    let found = config.auths.into_iter().find(|(name, _)| host_of(name) == registry);
    let Some((_, entry)) = found else { return Ok(None) };
    let encoded = match (entry.auth, entry.username, entry.password) {
        (Some(auth), _, _) if !auth.is_empty() => {
            let plain = STANDARD.decode(&auth).ok().filter(|plain| plain.contains(&b':'));
            plain.ok_or_else(|| failed(format!("auth of {registry} is not the base64 of USER:PASSWORD")))?;
            auth
        }
        (_, Some(user), Some(password)) => STANDARD.encode(format!("{user}:{password}")),
        _ => return Ok(None),
    };
    Ok(Some(format!("Basic {encoded}")))
}

/// Keys are hosts, or addresses as older tools wrote them.
fn host_of(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    name.split('/').next().unwrap_or(name)
}

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads a `WWW-Authenticate`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > LONGEST_CHALLENGE {
            return None;
        }
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        let mut rest = rest;
        while let Some((name, after)) = rest.split_once('=') {
            let quoted = after.strip_prefix('"')?;
            let (value, after) = quoted.split_once('"')?;
            match name.trim().trim_start_matches(',').trim() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                "scope" => scope = Some(value.to_owned()),
                _ => {}
            }
            rest = after;
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// The address to ask for a token at.
pub(crate) fn token_address(realm: &str, service: Option<&str>, scope: Option<&str>) -> String {
    let mut address = realm.to_owned();
    for (name, value) in [("service", service), ("scope", scope)] {
        let Some(value) = value else { continue };
        address.push(if address.contains('?') { '&' } else { '?' });
        address.push_str(name);
        address.push('=');
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte) {
                address.push(char::from(byte));
            } else {
                address.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    address
}

/// The token in a token server's answer.
pub(crate) fn token(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    answer.token.or(answer.access_token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let Some(Challenge::Bearer { realm, service, scope }) = Challenge::parse(text) else {
            panic!("{text}")
        };
        assert_eq!(
            token_address(&realm, service.as_deref(), scope.as_deref()),
            "https://auth.example/token?service=registry.example&scope=repository:a/b:pull,push"
        );
        assert_eq!(
            token_address("https://a/t?x=y", Some("a b&c"), None),
            "https://a/t?x=y&service=a%20b%26c"
        );
        assert_eq!(Challenge::parse(r#"basic realm="x""#), Some(Challenge::Basic));
        for text in
            ["", "Digest x", "Bearer", r#"Bearer service="x""#, r#"Bearer realm=x"#, r#"Bearer realm="x"#]
        {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
        assert_eq!(token(br#"{"access_token":"t"}"#).as_deref(), Some("t"));
        assert_eq!(token(br#"{"token":""}"#), None);
    }

    #[test]
    fn credentials_are_for_one_registry_and_errors_do_not_tell_them() {
        let file = std::env::temp_dir().join(format!("liveupdate-auth-{}", std::process::id()));
        let read = |text: &str, registry: &str| {
            std::fs::write(&file, text).unwrap();
            basic(&file, registry)
        };
        let both = r#"{"auths":{"https://registry.example/v1/":{"auth":"dTpw"},"other:5000":{"username":"u","password":"p"},
            "empty":{}},"credsStore":"x"}"#;
        for registry in ["registry.example", "other:5000"] {
            assert_eq!(read(both, registry).unwrap().as_deref(), Some("Basic dTpw"), "{registry}");
        }
        for registry in ["registry.example:443", "example", "other", "empty"] {
            assert_eq!(read(both, registry).unwrap(), None, "{registry}");
        }
        let error = read(r#"{"auths":{"r":{"auth":"secret"#, "r").unwrap_err().to_string();
        assert!(error.contains("no docker config.json") && !error.contains("secret"), "{error}");
        let error = read(r#"{"auths":{"r":{"auth":"secret=="}}}"#, "r").unwrap_err().to_string();
        assert!(error.contains("USER:PASSWORD") && !error.contains("secret"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }
}
