//! The controller as agents see it: they knock when they start, return or changed. A knock carries no
//! truth; it only moves the next look at the node nearer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use liveupdate_proto::MAX_MESSAGE_BYTES;
use liveupdate_proto::controller::v1::controller_server::{Controller, ControllerServer};
use liveupdate_proto::controller::v1::{EnrolReply, EnrolRequest, KnockCause, KnockReply, KnockRequest};
use liveupdate_proto::tls::{AcceptLimits, Credentials, Identity, Peer, incoming};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::admin::Shared;
use crate::engine::Knock;

/// An agent is asked to be quiet for so long, unless it returns from a jump.
const QUIET: Duration = Duration::from_secs(30);
/// Knocks that are let in per second, and at once: twice what 10,000 agents do when a fleet is switched on
/// with a jitter of 30 s.
const PER_SECOND: f64 = 700.0;
const BURST: f64 = 2_000.0;

/// A bucket that fills with time.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + since * PER_SECOND).min(BURST);
        self.filled = now;
        let open = self.tokens >= 1.0;
        if open {
            self.tokens -= 1.0;
        }
        open
    }
}

/// Lets knocks in.
#[derive(Debug)]
pub struct Door {
    inbox: mpsc::Sender<Knock>,
    bucket: Mutex<Bucket>,
    shared: Arc<Shared>,
}

impl Door {
    /// Knocks go to `inbox`.
    pub fn new(inbox: mpsc::Sender<Knock>, shared: Arc<Shared>) -> Self {
        let bucket = Mutex::new(Bucket { tokens: BURST, filled: Instant::now() });
        Self { inbox, bucket, shared }
    }
}

#[tonic::async_trait]
impl Controller for Door {
    async fn knock(&self, request: Request<KnockRequest>) -> Result<Response<KnockReply>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let knock = request.into_inner();
        let claimed = Identity::node(&knock.node, &knock.node_uid);
        peer.ok_or_else(|| Status::unauthenticated("there is no certificate"))?
            .require(&claimed)
            .map_err(|error| Status::permission_denied(error.to_string()))?;
        if !self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Err(Status::resource_exhausted("too many knocks at a time; knock again in a while"));
        }
        let cause = knock.cause();
        // A full inbox is a loop that has enough to do: the agent is looked at anyway before long.
        let returned = cause == KnockCause::Returned;
        if self.inbox.try_send(Knock { node: knock.node, uid: knock.node_uid, returned }).is_err() {
            return Err(Status::resource_exhausted("too many knocks are waiting; knock again in a while"));
        }
        self.shared.metrics.knock();
        let quiet = if returned { Duration::ZERO } else { QUIET };
        Ok(Response::new(KnockReply { quiet_ms: u64::try_from(quiet.as_millis()).unwrap_or(0) }))
    }

    async fn enrol(&self, _: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        Err(Status::unimplemented(
            "this controller signs no certificates: give the agent one in a file (--tls-dir)",
        ))
    }
}

/// Serves until `stop` is cancelled.
pub async fn serve(
    listener: tokio::net::TcpListener,
    credentials: Arc<Credentials>,
    door: Door,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = ControllerServer::new(door)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let connections = incoming(listener, credentials, AcceptLimits::default(), stop.clone());
    tonic::transport::Server::builder()
        .timeout(Duration::from_secs(5))
        .max_concurrent_streams(Some(4))
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        // An agent knocks seldom: its connection is not worth its memory in between.
        .max_connection_age(Duration::from_secs(30))
        .add_service(service)
        .serve_with_incoming_shutdown(connections, stop.cancelled())
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bucket_lets_a_burst_in_and_then_a_rate() {
        let start = Instant::now();
        let mut bucket = Bucket { tokens: BURST, filled: start };
        assert_eq!((0..5_000).filter(|_| bucket.take(start)).count(), 2_000);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..5_000).filter(|_| bucket.take(later)).count(), 700);
    }
}
