//! Staging: fetch, verify and load while guests run. Once per attempt; whoever calls again joins.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use liveupdate_host::{HostError, Target};
use liveupdate_proto::common::v1::Subject;
use liveupdate_proto::node::v1::StageProgress;
use liveupdate_proto::refusal::Refusal;
use tokio::sync::watch;
use tonic::Status;

use crate::fetch::{Fetch, Wanted};
use crate::node::Node;

/// How far a staging is.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    Going { done: u64, total: u64 },
    Loaded { total: u64 },
    Failed(Status),
}

impl Stage {
    /// As a message; an error ends the stream.
    pub(crate) fn message(&self) -> Result<StageProgress, Status> {
        match self {
            Self::Going { done, total } => {
                Ok(StageProgress { bytes_done: *done, bytes_total: *total, done: false })
            }
            Self::Loaded { total } => {
                Ok(StageProgress { bytes_done: *total, bytes_total: *total, done: true })
            }
            Self::Failed(status) => Err(status.clone()),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        !matches!(self, Self::Going { .. })
    }
}

struct Staging {
    attempt: String,
    target: Target,
    progress: watch::Receiver<Stage>,
    cancel: Arc<AtomicBool>,
}

/// The one staging of an agent.
#[derive(Default)]
pub(crate) struct Stages {
    current: Mutex<Option<Staging>>,
}

impl Stages {
    /// Stops the staging of an attempt, if it is still under way.
    pub(crate) fn cancel(&self, node: &Node, attempt: &str) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(staging) = current.as_ref().filter(|staging| staging.attempt == attempt) {
            staging.cancel.store(true, Ordering::Relaxed);
            // A fetch may wait for a registry, where nobody looks at the flag.
            node.fetches.cancel(&staging.target);
        }
    }

    /// Something is being staged.
    pub(crate) fn busy(&self) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|staging| !staging.progress.borrow().is_over())
    }

    /// Begins the staging of an attempt, or joins it. What has ended is begun again: the host knows what is
    /// loaded, and need not load it twice.
    pub(crate) fn begin(
        &self,
        node: &Arc<Node>,
        subject: &Subject,
        target: Target,
        wanted: Option<Wanted>,
    ) -> Result<watch::Receiver<Stage>, Status> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(staging) = current.as_ref().filter(|staging| !staging.progress.borrow().is_over()) {
            if staging.attempt != subject.attempt {
                return Err(Refusal::OtherAttempt
                    .status(format!("attempt {} is being staged; abort it first", staging.attempt)));
            }
            if staging.target != target {
                return Err(Refusal::malformed("target", "differs from the one this attempt began with"));
            }
            return Ok(staging.progress.clone());
        }
        let (sender, progress) = watch::channel(Stage::Going { done: 0, total: 0 });
        let cancel = Arc::new(AtomicBool::new(false));
        let staging = Staging {
            attempt: subject.attempt.clone(),
            target: target.clone(),
            progress: progress.clone(),
            cancel: Arc::clone(&cancel),
        };
        *current = Some(staging);
        let node = Arc::clone(node);
        tokio::spawn(async move {
            if let Some(wanted) = wanted.filter(|wanted| wanted.target == target)
                && let Err(error) = fetched(&node, &wanted, &sender, &cancel).await
            {
                sender.send_replace(Stage::Failed(node.host_error(&error)));
                return;
            }
            // Its end is told by it; broken off, the sender goes with it.
            let _ = tokio::task::spawn_blocking(move || load(&node, &target, &sender, &cancel)).await;
        });
        Ok(progress)
    }
}

/// Sees to it that the bundle is here, and tells how far that is.
async fn fetched(
    node: &Arc<Node>,
    wanted: &Wanted,
    sender: &watch::Sender<Stage>,
    cancel: &AtomicBool,
) -> Result<(), HostError> {
    let target = wanted.target.clone();
    let asked = Arc::clone(node);
    let has = tokio::task::spawn_blocking(move || asked.host.has_bundle(&target)).await;
    if has.map_err(|_| HostError::Cancelled)?? {
        return Ok(());
    }
    let mut progress = node.fetches.begin(node, wanted);
    if cancel.load(Ordering::Relaxed) {
        // It was asked for before there was anything to end.
        node.fetches.cancel(&wanted.target);
    }
    loop {
        match progress.borrow_and_update().clone() {
            Fetch::Going { done, total } => {
                sender.send_replace(Stage::Going { done, total });
            }
            Fetch::Over(done) => return done,
        }
        if progress.changed().await.is_err() {
            return Err(HostError::NotFetched { why: "the fetch broke off".into() });
        }
    }
}

fn load(node: &Node, target: &Target, sender: &watch::Sender<Stage>, cancel: &AtomicBool) {
    let deadline = Instant::now() + node.limits.stage;
    let (mut total, mut late) = (0, false);
    let done = node.host.staged().and_then(|staged| {
        if staged.as_ref() == Some(target) {
            return Ok(());
        }
        node.host.stage(target, &mut |done, all| {
            total = all;
            late = Instant::now() > deadline;
            sender.send_replace(Stage::Going { done, total: all });
            !late && !cancel.load(Ordering::Relaxed) && !node.ending.is_cancelled()
        })
    });
    sender.send_replace(match done {
        Ok(()) => Stage::Loaded { total },
        Err(HostError::Cancelled) if late => Stage::Failed(
            Refusal::DeadlineExceeded.status(format!("staging took longer than {:?}", node.limits.stage)),
        ),
        // The machine or this agent ends: whoever comes after that stages anew.
        Err(error @ (HostError::Cancelled | HostError::PoweredOff)) => Stage::Failed(node.host_error(&error)),
        // Neither bundle nor kernel will think better of it: whoever waits for the target need not go on.
        Err(error) => Stage::Failed(Refusal::BundleUnusable.status(error.to_string())),
    });
}
