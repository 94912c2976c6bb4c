//! The controller as agents see it: they knock when they start, return or changed, and ask for certificates. A
//! knock carries no truth; it only moves the next look at the node nearer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use liveupdate_proto::controller::v1::controller_server::{Controller, ControllerServer};
use liveupdate_proto::controller::v1::{
    EnrolReply, EnrolRequest, KnockCause, KnockReply, KnockRequest, UninstallReply, UninstallRequest,
};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{AcceptLimits, Credentials, Identity, Peer, RefusedCalls, TlsError, incoming};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tower::layer::layer_fn;

use crate::admin::Shared;
use crate::engine::{Knock, Standing};
use crate::enrol::{Enroller, Reason, Refused};
use crate::rate::{Bucket, Rate};
use crate::uninstall::Uninstaller;

/// An agent is asked to be quiet for so long, unless it returns from a jump.
const QUIET: Duration = Duration::from_secs(30);
/// Twice what 10,000 agents do when a fleet is switched on with a jitter of 30 s.
const KNOCKS: Rate = Rate { burst: 2_000.0, per_second: 700.0 };
/// Until a call has to be read and answered.
const CALL: Duration = Duration::from_secs(5);
/// Whoever has no certificate may stay so long: for one enrolment, and slow questions to the API server.
const ANONYMOUS: Duration = Duration::from_secs(15);
/// No call here is as large as a quarter of this: an enrolment has 24 KiB at most.
const MESSAGE_BYTES: usize = 96 * 1024;

/// Lets knocks in, and enrols.
#[derive(Debug)]
pub struct Door {
    inbox: mpsc::Sender<Knock>,
    bucket: Mutex<Bucket>,
    shared: Arc<Shared>,
    enroller: Option<Enroller>,
    uninstaller: Option<Uninstaller>,
}

impl Door {
    /// Knocks go to `inbox`; without an enroller nobody gets a certificate, without an uninstaller no keeper goes.
    pub fn new(
        inbox: mpsc::Sender<Knock>,
        shared: Arc<Shared>,
        enroller: Option<Enroller>,
        uninstaller: Option<Uninstaller>,
    ) -> Self {
        let bucket = Mutex::new(Bucket::new(KNOCKS, Instant::now()));
        Self { inbox, bucket, shared, enroller, uninstaller }
    }

    async fn heard(&self, peer: &Peer, request: KnockRequest) -> Result<KnockReply, Unheard> {
        let claimed = Identity::node(&request.node, &request.node_uid);
        peer.require(&claimed).map_err(|error| match error {
            TlsError::NoCertificate => Unheard(Refusal::WrongPeer, "NoCertificate", error.to_string()),
            _ => Unheard(Refusal::WrongPeer, error.reason(), error.to_string()),
        })?;
        let busy = |why: &str| Unheard(Refusal::Busy, "Busy", format!("{why}; knock again in a while"));
        if !self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Err(busy("too many knocks at a time"));
        }
        if !self.shared.leads() {
            let why = "another process leads; knock there".to_owned();
            return Err(Unheard(Refusal::NotLeading, "NotLeading", why));
        }
        let returned = request.cause() == KnockCause::Returned;
        let (answer, standing) = oneshot::channel();
        let knock = Knock { node: request.node, uid: request.node_uid, returned, answer: Some(answer) };
        // A full inbox is a loop that has enough to do: the agent is looked at anyway before long.
        if self.inbox.try_send(knock).is_err() {
            return Err(busy("too many knocks are waiting"));
        }
        match standing.await {
            Ok(Standing::Known) => {}
            Ok(Standing::Unknown) => {
                let why = format!("there is no Node for {claimed}");
                return Err(Unheard(Refusal::NodeUnknown, "NodeUnknown", why));
            }
            Ok(Standing::NotListed) | Err(_) => {
                let why = "the nodes are not known yet; knock again in a while".to_owned();
                return Err(Unheard(Refusal::NotNow, "NotNow", why));
            }
        }
        self.shared.metrics.knock();
        let quiet = if returned { Duration::ZERO } else { QUIET };
        Ok(KnockReply { quiet_ms: u64::try_from(quiet.as_millis()).unwrap_or(0) })
    }
}

/// A knock that was not let in: what the agent is told, the exact word for the log, and more of it.
struct Unheard(Refusal, &'static str, String);

#[tonic::async_trait]
impl Controller for Door {
    async fn knock(&self, request: Request<KnockRequest>) -> Result<Response<KnockReply>, Status> {
        let peer = peer(&request)?;
        let heard = self.heard(&peer, request.into_inner()).await;
        heard.map(Response::new).map_err(|Unheard(word, reason, why)| {
            tracing::info!(peer = %peer.address, reason, why, "refused a knock");
            word.status(why)
        })
    }

    async fn enrol(&self, request: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        let peer = peer(&request)?;
        let enrolled = match &self.enroller {
            Some(enroller) => enroller.enrol(peer.address, request.get_ref()).await,
            None => Err(Refused::new(Reason::NotBuilt, "")),
        };
        enrolled.map(Response::new).map_err(|refused| refused.status())
    }

    async fn uninstall(
        &self,
        request: Request<UninstallRequest>,
    ) -> Result<Response<UninstallReply>, Status> {
        let peer = peer(&request)?;
        match &self.uninstaller {
            Some(uninstaller) => uninstaller.answer(peer.address, request.get_ref()).await.map(Response::new),
            None => Err(Refusal::NotBuilt.status("this controller removes no keepers")),
        }
    }
}

fn peer<T>(request: &Request<T>) -> Result<Peer, Status> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Refusal::WrongPeer.status("the connection is not one of TLS"))
}

/// Serves until `stop` is cancelled.
pub async fn serve(
    listener: tokio::net::TcpListener,
    credentials: Arc<Credentials>,
    door: Door,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let limits =
        AcceptLimits { anonymous: door.enroller.as_ref().map(|_| ANONYMOUS), ..AcceptLimits::default() };
    let service = ControllerServer::new(door)
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let connections = incoming(listener, credentials, limits, stop.clone());
    let watched = RefusedCalls { limit: Some(CALL), told_elsewhere: true };
    tonic::transport::Server::builder()
        .layer(layer_fn(move |service| watched.watch(service)))
        .max_concurrent_streams(Some(4))
        .http2_max_header_list_size(16 * 1024)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        // An agent knocks seldom: its connection is not worth its memory in between.
        .max_connection_age(Duration::from_secs(30))
        .add_service(service)
        .serve_with_incoming_shutdown(connections, stop.cancelled())
        .await
}
