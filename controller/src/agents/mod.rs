//! The agents on the nodes as the controller needs them: a trait, so that a simulation can stand in.

use std::future::Future;

use futures::stream::LocalBoxStream;
use liveupdate_proto::node::v1::{
    AbortReply, AbortRequest, ConfirmRequest, InspectReply, InspectRequest, OutcomeReply, OutcomeRequest,
    Permission, PreflightReply, PreflightRequest, ReleaseReply, ReleaseRequest, RunEvent, StageProgress,
    StageRequest, Start,
};
use tokio::sync::mpsc::UnboundedReceiver;

pub mod check;
pub mod facts;
pub mod grpc;

/// Where an agent is, and who it must prove to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Name of its Node.
    pub node: String,
    /// UID of its Node.
    pub uid: String,
    /// `host:port`: a hint, never trusted.
    pub address: String,
}

/// Why a call to an agent did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// Nothing answers there, or not in time.
    #[error("{0}")]
    Unreachable(String),
    /// It answered as somebody else, or something that makes no sense.
    #[error("{0}")]
    Misbehaves(String),
    /// It does not know what the call is about.
    #[error("the agent does not know it: {0}")]
    NotFound(String),
    /// It will not do that; the words are its own.
    #[error("the agent refuses: {0}")]
    Refused(String),
    /// It tried to stage the target, and what it found lets no other try succeed; the words are its own.
    #[error("the target cannot be staged: {0}")]
    CannotStage(String),
}

/// Result of a call to an agent.
pub type Result<T> = std::result::Result<T, AgentError>;
/// What an agent says bit by bit.
pub type Messages<T> = LocalBoxStream<'static, Result<T>>;

/// All agents. Nothing that they answer is believed here: see [`check`].
pub trait Agents: 'static {
    /// All that the agent knows.
    fn inspect(&self, peer: &Peer, request: InspectRequest) -> impl Future<Output = Result<InspectReply>>;
    /// The gates for a target.
    fn preflight(
        &self,
        peer: &Peer,
        request: PreflightRequest,
    ) -> impl Future<Output = Result<PreflightReply>>;
    /// Loads the target while guests run.
    fn stage(
        &self,
        peer: &Peer,
        request: StageRequest,
    ) -> impl Future<Output = Result<Messages<StageProgress>>>;
    /// Carries the attempt out; permissions that are sent go to the agent.
    fn run(
        &self,
        peer: &Peer,
        start: Start,
        permissions: UnboundedReceiver<Permission>,
    ) -> impl Future<Output = Result<Messages<RunEvent>>>;
    /// Undoes an attempt before its commit.
    fn abort(&self, peer: &Peer, request: AbortRequest) -> impl Future<Output = Result<AbortReply>>;
    /// What became of an attempt.
    fn outcome(&self, peer: &Peer, request: OutcomeRequest) -> impl Future<Output = Result<OutcomeReply>>;
    /// The outcome is on record.
    fn confirm(&self, peer: &Peer, request: ConfirmRequest) -> impl Future<Output = Result<()>>;
    /// Gives up what is kept of an attempt, for good.
    fn release(&self, peer: &Peer, request: ReleaseRequest) -> impl Future<Output = Result<ReleaseReply>>;
    /// The machine there has begun anew: what was open to it is of no use any more.
    fn hang_up(&self, _node: &str) {}
    /// Closes what was not used for a while. Called now and then.
    fn tidy(&self) {}
}
