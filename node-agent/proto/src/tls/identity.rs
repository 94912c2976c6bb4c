//! Who a certificate says its owner is.

use std::fmt;

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use super::TlsError;

const TRUST_DOMAIN: &str = "spiffe://liveupdate.dev/";

/// An owner of a certificate, as its URI SAN names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The controller: `spiffe://liveupdate.dev/controller`.
    Controller,
    /// The agent of one node: `spiffe://liveupdate.dev/node/<name>/<uid>`. A node that was made again under
    /// the same name has another UID, and is somebody else.
    Node {
        /// Name of the Node object.
        name: String,
        /// UID of the Node object.
        uid: String,
    },
}

impl Identity {
    /// The agent of a node.
    pub fn node(name: impl Into<String>, uid: impl Into<String>) -> Self {
        Self::Node { name: name.into(), uid: uid.into() }
    }

    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        match self {
            Self::Controller => format!("{TRUST_DOMAIN}controller"),
            Self::Node { name, uid } => format!("{TRUST_DOMAIN}node/{name}/{uid}"),
        }
    }

    /// The DNS name that stands beside it, for SNI and for general tools.
    pub fn dns_name(&self) -> String {
        match self {
            Self::Controller => "controller.liveupdate.dev".to_owned(),
            Self::Node { name, .. } => format!("{name}.node.liveupdate.dev"),
        }
    }

    fn parse(uri: &str) -> Option<Self> {
        let path = uri.strip_prefix(TRUST_DOMAIN)?;
        if path == "controller" {
            return Some(Self::Controller);
        }
        let (name, uid) = path.strip_prefix("node/")?.split_once('/')?;
        let plain = |part: &str| !part.is_empty() && !part.contains('/');
        (plain(name) && plain(uid)).then(|| Self::node(name, uid))
    }

    /// Reads the owner from a verified certificate. The chain is the TLS stack's to check; the end of the
    /// certificate is looked at again, since a resumed session brings no new handshake with it.
    pub(super) fn of(chain: Option<&[CertificateDer<'_>]>) -> Result<Self, TlsError> {
        let leaf = chain.and_then(<[_]>::first).ok_or(TlsError::NoCertificate)?;
        let unreadable =
            |_| TlsError::WrongPeer { expected: TRUST_DOMAIN.to_owned(), found: "unreadable".to_owned() };
        let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(unreadable)?;
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap_or(i64::MAX);
        if certificate.validity().not_after.timestamp() < now {
            return Err(TlsError::Expired);
        }
        Self::named_in(&certificate)
    }

    /// The owner whom a certificate names, whoever signed it and whenever it holds.
    pub(super) fn named_in(certificate: &X509Certificate<'_>) -> Result<Self, TlsError> {
        let names = certificate.subject_alternative_name().ok().flatten();
        let uris: Vec<&str> = names
            .iter()
            .flat_map(|names| &names.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            })
            .collect();
        // Exactly one, as SPIFFE has it: with two, each side might pick another.
        match uris.as_slice() {
            [uri] => Self::parse(uri).ok_or_else(|| TlsError::WrongPeer {
                expected: TRUST_DOMAIN.to_owned(),
                found: (*uri).to_owned(),
            }),
            [] => Err(TlsError::WrongPeer {
                expected: TRUST_DOMAIN.to_owned(),
                found: "a certificate without a URI".to_owned(),
            }),
            many => Err(TlsError::WrongPeer { expected: "one URI".to_owned(), found: many.join(", ") }),
        }
    }

    /// Fails unless `found` is this identity.
    pub(super) fn require(&self, found: Result<Self, TlsError>) -> Result<(), TlsError> {
        match found {
            Ok(found) if found == *self => Ok(()),
            Ok(found) => Err(TlsError::WrongPeer { expected: self.uri(), found: found.uri() }),
            Err(TlsError::WrongPeer { found, .. }) => {
                Err(TlsError::WrongPeer { expected: self.uri(), found })
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

#[cfg(test)]
mod tests {
    use super::Identity;

    #[test]
    fn an_identity_survives_its_uri() {
        for identity in [Identity::Controller, Identity::node("worker-1.example", "0a1b")] {
            assert_eq!(Identity::parse(&identity.uri()), Some(identity));
        }
    }

    #[test]
    fn what_is_not_exactly_an_identity_is_none() {
        for uri in [
            "spiffe://liveupdate.dev/controller/",
            "spiffe://liveupdate.dev/node/a",
            "spiffe://liveupdate.dev/node//b",
            "spiffe://liveupdate.dev/node/a/",
            "spiffe://liveupdate.dev/node/a/b/c",
            "spiffe://liveupdate.dev.example/controller",
            "https://liveupdate.dev/controller",
            "",
        ] {
            assert_eq!(Identity::parse(uri), None, "{uri}");
        }
    }
}
