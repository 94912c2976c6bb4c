//! Credentials: a file as `kubectl create secret docker-registry` makes it, and what a registry asks for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::{Error, Reference};

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

/// Reads the value of a basic `Authorization` for a repository; none: the file has nothing for it.
pub(crate) fn basic(file: &Path, of: &Reference) -> Result<Option<String>, Error> {
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
    let whole = of.to_string();
    let here =
        config.auths.into_iter().filter(|(name, entry)| entry.lets_in() && is_for(place(name), &whole));
    // A team's own before the registry's.
    let Some((name, entry)) = here.max_by_key(|(name, _)| place(name).len()) else { return Ok(None) };
    let encoded = match (entry.auth, entry.username, entry.password) {
        (Some(auth), _, _) if !auth.is_empty() => {
            let plain = STANDARD.decode(&auth).ok().filter(|plain| plain.contains(&b':'));
            plain.ok_or_else(|| failed(format!("auth of {name} is not the base64 of USER:PASSWORD")))?;
            auth
        }
        (_, Some(user), Some(password)) => STANDARD.encode(format!("{user}:{password}")),
        _ => return Ok(None),
    };
    Ok(Some(format!("Basic {encoded}")))
}

impl Entry {
    /// Tools leave entries without credentials where those lie elsewhere.
    fn lets_in(&self) -> bool {
        let whole = self.username.is_some() && self.password.is_some();
        whole || self.auth.as_ref().is_some_and(|auth| !auth.is_empty())
    }
}

/// Keys are hosts, hosts with the beginning of a path, or addresses as older tools wrote them.
fn place(name: &str) -> &str {
    let name = name.strip_prefix("https://").or_else(|| name.strip_prefix("http://")).unwrap_or(name);
    let name = name.trim_end_matches('/');
    // Right behind the host that is the API, not a repository.
    let host = ["/v1", "/v2"].iter().find_map(|end| name.strip_suffix(end));
    host.filter(|host| !host.contains('/')).unwrap_or(name)
}

/// Whether a place is all of `REGISTRY/REPOSITORY`, or the beginning of it up to a slash.
fn is_for(place: &str, whole: &str) -> bool {
    whole.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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

    fn read(text: &str, of: &str) -> Result<Option<String>, Error> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("liveupdate-auth-{}-{number}", std::process::id()));
        std::fs::write(&file, text).unwrap();
        let read = basic(&file, &of.parse().unwrap());
        std::fs::remove_file(&file).unwrap();
        read
    }

    #[test]
    fn credentials_are_for_one_registry_and_errors_do_not_tell_them() {
        let both = r#"{"auths":{"https://registry.example/v1/":{"auth":"dTpw"},"other:5000":{"username":"u","password":"p"},
            "empty.example":{}},"credsStore":"x"}"#;
        for of in ["registry.example/a", "other:5000/a/b"] {
            assert_eq!(read(both, of).unwrap().as_deref(), Some("Basic dTpw"), "{of}");
        }
        for of in ["registry.example:443/a", "registry.example.org/a", "other:500/a", "empty.example/a"] {
            assert_eq!(read(both, of).unwrap(), None, "{of}");
        }
        let error = read(r#"{"auths":{"r.example":{"auth":"secret"#, "r.example/a").unwrap_err().to_string();
        assert!(error.contains("no docker config.json") && !error.contains("secret"), "{error}");
        let wrong = r#"{"auths":{"r.example":{"auth":"secret=="}}}"#;
        let error = read(wrong, "r.example/a").unwrap_err().to_string();
        assert!(error.contains("USER:PASSWORD") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_repository_gets_what_is_closest_to_it_and_never_what_is_anothers() {
        let encoded = |user: &str| STANDARD.encode(format!("{user}:p"));
        let text = format!(
            r#"{{"auths":{{"http://r.example":{{}},"https://r.example/v2/":{{"auth":"{}"}},"r.example/team-a":{{"auth":"{}"}},
                "r.example/team-a/kernels/":{{"auth":"{}"}},"r.example/team-c":{{"auth":""}},
                "r.example/team-d/v2":{{"auth":"{}"}},"s.example/team-a":{{"auth":"{}"}}}}}}"#,
            encoded("all"),
            encoded("a"),
            encoded("kernels"),
            encoded("d"),
            encoded("s")
        );
        for (of, user) in [
            ("r.example/team-a", "a"),
            ("r.example/team-a/x", "a"),
            ("r.example/team-a/kernels", "kernels"),
            ("r.example/team-a/kernels/lu2", "kernels"),
            ("r.example/team-a/kernels2", "a"),
            ("r.example/team-ab/x", "all"),
            ("r.example/team-b", "all"),
            ("r.example/team-c", "all"),
            ("r.example/team-d/v2", "d"),
            ("r.example/team-d/v3", "all"),
        ] {
            let wanted = format!("Basic {}", encoded(user));
            assert_eq!(read(&text, of).unwrap(), Some(wanted), "{of}");
        }
        assert_eq!(read(&text, "s.example/team-b").unwrap(), None);
    }
}
