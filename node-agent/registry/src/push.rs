//! Putting blobs and manifests into a repository.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::{mpsc, watch};

use crate::client::request;
use crate::{Client, Error, Limits, Reference};

/// Bytes that are read at once: on the slowest line each of them goes within [`Limits::idle`].
const CHUNK: usize = 64 << 10;

impl Client {
    /// Whether a blob is there already.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn has(&self, in_: &Reference, digest: &str) -> Result<bool, Error> {
        let what = format!("whether {in_} has blob {digest}");
        let to = self.address(in_, &format!("blobs/{digest}"))?;
        let answer = self.ask(Method::HEAD, in_, &to, &what, &[], Bytes::new()).await?;
        match answer.response.status() {
            // Kept elsewhere, but there.
            status if status.is_redirection() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => self.expect(answer, &what, StatusCode::OK).await.map(|_| true),
        }
    }

    /// Uploads a blob of this digest and size.
    ///
    /// # Errors
    /// [`Error`]; the registry checks the digest.
    pub async fn upload(
        &self,
        to: &Reference,
        digest: &str,
        size: u64,
        from: impl Read + Send + 'static,
    ) -> Result<(), Error> {
        let what = format!("uploading blob {digest} to {to}");
        let begin = self.address(to, "blobs/uploads/")?;
        let answer = self.ask(Method::POST, to, &begin, &what, &[], Bytes::new()).await?;
        let answer = self.expect(answer, &what, StatusCode::ACCEPTED).await?;
        let location = answer.response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.ok_or_else(|| Error::Wrong {
            what: what.clone(),
            why: "it does not say where to upload to".into(),
        })?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let place = self.elsewhere(&answer.from, &format!("{location}{separator}digest={digest}"), &what)?;
        // Elsewhere the address itself lets one in.
        let here = place.authority() == answer.from.authority();
        let authorization = self.known(to).filter(|_| here);
        let length = size.to_string();
        let headers = [(CONTENT_LENGTH, length.as_str()), (CONTENT_TYPE, "application/octet-stream")];
        let (body, left) = Stream::of(from, size);
        let request = request(Method::PUT, &place, &what, authorization, body.boxed(), &headers)?;
        let given_up = given_up(left, &what, &self.options.limits);
        let answer = self.exchange(request, &place, &what, given_up).await?;
        self.expect(answer, &what, StatusCode::CREATED).await.map(|_| ())
    }

    /// Puts a manifest under a digest or a tag.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn put_manifest(
        &self,
        to: &Reference,
        under: &str,
        kind: &str,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let what = format!("putting manifest {under} into {to}");
        let place = self.address(to, &format!("manifests/{under}"))?;
        // Asked for credentials it may be here for the first time: where all blobs are there already nothing else was
        // written, and what was given for reading does not let one write.
        let answer = self.ask(Method::PUT, to, &place, &what, &[(CONTENT_TYPE, kind)], bytes.into()).await?;
        self.expect(answer, &what, StatusCode::CREATED).await.map(|_| ())
    }
}

/// Waits until an upload goes on no more: no other piece is taken, or no answer comes to the last one.
async fn given_up(mut left: watch::Receiver<u64>, what: &str, limits: &Limits) -> Error {
    while *left.borrow_and_update() > 0 {
        match tokio::time::timeout(limits.idle, left.changed()).await {
            Ok(Ok(())) => {}
            // Whoever sends has let go of it: that is the answer, or the end of the connection.
            Ok(Err(_)) => break,
            Err(_) => return Error::NotTaken { what: what.to_owned(), limit: limits.idle },
        }
    }
    tokio::time::sleep(limits.store).await;
    Error::TimedOut { what: what.to_owned(), limit: limits.store }
}

/// A reader's bytes, read on a thread of their own.
struct Stream {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: watch::Sender<u64>,
}

impl Stream {
    /// The bytes, and how many of them have not been taken yet.
    fn of(mut from: impl Read + Send + 'static, size: u64) -> (Self, watch::Receiver<u64>) {
        let (sender, pieces) = mpsc::channel(2);
        tokio::task::spawn_blocking(move || {
            loop {
                let mut piece = vec![0; CHUNK];
                let read = match from.read(&mut piece) {
                    Ok(0) => return,
                    Ok(read) => read,
                    Err(error) => {
                        let _ = sender.blocking_send(Err(error));
                        return;
                    }
                };
                piece.truncate(read);
                if sender.blocking_send(Ok(piece.into())).is_err() {
                    return;
                }
            }
        });
        let (left, of_it) = watch::channel(size);
        (Self { pieces, left }, of_it)
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(context).map(|piece| {
            let piece = piece?;
            Some(piece.map(|bytes| {
                self.left.send_modify(|left| *left = left.saturating_sub(bytes.len() as u64));
                Frame::data(bytes)
            }))
        })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(*self.left.borrow())
    }
}
