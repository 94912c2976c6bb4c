//! Dialling one identity.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use super::credentials::anonymous;
use super::error::told;
use super::{Credentials, Identity, TlsError};

/// How to dial.
#[derive(Clone, Copy, Debug)]
pub struct DialOptions {
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// While calls are open and nothing comes, the peer is asked this often whether it lives.
    pub keepalive_interval: Duration,
    /// No answer for so long: the connection is given up.
    pub keepalive_timeout: Duration,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(10),
        }
    }
}

/// Connects to `peer` at `address` (`host:port`) and to nobody else. The channel connects again by itself,
/// under the same check and with the credentials of that time. Use `max_decoding_message_size` and
/// `max_encoding_message_size` with [`crate::MAX_MESSAGE_BYTES`] on the clients made from it.
///
/// That the *server* refuses our certificate comes with the first call: [`TlsError::of_status`].
///
/// # Errors
/// The address cannot be used, nobody answers there, or somebody else does.
pub async fn connect(
    credentials: &Arc<Credentials>,
    peer: &Identity,
    address: &str,
    options: DialOptions,
) -> Result<Channel, TlsError> {
    dial(Own::Credentials(Arc::clone(credentials)), peer, address, options).await
}

/// Connects to `peer` at `address` and to nobody else, as [`connect`], but without a certificate: how an agent
/// asks for its first one. `trust` is the file with the CAs that are trusted.
///
/// # Errors
/// As [`connect`].
pub async fn connect_anonymous(
    trust: &Path,
    peer: &Identity,
    address: &str,
    options: DialOptions,
) -> Result<Channel, TlsError> {
    dial(Own::Nothing(anonymous(trust)?), peer, address, options).await
}

async fn dial(own: Own, peer: &Identity, address: &str, options: DialOptions) -> Result<Channel, TlsError> {
    let bad = |why: String| TlsError::BadAddress { address: address.to_owned(), why };
    let name = ServerName::try_from(peer.dns_name()).map_err(|error| bad(format!("{peer}: {error}")))?;
    let origin =
        Uri::try_from(format!("https://{}", peer.dns_name())).map_err(|error| bad(error.to_string()))?;
    // http, since the connector below does TLS itself: it must see the peer's certificate.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| bad(error.to_string()))?
        .origin(origin)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        // A peer has few calls at a time; the default of 1024 slots would be paid for each of them.
        .buffer_size(32);
    let connector = Connector {
        own,
        peer: Arc::new(peer.clone()),
        name,
        address: address.into(),
        timeout: options.connect_timeout,
    };
    endpoint.connect_with_connector(connector).await.map_err(TlsError::of_transport)
}

/// What we show of ourselves.
#[derive(Clone)]
enum Own {
    Credentials(Arc<Credentials>),
    Nothing(Arc<ClientConfig>),
}

impl Own {
    fn client(&self) -> Arc<ClientConfig> {
        match self {
            Self::Credentials(credentials) => credentials.client(),
            Self::Nothing(config) => Arc::clone(config),
        }
    }
}

#[derive(Clone)]
struct Connector {
    own: Own,
    peer: Arc<Identity>,
    name: ServerName<'static>,
    address: Arc<str>,
    timeout: Duration,
}

impl Connector {
    async fn dial(self) -> Result<TokioIo<Dialled>, TlsError> {
        let dialled = tokio::time::timeout(self.timeout, async {
            let tcp = TcpStream::connect(&*self.address).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(self.own.client()).connect(self.name.clone(), tcp).await
        });
        let tls = dialled
            .await
            .map_err(|_| TlsError::TimedOut { address: self.address.to_string() })?
            .map_err(|error| self.explain(error))?;
        self.peer.require(Identity::of(tls.get_ref().1.peer_certificates()))?;
        Ok(TokioIo::new(Dialled(tls)))
    }

    fn explain(&self, error: std::io::Error) -> TlsError {
        match TlsError::of_io(&self.address, error) {
            // The DNS name was checked first; people know the URI.
            TlsError::WrongPeer { found, .. } => TlsError::WrongPeer { expected: self.peer.uri(), found },
            other => other,
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Dialled>;
    type Error = TlsError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, TlsError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}

/// A connection whose errors say what the peer objects to.
#[derive(Debug)]
pub(crate) struct Dialled(TlsStream<TcpStream>);

impl AsyncRead for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer).map_err(told)
    }
}

impl AsyncWrite for Dialled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }
}
