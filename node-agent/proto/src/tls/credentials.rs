//! CA, certificate and key: from files, read again when they change, or held in memory and replaced there.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use super::files::{Files, NO_FILES, Parts, Stamp, bytes, malformed};

/// An agent has one peer and talks to it over few connections: its server remembers no more sessions.
const SERVER_SESSIONS: usize = 8;
const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// One side's own certificate and key, and the CAs that it trusts. From a folder they are `ca.crt`, `tls.crt`
/// and `tls.key` (the names that a mounted Secret has): a change is seen at the next connection; a change that
/// cannot be read, or is half of one, is logged and the old credentials stay in use until it can.
#[derive(Debug)]
pub struct Credentials {
    files: Option<Files>,
    sessions: usize,
    loaded: Mutex<Loaded>,
}

/// What [`Credentials`] are made of, all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pems {
    /// The CAs that are trusted.
    pub authorities: String,
    /// The own certificate, with those between it and its CA.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl std::fmt::Debug for Pems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pems").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
struct Loaded {
    stamp: Stamp,
    /// Demands a certificate.
    server: Arc<ServerConfig>,
    /// Asks for one, and lets those in who have none.
    open_server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Credentials {
    /// Reads the credentials in a folder. `peers` is how many servers' sessions the client side remembers
    /// for resumption (about 2 KiB each when used).
    ///
    /// # Errors
    /// A file cannot be read, or the files do not fit together.
    pub fn load(folder: &Path, peers: usize) -> Result<Self, TlsError> {
        let (files, sessions) = (Files::of(folder), sessions(peers));
        let loaded = files.read(|parts, stamp| build(parts, sessions, stamp))?;
        Ok(Self { files: Some(files), sessions, loaded: Mutex::new(loaded) })
    }

    /// Credentials that are in no file. `peers` as in [`Credentials::load`].
    ///
    /// # Errors
    /// They do not fit together.
    pub fn held(pems: &Pems, peers: usize) -> Result<Self, TlsError> {
        let loaded = build(&held(pems), sessions(peers), NO_FILES)?;
        Ok(Self { files: None, sessions: sessions(peers), loaded: Mutex::new(loaded) })
    }

    /// Uses others from the next connection on; open connections go on with the old ones.
    ///
    /// # Errors
    /// They do not fit together; the old ones stay in use.
    pub fn replace(&self, pems: &Pems) -> Result<(), TlsError> {
        let loaded = build(&held(pems), self.sessions, NO_FILES)?;
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// For accepting; `open` lets those in who present no certificate.
    pub(super) fn server(&self, open: bool) -> Arc<ServerConfig> {
        let current = self.current();
        if open { current.open_server } else { current.server }
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        self.current().client
    }

    fn current(&self) -> Loaded {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = &self.files else { return loaded.clone() };
        let fresh = files.stamp().and_then(|stamp| {
            if stamp == loaded.stamp {
                return Ok(None);
            }
            files.read(|parts, stamp| build(parts, self.sessions, stamp)).map(Some)
        });
        match fresh {
            Ok(Some(fresh)) => {
                tracing::info!(certificate = %files.certificate.display(), "new credentials are in use");
                *loaded = fresh;
            }
            Ok(None) => {}
            // Half of a rotation by somebody who exchanges the files one by one: the next connection tries again.
            Err(error) => {
                tracing::warn!(%error, "changed credentials are unusable; the old ones stay in use");
            }
        }
        loaded.clone()
    }
}

/// rustls counts sessions, eight to a server.
fn sessions(peers: usize) -> usize {
    peers.saturating_mul(8)
}

fn held(pems: &Pems) -> Parts<'_> {
    let part = |name: &'static str, pem: &str| (Path::new(name), pem.as_bytes().to_vec());
    Parts {
        ca: part("the held CA bundle", &pems.authorities),
        certificate: part("the held certificate", &pems.certificate),
        key: part("the held key", &pems.key),
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(path, &error))?;
    if found.is_empty() {
        return Err(malformed(path, &"no certificate in it"));
    }
    Ok(found)
}

fn trusted(path: &Path, bytes: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(path, bytes)? {
        roots.add(root).map_err(|error| malformed(path, &error))?;
    }
    Ok(Arc::new(roots))
}

/// The configuration of a client that trusts the CAs in a file and has no certificate yet.
pub(super) fn anonymous(ca: &Path) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = trusted(ca, &bytes(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Handshake)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(client))
}

fn build(parts: &Parts<'_>, sessions: usize, stamp: Stamp) -> Result<Loaded, TlsError> {
    let Parts { ca: (ca, ca_bytes), certificate: (certificate, leaf_bytes), key: (key, key_bytes) } = parts;
    let roots = trusted(ca, ca_bytes)?;
    let chain = certificates(certificate, leaf_bytes)?;
    let private = PrivateKeyDer::from_pem_slice(key_bytes).map_err(|error| malformed(key, &error))?;
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());

    let server = |open: bool| {
        let mut verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        if open {
            verifier = verifier.allow_unauthenticated();
        }
        let verifier = verifier.build().map_err(|error| malformed(ca, &error))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(VERSIONS)
            .map_err(TlsError::Handshake)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private.clone_key())
            .map_err(|error| malformed(certificate, &format!("{error} (with the key {})", key.display())))?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        server.session_storage = ServerSessionMemoryCache::new(SERVER_SESSIONS);
        server.send_tls13_tickets = 1;
        Ok::<_, TlsError>(Arc::new(server))
    };
    let (server, open_server) = (server(false)?, server(true)?);

    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Handshake)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|error| malformed(certificate, &error))?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = Resumption::in_memory_sessions(sessions);

    Ok(Loaded { stamp, server, open_server, client: Arc::new(client) })
}
