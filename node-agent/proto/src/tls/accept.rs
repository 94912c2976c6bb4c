//! Accepting connections and knowing who is at the other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::{Credentials, Identity, TlsError};

/// What a refused peer may still send before it has read why.
const LINGER_BYTES: u64 = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// What a listener bears.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// A peer that is slower is cut off.
    pub handshake_timeout: Duration,
    /// Handshakes at a time; more wait in the listener's backlog.
    pub handshakes: usize,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self { handshake_timeout: Duration::from_secs(5), handshakes: 16 }
    }
}

/// Who sent a request; an extension of each request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    identity: Result<Identity, Arc<TlsError>>,
}

impl Peer {
    /// Who it is, when its certificate names one of us.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref().ok()
    }

    /// Fails unless it is `expected`.
    pub fn require(&self, expected: &Identity) -> Result<(), TlsError> {
        let found = self.identity.clone().map_err(|error| match &*error {
            TlsError::WrongPeer { found, .. } => {
                TlsError::WrongPeer { expected: String::new(), found: found.clone() }
            }
            TlsError::Expired => TlsError::Expired,
            _ => TlsError::NoCertificate,
        });
        expected.require(found)
    }
}

/// An accepted connection. Ends at once when the listener's token is cancelled.
#[derive(Debug)]
pub struct TlsConnection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connected for TlsConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts TLS connections from whoever has a certificate of our CA, until `cut` is cancelled. Handshakes
/// go on side by side, so that a slow peer holds up nobody else.
pub fn incoming(
    listener: TcpListener,
    credentials: Arc<Credentials>,
    limits: AcceptLimits,
    cut: CancellationToken,
) -> ReceiverStream<io::Result<TlsConnection>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let permits = Arc::new(Semaphore::new(limits.handshakes.max(1)));
        loop {
            let accepted = tokio::select! {
                () = cut.cancelled() => return,
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let (tcp, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of files, most likely: without a pause this would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let acceptor = TlsAcceptor::from(credentials.server());
            let (sender, cut) = (sender.clone(), cut.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let handshake = tokio::time::timeout(limits.handshake_timeout, accept(acceptor, tcp));
                let done = tokio::select! {
                    () = cut.cancelled() => return,
                    done = handshake => done,
                };
                match done {
                    Ok(Ok(tls)) => {
                        let identity = Identity::of(tls.get_ref().1.peer_certificates()).map_err(Arc::new);
                        let peer = Peer { address, identity };
                        let cut = Box::pin(cut.cancelled_owned());
                        let _ = sender.send(Ok(TlsConnection { tls, peer, cut })).await;
                    }
                    Ok(Err(error)) => {
                        let error = TlsError::of_io(&address.to_string(), error);
                        tracing::info!(peer = %address, reason = error.reason(), %error, "refused a connection");
                    }
                    Err(_) => tracing::info!(peer = %address, reason = "TimedOut", "refused a connection"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn accept(acceptor: TlsAcceptor, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    acceptor.accept(tcp).into_fallible().await.map_err(|(error, tcp)| {
        tokio::spawn(linger(tcp));
        error
    })
}

/// Closed with bytes unread, a connection would be reset, and with it would go the alert that tells the peer
/// what is wrong.
async fn linger(mut tcp: TcpStream) {
    let rest = async {
        let _ = tcp.shutdown().await;
        let _ = tokio::io::copy(&mut tcp.take(LINGER_BYTES), &mut tokio::io::sink()).await;
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.tls).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(context, slices)
    }
}
