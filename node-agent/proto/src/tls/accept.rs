//! Accepting connections and knowing who is at the other end.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::crowd::{Crowd, Full, Place};
use super::{Credentials, Identity, TlsError};

/// What a refused peer may still send before it has read why.
const LINGER_BYTES: u64 = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);

/// What a listener bears.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// A peer that is slower is cut off.
    pub handshake_timeout: Duration,
    /// Handshakes at a time.
    pub handshakes: usize,
    /// Handshakes at a time of one address; more of it wait, and hold up nobody else.
    pub handshakes_per_address: usize,
    /// Those who wait for a handshake, of one address and in all; more are turned away.
    pub waiting: (usize, usize),
    /// Open connections, of one peer and in all; more are turned away. A peer is whom its certificate names,
    /// and without a certificate its address.
    pub connections: (usize, usize),
    /// Peers without a certificate are let in, each for so long; none: they are refused.
    pub anonymous: Option<Duration>,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            handshakes: 64,
            handshakes_per_address: 16,
            waiting: (256, 1024),
            connections: (64, 4096),
            anonymous: None,
        }
    }
}

/// Whose connection it is, as connections are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Named(Identity),
    At(IpAddr),
}

/// As what an address is counted, wherever one peer may do only so much: a network of IPv6 addresses is one peer's to
/// choose from.
pub fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
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
    ///
    /// # Errors
    /// The peer is somebody else, or has no identity.
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

/// An accepted connection. Ends at once when the listener's token is cancelled, or when the time of a peer
/// without a certificate is over.
pub struct TlsConnection {
    tls: TlsStream<TcpStream>,
    peer: Peer,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place<Owner>,
}

impl std::fmt::Debug for TlsConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsConnection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Connected for TlsConnection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts TLS connections from whoever has a certificate of our CA, and from others when the limits say so,
/// until `cut` is cancelled. Handshakes go on side by side, so that a slow peer holds up nobody else.
pub fn incoming(
    listener: TcpListener,
    credentials: Arc<Credentials>,
    limits: AcceptLimits,
    cut: CancellationToken,
) -> ReceiverStream<io::Result<TlsConnection>> {
    let (sender, receiver) = mpsc::channel(1);
    let (of_one, in_all) = limits.waiting;
    let waiting = Crowd::new(in_all, of_one, limits.handshakes_per_address);
    let (of_one, in_all) = limits.connections;
    let entrance = Entrance {
        credentials,
        limits,
        handshakes: Arc::new(Semaphore::new(limits.handshakes.max(1))),
        connections: Crowd::new(in_all, of_one, 1),
        sender,
        cut,
    };
    tokio::spawn(entrance.keep(listener, waiting));
    ReceiverStream::new(receiver)
}

/// Where connections come in.
#[derive(Clone)]
struct Entrance {
    credentials: Arc<Credentials>,
    limits: AcceptLimits,
    handshakes: Arc<Semaphore>,
    connections: Arc<Crowd<Owner>>,
    sender: mpsc::Sender<io::Result<TlsConnection>>,
    cut: CancellationToken,
}

impl Entrance {
    async fn keep(self, listener: TcpListener, waiting: Arc<Crowd<IpAddr>>) {
        loop {
            let accepted = tokio::select! {
                () = self.cut.cancelled() => return,
                () = self.sender.closed() => return,
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
            match waiting.enter(counted(address.ip()), Instant::now()) {
                Ok(place) => {
                    let (entrance, cut) = (self.clone(), self.cut.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = cut.cancelled() => {}
                            () = entrance.let_in(tcp, address, place) => {}
                        }
                    });
                }
                Err(full) => turned_away(&address, full),
            }
        }
    }

    async fn let_in(self, tcp: TcpStream, address: SocketAddr, place: Place<IpAddr>) {
        let turns = place.turns();
        let (Ok(_turn), Ok(_permit)) = (turns.acquire().await, self.handshakes.acquire().await) else {
            return;
        };
        let acceptor = TlsAcceptor::from(self.credentials.server(self.limits.anonymous.is_some()));
        let shaking = async {
            // A kubelet's probe, every few seconds: it asks whether anybody listens, and goes without a word.
            if tcp.peek(&mut [0]).await? == 0 { Ok(None) } else { accept(acceptor, tcp).await.map(Some) }
        };
        match tokio::time::timeout(self.limits.handshake_timeout, shaking).await {
            Ok(Ok(Some(tls))) => self.connected(tls, address).await,
            Ok(Ok(None)) => tracing::debug!(peer = %address, "somebody looked whether anybody listens"),
            Ok(Err(error)) => {
                let error = TlsError::of_io(&address.to_string(), error);
                tracing::info!(peer = %address, reason = error.reason(), %error, "refused a connection");
            }
            Err(_) => tracing::info!(peer = %address, reason = "TimedOut", "refused a connection"),
        }
    }

    async fn connected(&self, tls: TlsStream<TcpStream>, address: SocketAddr) {
        let certificates = tls.get_ref().1.peer_certificates();
        let life = self.limits.anonymous.filter(|_| certificates.is_none());
        let identity = Identity::of(certificates).map_err(Arc::new);
        let owner = match &identity {
            Ok(identity) => Owner::Named(identity.clone()),
            Err(_) => Owner::At(counted(address.ip())),
        };
        let place = match self.connections.enter(owner, Instant::now()) {
            Ok(place) => place,
            Err(full) => return turned_away(&address, full),
        };
        let peer = Peer { address, identity };
        let cut = Box::pin(over(self.cut.clone(), address, life));
        let _ = self.sender.send(Ok(TlsConnection { tls, peer, cut, _place: place })).await;
    }
}

fn turned_away(peer: &SocketAddr, full: Full) {
    if full.news {
        tracing::info!(%peer, reason = "TooManyConnections", "refused a connection");
    }
}

/// Resolves when a connection has to end.
async fn over(cut: CancellationToken, peer: SocketAddr, life: Option<Duration>) {
    let Some(life) = life else { return cut.cancelled().await };
    tokio::select! {
        () = cut.cancelled() => {}
        () = tokio::time::sleep(life) => {
            tracing::info!(%peer, reason = "TimedOut", "cut off a connection without a certificate");
        }
    }
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
