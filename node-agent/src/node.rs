//! What all calls of one agent share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use liveupdate_host::{Host, HostError};
use liveupdate_keeper::{ClientError, KeeperClient};
use liveupdate_proto::causes::chain;
use liveupdate_proto::common::v1::{AttemptReport, Subject};
use liveupdate_proto::keeper::v1::{Reply, Request, reply, request};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::{MINOR_VERSION, convert, understands};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::config::Limits;
use crate::fence::{Fence, Fenced};
use crate::fetches::Fetches;
use crate::knocker::Knocker;
use crate::misbehaviour::Misbehaviour;
use crate::run::runs::Runs;
use crate::stages::Stages;

/// One agent's node.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) limits: Limits,
    pub(crate) host: Arc<dyn Host>,
    keeper: Arc<dyn KeeperClient>,
    fence: Fence,
    pub(crate) misbehaviour: Misbehaviour,
    pub(crate) knocker: Knocker,
    pub(crate) runs: Runs,
    pub(crate) stages: Stages,
    pub(crate) registry: liveupdate_registry::Options,
    pub(crate) fetches: Fetches,
    /// What was written down last of a target that does not fit: it is asked about every minute.
    pub(crate) unfit: Mutex<String>,
    /// Cancelled when the agent is to end; everything that it spawned ends with it.
    pub(crate) ending: CancellationToken,
    powered_off: AtomicBool,
}

impl Node {
    pub(crate) fn new(
        config: &crate::AgentConfig,
        host: Arc<dyn Host>,
        keeper: Arc<dyn KeeperClient>,
        knocker: Knocker,
        ending: CancellationToken,
    ) -> Self {
        Self {
            name: config.node.clone(),
            uid: config.node_uid.clone(),
            limits: config.limits,
            host,
            keeper,
            fence: Fence::default(),
            misbehaviour: Misbehaviour::of(config),
            knocker,
            runs: Runs::default(),
            stages: Stages::default(),
            registry: config.registry.clone(),
            fetches: Fetches::default(),
            unfit: Mutex::default(),
            ending,
            powered_off: AtomicBool::new(false),
        }
    }

    /// The machine is no more, as far as this process knows.
    pub(crate) fn powered_off(&self) -> bool {
        self.powered_off.load(Ordering::Relaxed)
    }

    fn power_off(&self) {
        self.powered_off.store(true, Ordering::Relaxed);
        self.ending.cancel();
    }

    /// Does something with the host on a blocking thread.
    pub(crate) async fn on_host<T: Send + 'static>(
        self: &Arc<Self>,
        operation: impl FnOnce(&Node) -> Result<T, HostError> + Send + 'static,
    ) -> Result<T, Status> {
        let node = Arc::clone(self);
        match tokio::task::spawn_blocking(move || operation(&node)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.host_error(&error)),
            Err(_) => Err(Refusal::HostFailed.status("the operation on the machine broke off")),
        }
    }

    /// The answer to a call that failed on the machine.
    pub(crate) fn host_error(&self, error: &HostError) -> Status {
        let word = match error {
            HostError::PoweredOff => {
                self.power_off();
                Refusal::PoweredOff
            }
            HostError::NoSuchBundle { .. }
            | HostError::DigestMismatch { .. }
            | HostError::ReleaseMismatch { .. }
            | HostError::NotFetched { .. }
            | HostError::NotTrusted { .. } => Refusal::BundleUnusable,
            HostError::Cancelled => Refusal::Aborted,
            HostError::WrongMoment { .. } => Refusal::WrongState,
            _ => Refusal::HostFailed,
        };
        word.status(error.to_string())
    }

    /// Asks the keeper. A refusal of its own is an answer, not an error.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        subject: Subject,
        message: request::Message,
    ) -> Result<reply::Message, Status> {
        let keeper = Arc::clone(&self.keeper);
        let request = Request { subject: Some(subject), message: Some(message) };
        let reply = tokio::task::spawn_blocking(move || keeper.ask(&request)).await;
        match reply {
            Ok(Ok(Reply { message: Some(message) })) => Ok(message),
            Ok(Ok(Reply { message: None })) => {
                Err(Refusal::KeeperUnreachable.status("the keeper's answer is empty"))
            }
            Ok(Err(error @ ClientError::PoweredOff)) => {
                self.power_off();
                Err(Refusal::PoweredOff.status(error.to_string()))
            }
            Ok(Err(error)) => Err(Refusal::KeeperUnreachable.status(chain(&error))),
            Err(_) => Err(Refusal::KeeperUnreachable.status("the call to the keeper broke off")),
        }
    }

    /// Asks the keeper; its refusals are errors.
    pub(crate) async fn kept(
        self: &Arc<Self>,
        subject: Subject,
        message: request::Message,
    ) -> Result<Option<AttemptReport>, Status> {
        match self.ask(subject, message).await? {
            reply::Message::Attempt(report) => Ok(Some(report)),
            reply::Message::Idle(_) => Ok(None),
            reply::Message::Refusal(refusal) => Err(refused(&refusal)),
        }
    }

    /// A subject of the agent's own, for asking the keeper how things are. It carries the highest epoch
    /// that was seen, so that the keeper's fence lets it through.
    pub(crate) async fn own_subject(self: &Arc<Self>) -> Result<Subject, Status> {
        let epoch = self.on_host(|node| node.fence.highest(&node.host)).await?;
        Ok(Subject {
            node: self.name.clone(),
            node_uid: self.uid.clone(),
            epoch: epoch.as_ref().map(Into::into),
            minor_version: MINOR_VERSION,
            ..Subject::default()
        })
    }

    /// Lets a call in: it is for this node, of a version that is understood, and of the newest leadership.
    pub(crate) async fn admit(self: &Arc<Self>, subject: Option<Subject>) -> Result<Subject, Status> {
        let subject = subject.ok_or_else(|| Refusal::malformed("subject", "is missing"))?;
        self.misbehaviour.delay().await;
        convert::subject(&subject)?;
        if subject.node != self.name || subject.node_uid != self.uid {
            return Err(Refusal::WrongNode.status(format!(
                "this is node {} with UID {}, the call is for {} with UID {}",
                self.name, self.uid, subject.node, subject.node_uid
            )));
        }
        if !understands(subject.minor_version) {
            return Err(Refusal::VersionSkew.status(format!(
                "this agent speaks minor version {MINOR_VERSION}, the caller {}; update the older one first",
                subject.minor_version
            )));
        }
        let epoch = convert::epoch(&subject)?;
        if self.misbehaviour.accepts_any_epoch() {
            return Ok(subject);
        }
        let passed = match self.fence.known(&epoch) {
            Some(known) => known,
            None => {
                let node = Arc::clone(self);
                tokio::task::spawn_blocking(move || node.fence.pass(&node.host, &epoch))
                    .await
                    .map_err(|_| Refusal::HostFailed.status("the fence could not be read"))?
            }
        };
        match passed {
            Ok(()) => Ok(subject),
            Err(Fenced::Refused(refused)) => Err(Refusal::from(&refused).status(refused.to_string())),
            Err(Fenced::Host(error)) => Err(self.host_error(&error)),
        }
    }

    /// As [`Node::admit`], for a call about an attempt.
    pub(crate) async fn admit_attempt(self: &Arc<Self>, subject: Option<Subject>) -> Result<Subject, Status> {
        let subject = self.admit(subject).await?;
        if subject.attempt.is_empty() || subject.revision.is_empty() {
            return Err(Refusal::malformed("subject.attempt", "this call needs an attempt and its revision"));
        }
        Ok(subject)
    }
}

/// The keeper's refusal, as the agent's.
pub(crate) fn refused(refusal: &liveupdate_proto::keeper::v1::Refusal) -> Status {
    Refusal::from(refusal.cause()).status(format!("the keeper refuses: {}", refusal.message))
}
