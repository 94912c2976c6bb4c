//! The gRPC service: each call is let in by [`Node::admit`], then handed on.

mod attempt;
mod read;
mod stream;

use std::pin::Pin;
use std::sync::Arc;

use liveupdate_proto::common::v1::Target;
use liveupdate_proto::convert;
use liveupdate_proto::node::v1::node_server;
use liveupdate_proto::node::v1::{
    AbortReply, AbortRequest, ConfirmReply, ConfirmRequest, InspectReply, InspectRequest, OutcomeReply,
    OutcomeRequest, PreflightReply, PreflightRequest, ReleaseReply, ReleaseRequest, RunEvent, RunRequest,
    StageProgress, StageRequest, UninstallReply, UninstallRequest,
};
use liveupdate_proto::refusal::Refusal;
use liveupdate_registry::NotAReference;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::fetches::Wanted;
use crate::node::Node;

/// The service of one agent.
pub(crate) struct Service(pub(crate) Arc<Node>);

/// The bundle of a target in a registry; none: it lies under the bundle root.
fn wanted(message: Option<&Target>) -> Result<Option<Wanted>, Status> {
    let Some(message) = message.filter(|target| !target.repository.is_empty()) else { return Ok(None) };
    let repository = message.repository.parse();
    let repository = repository
        .map_err(|error: NotAReference| Refusal::malformed("target.repository", &error.to_string()))?;
    Ok(Some(Wanted { target: convert::target(Some(message))?, repository }))
}

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl node_server::Node for Service {
    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        self.0.admit(request.into_inner().subject).await?;
        read::inspect(&self.0).await.map(Response::new)
    }

    async fn preflight(
        &self,
        request: Request<PreflightRequest>,
    ) -> Result<Response<PreflightReply>, Status> {
        let request = request.into_inner();
        self.0.admit(request.subject.clone()).await?;
        read::preflight(&self.0, request).await.map(Response::new)
    }

    type StageStream = Sent<StageProgress>;

    async fn stage(&self, request: Request<StageRequest>) -> Result<Response<Self::StageStream>, Status> {
        let request = request.into_inner();
        let subject = self.0.admit_attempt(request.subject).await?;
        stream::stage(&self.0, &subject, request.target).await.map(Response::new)
    }

    type RunStream = Sent<RunEvent>;

    async fn run(
        &self,
        request: Request<Streaming<RunRequest>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        stream::run(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn abort(&self, request: Request<AbortRequest>) -> Result<Response<AbortReply>, Status> {
        let request = request.into_inner();
        let subject = self.0.admit_attempt(request.subject).await?;
        let report = attempt::abort(&self.0, subject, &request.reason).await?;
        Ok(Response::new(AbortReply { attempt: Some(report) }))
    }

    async fn outcome(&self, request: Request<OutcomeRequest>) -> Result<Response<OutcomeReply>, Status> {
        let subject = self.0.admit_attempt(request.into_inner().subject).await?;
        attempt::outcome(&self.0, subject).await.map(Response::new)
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmReply>, Status> {
        let subject = self.0.admit_attempt(request.into_inner().subject).await?;
        attempt::confirm(&self.0, subject).await?;
        Ok(Response::new(ConfirmReply {}))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseReply>, Status> {
        let subject = self.0.admit_attempt(request.into_inner().subject).await?;
        attempt::release(&self.0, subject).await.map(Response::new)
    }

    async fn uninstall(
        &self,
        request: Request<UninstallRequest>,
    ) -> Result<Response<UninstallReply>, Status> {
        let request = request.into_inner();
        let subject = self.0.admit(request.subject).await?;
        attempt::uninstall(&self.0, subject, request.dry_run).await?;
        Ok(Response::new(UninstallReply {}))
    }
}
