//! A server that says what it is told to, well or ill.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What is done to answer a request, in order.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    /// Reads the request's body.
    Take,
    /// Sends this.
    Say(Vec<u8>),
    /// Sends this again and again.
    Repeat(Vec<u8>),
    /// Says no more, and keeps the line.
    Hang,
}

type Answer = dyn Fn(&str) -> Vec<Do> + Send + Sync;

/// A registry of this process. Its connections end with it.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn start(answer: impl Fn(&str) -> Vec<Do> + Send + Sync + 'static) -> Self {
        Self::with(None, answer).await
    }

    pub(crate) async fn with(
        tls: Option<TlsAcceptor>,
        answer: impl Fn(&str) -> Vec<Do> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen): (Arc<Answer>, _) = (Arc::new(answer), Arc::clone(&heads));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, tls) = (Arc::clone(&answer), Arc::clone(&seen), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &*answer, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*answer, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, heads, _tasks: tasks }
    }

    /// The repository that the tests ask for.
    pub(crate) fn repository(&self) -> liveupdate_registry::Reference {
        format!("{}/kernels/lu2", self.address).parse().unwrap()
    }

    /// Requests as they came, without bodies.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, answer: &Answer, seen: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.clone());
    for step in answer(&head) {
        let said = match step {
            Do::Take => stream.read_exact(&mut vec![0; announced(&head)]).await.map(|_| ()),
            Do::Say(bytes) => stream.write_all(&bytes).await,
            Do::Repeat(bytes) => loop {
                if let Err(error) = stream.write_all(&bytes).await {
                    break Err(error);
                }
            },
            Do::Hang => std::future::pending().await,
        };
        if said.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// Bytes of a request's body.
fn announced(head: &str) -> usize {
    head.lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |size| size.parse().unwrap())
}

/// An answer of HTTP.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<Do> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    vec![Do::Say([head.as_bytes(), body].concat())]
}

/// An answer of HTTP to a request whose body is read.
pub(crate) fn taken(status: &str, headers: &str, body: &[u8]) -> Vec<Do> {
    [vec![Do::Take], answer(status, headers, body)].concat()
}
