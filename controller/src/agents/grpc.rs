//! Agents over gRPC and mTLS. Connections are made on demand and closed when idle: a thousand open ones
//! would be most of the process' memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::StreamExt;
use liveupdate_proto::MAX_MESSAGE_BYTES;
use liveupdate_proto::causes::chain;
use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::node::v1::{
    AbortReply, AbortRequest, ConfirmRequest, InspectReply, InspectRequest, OutcomeReply, OutcomeRequest,
    Permission, PreflightReply, PreflightRequest, ReleaseReply, ReleaseRequest, RunEvent, RunRequest,
    StageProgress, StageRequest, Start, run_request,
};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, TlsError, connect};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::check::{cut, plain};
use super::{AgentError, Agents, Messages, Peer, Result};

/// An unused connection is kept for the next call of the same attempt, no longer.
const IDLE: Duration = Duration::from_secs(5);
/// Most connections that are kept idle, at about 60 KiB each.
const KEPT: usize = 64;

/// How the message of a status begins that stands for bytes which are no message.
const NOT_DECODED: &str = "failed to decode Protobuf message";

/// Agents over gRPC.
#[derive(Debug)]
pub struct Grpc {
    credentials: Arc<Credentials>,
    idle: RefCell<HashMap<Peer, (Channel, Instant)>>,
}

impl Grpc {
    /// Dials as the owner of `credentials`.
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials, idle: RefCell::default() }
    }

    async fn client(&self, peer: &Peer) -> Result<NodeClient<Channel>> {
        let kept = self.idle.borrow().get(peer).map(|(channel, _)| channel.clone());
        let channel = match kept {
            Some(channel) => channel,
            None => {
                let identity = Identity::node(&peer.node, &peer.uid);
                connect(&self.credentials, &identity, &peer.address, DialOptions::default())
                    .await
                    .map_err(|error| tls(&error))?
            }
        };
        self.keep(peer, &channel);
        Ok(NodeClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    fn keep(&self, peer: &Peer, channel: &Channel) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= KEPT && !idle.contains_key(peer) {
            let oldest = idle.iter().min_by_key(|(_, (_, used))| *used).map(|(peer, _)| peer.clone());
            oldest.and_then(|peer| idle.remove(&peer));
        }
        idle.insert(peer.clone(), (channel.clone(), Instant::now()));
    }

    /// A connection over which a call failed is not used again: the node may have jumped.
    fn fail(&self, peer: &Peer, status: &Status) -> AgentError {
        let error = error(peer, status);
        if !matches!(error, AgentError::NotFound(_) | AgentError::Refused(_)) {
            self.idle.borrow_mut().remove(peer);
        }
        error
    }
}

fn tls(error: &TlsError) -> AgentError {
    let text = chain(error);
    match error {
        TlsError::WrongPeer { .. } => AgentError::Misbehaves(text),
        _ => AgentError::Unreachable(text),
    }
}

fn error(peer: &Peer, status: &Status) -> AgentError {
    if let Some(error) = TlsError::of_status(status) {
        return tls(&error);
    }
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => AgentError::NotFound(message),
        Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Aborted
        | Code::InvalidArgument
        | Code::ResourceExhausted
        | Code::AlreadyExists => AgentError::Refused(message),
        Code::Unimplemented => AgentError::Refused(format!("it does not know the call: {message}")),
        Code::OutOfRange | Code::DataLoss => AgentError::Misbehaves(message),
        // The word of our own decoder: it answered, and what it answered is nothing.
        Code::Internal if message.starts_with(NOT_DECODED) => {
            AgentError::Misbehaves(format!("its answer makes no sense: {}", cut(&message, 200)))
        }
        // The chain below repeats itself in three libraries' words; the first says enough.
        _ => AgentError::Unreachable(format!("{}: {}", peer.address, cut(&message, 200))),
    }
}

/// As [`error`], of a staging.
fn stage_error(peer: &Peer, status: &Status) -> AgentError {
    match Refusal::of(status) {
        Some(Refusal::BundleUnusable) => AgentError::CannotStage(plain(status.message(), 512)),
        _ => error(peer, status),
    }
}

fn messages<T: 'static>(
    peer: &Peer,
    streaming: Streaming<T>,
    error: fn(&Peer, &Status) -> AgentError,
) -> Messages<T> {
    let peer = peer.clone();
    streaming.map(move |message| message.map_err(|status| error(&peer, &status))).boxed_local()
}

macro_rules! unary {
    ($name:ident, $request:ty, $reply:ty) => {
        async fn $name(&self, peer: &Peer, request: $request) -> Result<$reply> {
            let mut client = self.client(peer).await?;
            let reply = client.$name(Request::new(request)).await;
            reply.map(tonic::Response::into_inner).map_err(|status| self.fail(peer, &status))
        }
    };
}

impl Agents for Grpc {
    unary!(inspect, InspectRequest, InspectReply);
    unary!(preflight, PreflightRequest, PreflightReply);
    unary!(abort, AbortRequest, AbortReply);
    unary!(outcome, OutcomeRequest, OutcomeReply);
    unary!(release, ReleaseRequest, ReleaseReply);

    async fn confirm(&self, peer: &Peer, request: ConfirmRequest) -> Result<()> {
        let mut client = self.client(peer).await?;
        let reply = client.confirm(Request::new(request)).await;
        reply.map(drop).map_err(|status| self.fail(peer, &status))
    }

    async fn stage(&self, peer: &Peer, request: StageRequest) -> Result<Messages<StageProgress>> {
        let mut client = self.client(peer).await?;
        let reply = client.stage(Request::new(request)).await;
        reply
            .map(|reply| messages(peer, reply.into_inner(), stage_error))
            .map_err(|status| self.fail(peer, &status))
    }

    async fn run(
        &self,
        peer: &Peer,
        start: Start,
        permissions: UnboundedReceiver<Permission>,
    ) -> Result<Messages<RunEvent>> {
        let mut client = self.client(peer).await?;
        let first = RunRequest { message: Some(run_request::Message::Start(start)) };
        let granted = UnboundedReceiverStream::new(permissions)
            .map(|permission| RunRequest { message: Some(run_request::Message::Permission(permission)) });
        let requests = futures::stream::iter([first]).chain(granted);
        let reply = client.run(Request::new(requests)).await;
        reply
            .map(|reply| messages(peer, reply.into_inner(), error))
            .map_err(|status| self.fail(peer, &status))
    }

    fn hang_up(&self, node: &str) {
        self.idle.borrow_mut().retain(|peer, _| peer.node != node);
    }

    fn tidy(&self) {
        self.idle.borrow_mut().retain(|_, (_, used)| used.elapsed() < IDLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_mean_nothing_are_misbehaviour_and_not_silence() {
        let peer = Peer { node: "a".into(), uid: "u".into(), address: "127.0.0.1:1".into() };
        let found = error(&peer, &Status::internal("failed to decode Protobuf message: invalid varint"));
        assert!(matches!(&found, AgentError::Misbehaves(why) if why.contains("makes no sense")), "{found:?}");
        let broken = error(&peer, &Status::internal("h2 protocol error: connection reset"));
        assert!(matches!(broken, AgentError::Unreachable(_)), "{broken:?}");
    }
}
