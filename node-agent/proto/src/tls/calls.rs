//! Writing down every call that is refused, by us or by the transport itself (too large, unreadable, too slow),
//! with one word for why.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{self, Bytes, Service, StdError};
use tonic::{Code, Status};

use super::Peer;
use crate::refusal::Refusal;

/// A layer for a server that logs refused calls.
#[derive(Clone, Copy, Debug)]
pub struct RefusedCalls {
    /// Until a call that is no stream has to be read and answered; none: the server's own limits are enough.
    pub limit: Option<Duration>,
    /// Refusals with one of our words are logged where they are made, with more than the word.
    pub told_elsewhere: bool,
}

/// See [`RefusedCalls`].
#[derive(Clone, Debug)]
pub struct Watched<S> {
    inner: S,
    settings: RefusedCalls,
}

impl RefusedCalls {
    /// Puts it around a service, as a tower layer.
    pub fn watch<S>(self, inner: S) -> Watched<S> {
        Watched { inner, settings: self }
    }
}

impl<S, B> Service<Request<Body>> for Watched<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: codegen::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let call = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let settings = self.settings;
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = match settings.limit {
                None => answer.await?,
                Some(limit) => match tokio::time::timeout(limit, answer).await {
                    Ok(response) => response?,
                    Err(_) => {
                        log(peer.as_ref(), &call, "TimedOut", "the call was not read and answered in time");
                        let why = format!("the call was not read and answered within {limit:?}");
                        return Ok(Refusal::DeadlineExceeded.status(why).into_http());
                    }
                },
            };
            // An error before the first answer stands in the headers.
            if let Some(status) = Status::from_header_map(response.headers()).filter(|s| s.code() != Code::Ok)
            {
                match Refusal::of(&status) {
                    Some(_) if settings.told_elsewhere => {}
                    Some(word) => log(peer.as_ref(), &call, word.as_str(), status.message()),
                    None => log(peer.as_ref(), &call, transport(&status), status.message()),
                }
            }
            Ok(response.map(Body::new))
        })
    }
}

fn log(peer: Option<&Peer>, call: &str, reason: &str, why: &str) {
    let address = peer.map(|peer| peer.address.to_string()).unwrap_or_default();
    let who = peer.and_then(Peer::identity).map(ToString::to_string).unwrap_or_default();
    tracing::info!(peer = address, who, call, reason, why, "refused a call");
}

/// What the transport objects to, in one word.
fn transport(status: &Status) -> &'static str {
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => "Oversized",
        Code::Unimplemented => "NoSuchCall",
        Code::DeadlineExceeded | Code::Cancelled => "TimedOut",
        // Its decoder's words are all of this code.
        Code::Internal | Code::InvalidArgument => "Malformed",
        _ => "Failed",
    }
}
