//! CA, certificate and key from files, read again when they change.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// A CA bundle of an overlap has a few certificates of about 2 KiB; more is not what was meant.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// An agent has one peer and talks to it over few connections: its server remembers no more sessions.
const SERVER_SESSIONS: usize = 8;

/// One side's own certificate and key, and the CAs that it trusts, as `ca.crt`, `tls.crt` and `tls.key` in a
/// folder (the names that a mounted Secret has). A change is seen at the next connection; a change that
/// cannot be read is logged and the old credentials stay in use until it can.
#[derive(Debug)]
pub struct Credentials {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    sessions: usize,
    loaded: Mutex<Loaded>,
}

/// Which version of the three files: change time and length of each.
type Stamp = [(SystemTime, u64); 3];

#[derive(Clone, Debug)]
struct Loaded {
    stamp: Stamp,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Credentials {
    /// Reads the credentials in a folder. `peers` is how many servers' sessions the client side remembers
    /// for resumption (about 2 KiB each when used).
    pub fn load(folder: &Path, peers: usize) -> Result<Self, TlsError> {
        let [ca, certificate, key] = ["ca.crt", "tls.crt", "tls.key"].map(|name| folder.join(name));
        // rustls counts sessions, eight to a server.
        let sessions = peers.saturating_mul(8);
        let stamp = stamp(&[&ca, &certificate, &key])?;
        let loaded = read(&ca, &certificate, &key, sessions, stamp)?;
        Ok(Self { ca, certificate, key, sessions, loaded: Mutex::new(loaded) })
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        self.current().server
    }

    pub(super) fn client(&self) -> Arc<ClientConfig> {
        self.current().client
    }

    fn current(&self) -> Loaded {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = stamp(&[&self.ca, &self.certificate, &self.key]).and_then(|stamp| {
            if stamp == loaded.stamp {
                return Ok(None);
            }
            read(&self.ca, &self.certificate, &self.key, self.sessions, stamp).map(Some)
        });
        match fresh {
            Ok(Some(fresh)) => {
                tracing::info!(certificate = %self.certificate.display(), "new credentials are in use");
                *loaded = fresh;
            }
            Ok(None) => {}
            // Half of a rotation, most likely: the next connection tries again.
            Err(error) => {
                tracing::warn!(%error, "changed credentials are unusable; the old ones stay in use");
            }
        }
        loaded.clone()
    }
}

fn stamp(paths: &[&Path; 3]) -> Result<Stamp, TlsError> {
    let mut stamp = [(SystemTime::UNIX_EPOCH, 0); 3];
    for (slot, path) in stamp.iter_mut().zip(paths) {
        let metadata = std::fs::metadata(path)
            .map_err(|source| TlsError::Unreadable { path: path.to_path_buf(), source })?;
        *slot = (metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len());
    }
    Ok(stamp)
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |source| TlsError::Unreadable { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(malformed(path, &format!("larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn malformed(path: &Path, why: &dyn ToString) -> TlsError {
    TlsError::Malformed { path: path.to_path_buf(), why: why.to_string() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(&bytes(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(path, &error))?;
    if found.is_empty() {
        return Err(malformed(path, &"no certificate in it"));
    }
    Ok(found)
}

fn read(
    ca: &Path,
    certificate: &Path,
    key: &Path,
    sessions: usize,
    stamp: Stamp,
) -> Result<Loaded, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(ca)? {
        roots.add(root).map_err(|error| malformed(ca, &error))?;
    }
    let roots = Arc::new(roots);
    let chain = certificates(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|error| malformed(key, &error))?;
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let versions = &[&rustls::version::TLS13];

    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| malformed(ca, &error))?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(TlsError::Handshake)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), private.clone_key())
        .map_err(|error| malformed(certificate, &format!("{error} (with the key {})", key.display())))?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    server.session_storage = ServerSessionMemoryCache::new(SERVER_SESSIONS);
    server.send_tls13_tickets = 1;

    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Handshake)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, private)
        .map_err(|error| malformed(certificate, &error))?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = Resumption::in_memory_sessions(sessions);

    Ok(Loaded { stamp, server: Arc::new(server), client: Arc::new(client) })
}
