//! Connections: TLS, but for those who may do without.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use hyper::body::Bytes;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::Error;

/// Largest file of CA certificates; distributions' have a quarter of it.
const LARGEST_CA: u64 = 1 << 20;
/// Largest answer before its body: status and headers.
const LARGEST_HEAD: usize = 64 << 10;

/// What is sent.
pub(crate) type Sent = BoxBody<Bytes, io::Error>;

/// A connection's task, which ends with this.
#[derive(Debug)]
pub(crate) struct Connected(JoinHandle<()>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads who vouches for registries: this file alone, or else those that the system trusts.
pub(crate) fn tls(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        let failed = |why: String| Error::File { path: path.to_owned(), why };
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST_CA + 1).read_to_end(&mut text));
        read.map_err(|error| failed(error.to_string()))?;
        if text.len() as u64 > LARGEST_CA {
            return Err(failed(format!("it has more than {LARGEST_CA} bytes")));
        }
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(failed("it holds no certificate in PEM".into()));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::NoRoots);
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::NoRoots)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Whether a host is this machine itself, by its name alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Connects and speaks HTTP/1.1; `tls`: none is plain.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    limit: Duration,
) -> Result<(SendRequest<Sent>, Connected), Error> {
    let address = format!("{host}:{port}");
    let failed = |source: io::Error| Error::Connect { address: address.clone(), source };
    let dialled = tokio::time::timeout(limit, async {
        let tcp = TcpStream::connect((host, port)).await.map_err(failed)?;
        let Some(tls) = tls else { return speak(TokioIo::new(tcp), &address).await };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let tls = TlsConnector::from(tls).connect(name, tcp).await.map_err(failed)?;
        speak(TokioIo::new(tls), &address).await
    });
    dialled.await.map_err(|_| Error::TimedOut { what: format!("connecting to {address}"), limit })?
}

async fn speak<S>(stream: S, address: &str) -> Result<(SendRequest<Sent>, Connected), Error>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let handshake = Builder::new().max_buf_size(LARGEST_HEAD).handshake(stream).await;
    let (sender, connection) =
        handshake.map_err(|source| Error::Broken { what: format!("the connection to {address}"), source })?;
    let task = tokio::spawn(async move {
        // Its end shows in the request that goes over it.
        let _ = connection.await;
    });
    Ok((sender, Connected(task)))
}
