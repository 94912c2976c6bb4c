//! The way of the bytes: one connection to the API server per connection of the client.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::request::target;

/// Far above what the API server takes (3 MiB).
const LARGEST_WRITE: usize = 16 << 20;

type Cause = Box<dyn std::error::Error + Send + Sync>;
type Body = BoxBody<Bytes, Cause>;

/// What every connection needs.
pub(super) struct Forwarder {
    pub(super) acceptor: TlsAcceptor,
    pub(super) connector: TlsConnector,
    pub(super) upstream: SocketAddr,
    pub(super) ledger: Arc<Ledger>,
}

/// Accepts until it is aborted.
pub(super) async fn serve(listener: TcpListener, forwarder: Arc<Forwarder>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: it passes, and spinning would not help.
                tracing::warn!(%error, "the write proxy cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        // Taken at accept: a client that was killed before has no connection after.
        let generation = forwarder.ledger.generation();
        let forwarder = Arc::clone(&forwarder);
        tokio::spawn(async move {
            tokio::select! {
                () = generation.cancelled() => {}
                end = connection(stream, &forwarder, &generation) => {
                    if let Err(error) = end {
                        tracing::debug!(error, "a connection through the write proxy ended");
                    }
                }
            }
        });
    }
}

async fn connection(
    stream: TcpStream,
    forwarder: &Arc<Forwarder>,
    generation: &CancellationToken,
) -> Result<(), Cause> {
    stream.set_nodelay(true)?;
    let client = forwarder.acceptor.accept(stream).await?;
    let upstream = TcpStream::connect(forwarder.upstream).await?;
    upstream.set_nodelay(true)?;
    let upstream = forwarder.connector.connect(ServerName::from(forwarder.upstream.ip()), upstream).await?;
    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(upstream)).await?;
    let sender = Mutex::new(sender);
    let server = hyper::server::conn::http1::Builder::new().serve_connection(
        TokioIo::new(client),
        service_fn(|request| forward(request, &sender, &forwarder.ledger, generation)),
    );
    // Either end's end is the end of both.
    tokio::select! {
        end = server => end.map_err(Cause::from),
        end = driver => end.map_err(Cause::from),
    }
}

async fn forward(
    request: Request<Incoming>,
    sender: &Mutex<SendRequest<Body>>,
    ledger: &Ledger,
    generation: &CancellationToken,
) -> Result<Response<Body>, Cause> {
    let (mut head, body) = request.into_parts();
    head.headers.remove(header::CONNECTION);
    if head.headers.remove(header::UPGRADE).is_some() {
        return refuse("the write proxy does not pass upgrades; connect to the API server itself");
    }
    if head.method.is_safe() {
        let response = send(sender, Request::from_parts(head, boxed(body))).await?;
        return Ok(response.map(boxed));
    }
    let body = Limited::new(body, LARGEST_WRITE).collect().await?.to_bytes();
    let Some(target) = target(&head.method, &head.uri, &body) else {
        return refuse("the write proxy does not know this kind of write");
    };
    let ticket = ledger.arrived(target, generation)?;
    ledger.let_through().await;
    let response = send(sender, Request::from_parts(head, full(body))).await?;
    // The whole answer is here before it counts as answered.
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    ledger.answered(ticket, head.status.as_u16(), generation)?;
    ledger.let_through().await;
    Ok(Response::from_parts(head, full(body)))
}

async fn send(
    sender: &Mutex<SendRequest<Body>>,
    request: Request<Body>,
) -> Result<Response<Incoming>, Cause> {
    let mut sender = sender.lock().await;
    sender.ready().await?;
    let mut response = sender.send_request(request).await?;
    // Framing belongs to each connection.
    response.headers_mut().remove(header::CONNECTION);
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    Ok(response)
}

fn refuse(reason: &'static str) -> Result<Response<Body>, Cause> {
    let mut response = Response::new(full(Bytes::from_static(reason.as_bytes())));
    *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    Ok(response)
}

fn boxed(body: Incoming) -> Body {
    body.map_err(Cause::from).boxed()
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
