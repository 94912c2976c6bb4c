//! Why a connection did not come about, so that a person knows whose certificate to look at.

use std::error::Error as _;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError};

/// Why a TLS connection, or what it needs, is not to be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file of the credentials cannot be read.
    #[error("cannot read {path}; mount the certificate there or correct --tls-dir")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the credentials is not what it should be.
    #[error("{path} is unusable: {why}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The address does not parse, or the name is too long for a certificate.
    #[error("cannot dial {address}: {why}")]
    BadAddress {
        /// As it was given.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing answers there.
    #[error("{address} cannot be reached")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It did not answer in time.
    #[error("{address} did not finish the TLS handshake in time")]
    TimedOut {
        /// `host:port`.
        address: String,
    },
    /// The peer presented no certificate.
    #[error("the peer presented no certificate")]
    NoCertificate,
    /// The peer's certificate has run out.
    #[error("the peer's certificate has expired; renew it")]
    Expired,
    /// The peer's certificate begins later.
    #[error("the peer's certificate is not valid yet; check the clocks")]
    NotYetValid,
    /// The peer's certificate is of another CA.
    #[error("the peer's certificate is of an unknown CA; enrol it again or distribute the CA")]
    UnknownAuthority,
    /// The peer is somebody else.
    #[error("the peer is {found}, expected {expected}")]
    WrongPeer {
        /// Its URI as it should be.
        expected: String,
        /// What its certificate says.
        found: String,
    },
    /// The peer does not accept *our* certificate.
    #[error("the peer refused our certificate: {0}")]
    Refused(Objection),
    /// Anything else that TLS can say.
    #[error("TLS failed")]
    Handshake(#[source] rustls::Error),
    /// Anything else that the transport can say.
    #[error("the connection failed")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the peer said of our certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objection {
    /// We presented none.
    NoCertificate,
    /// Ours has run out.
    Expired,
    /// Ours is of a CA that it does not know.
    UnknownAuthority,
    /// It said no more than that.
    Other,
}

/// Names of a certificate as the library presents them (`UniformResourceIdentifier("spiffe://…")`), for
/// people: the URI where there is one, because that is how our peers are known.
fn named(presented: &[String]) -> String {
    let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_owned();
    let names: Vec<String> = presented.iter().map(bare).collect();
    let uris: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.contains("://")).collect();
    match (uris.as_slice(), names.as_slice()) {
        ([], []) => "somebody without a name".to_owned(),
        ([], names) => names.join(", "),
        (uris, _) => uris.join(", "),
    }
}

impl Objection {
    const ALL: [Self; 4] = [Self::NoCertificate, Self::Expired, Self::UnknownAuthority, Self::Other];
}

impl std::fmt::Display for Objection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "none was presented",
            Self::Expired => "it has expired",
            Self::UnknownAuthority => "its CA is unknown there",
            Self::Other => "no cause was given",
        })
    }
}

impl TlsError {
    /// The machine-readable word for it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::Malformed { .. } => "CredentialsUnusable",
            Self::BadAddress { .. } => "BadAddress",
            Self::Unreachable { .. } => "Unreachable",
            Self::TimedOut { .. } => "TimedOut",
            Self::NoCertificate => "NoCertificate",
            Self::Expired => "CertificateExpired",
            Self::NotYetValid => "CertificateNotYetValid",
            Self::UnknownAuthority => "UnknownAuthority",
            Self::WrongPeer { .. } => "WrongPeer",
            Self::Refused(Objection::NoCertificate) => "RefusedNoCertificate",
            Self::Refused(Objection::Expired) => "RefusedCertificateExpired",
            Self::Refused(Objection::UnknownAuthority) => "RefusedUnknownAuthority",
            Self::Refused(Objection::Other) => "RefusedCertificate",
            Self::Handshake(_) => "HandshakeFailed",
            Self::Transport(_) => "ConnectionFailed",
        }
    }

    /// The TLS error behind a failed call, if there is one. With TLS 1.3 the client learns only from its
    /// first call that the server refuses its certificate.
    pub fn of_status(status: &tonic::Status) -> Option<Self> {
        find(status.source()?)
    }

    /// The TLS error behind a failed connection.
    pub(super) fn of_transport(error: tonic::transport::Error) -> Self {
        find(&error).unwrap_or_else(|| Self::Transport(Box::new(error)))
    }

    pub(super) fn of_io(address: &str, error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::TimedOut {
            return Self::TimedOut { address: address.to_owned() };
        }
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::of_rustls(tls),
            None => Self::Unreachable { address: address.to_owned(), source: error },
        }
    }

    pub(super) fn of_rustls(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidCertificate(certificate) => match certificate {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::NotYetValid
                }
                // Another CA with our CA's name signs with another key.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::NotValidForNameContext { expected, presented } => {
                    Self::WrongPeer { expected: expected.to_str().into_owned(), found: named(presented) }
                }
                _ => Self::Handshake(error.clone()),
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => Self::Refused(Objection::NoCertificate),
                AlertDescription::CertificateExpired => Self::Refused(Objection::Expired),
                AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                    Self::Refused(Objection::UnknownAuthority)
                }
                AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied => Self::Refused(Objection::Other),
                _ => Self::Handshake(error.clone()),
            },
            _ => Self::Handshake(error.clone()),
        }
    }

    /// For handing the same error on: sources that cannot be copied are told in words.
    fn retell(&self) -> Self {
        match self {
            Self::Unreadable { path, source } => {
                Self::Unreadable { path: path.clone(), source: retell_io(source) }
            }
            Self::Malformed { path, why } => Self::Malformed { path: path.clone(), why: why.clone() },
            Self::BadAddress { address, why } => {
                Self::BadAddress { address: address.clone(), why: why.clone() }
            }
            Self::Unreachable { address, source } => {
                Self::Unreachable { address: address.clone(), source: retell_io(source) }
            }
            Self::TimedOut { address } => Self::TimedOut { address: address.clone() },
            Self::NoCertificate => Self::NoCertificate,
            Self::Expired => Self::Expired,
            Self::NotYetValid => Self::NotYetValid,
            Self::UnknownAuthority => Self::UnknownAuthority,
            Self::WrongPeer { expected, found } => {
                Self::WrongPeer { expected: expected.clone(), found: found.clone() }
            }
            Self::Refused(objection) => Self::Refused(*objection),
            Self::Handshake(error) => Self::Handshake(error.clone()),
            Self::Transport(error) => Self::Transport(error.to_string().into()),
        }
    }
}

fn retell_io(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), error.to_string())
}

/// A read error as it survives HTTP/2: one that says that our certificate was refused gets our own text.
pub(super) fn told(error: std::io::Error) -> std::io::Error {
    let tls =
        error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).map(TlsError::of_rustls);
    match tls {
        Some(refused @ TlsError::Refused(_)) => std::io::Error::new(error.kind(), refused.to_string()),
        _ => error,
    }
}

/// Walks the chain of causes: transports wrap what we threw several times over.
fn find(error: &(dyn std::error::Error + 'static)) -> Option<TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(ours) = error.downcast_ref::<TlsError>() {
            return Some(ours.retell());
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(TlsError::of_rustls(tls));
        }
        // HTTP/2 keeps of a read error its text alone, which is ours: see `told`.
        let text = error.to_string();
        let told = |objection: &Objection| TlsError::Refused(*objection).to_string() == text;
        if let Some(objection) = Objection::ALL.into_iter().find(told) {
            return Some(TlsError::Refused(objection));
        }
        // An io::Error's source skips what it wraps itself.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref())
            && let Some(found) = find(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_peer_is_named_as_people_know_it() {
        let dns = r#"DnsName("b.node.liveupdate.dev")"#.to_owned();
        let uri = r#"UniformResourceIdentifier("spiffe://liveupdate.dev/node/b/u")"#.to_owned();
        assert_eq!(named(&[dns.clone(), uri]), "spiffe://liveupdate.dev/node/b/u");
        assert_eq!(named(&[dns]), "b.node.liveupdate.dev");
        assert_eq!(named(&[]), "somebody without a name");
    }
}
