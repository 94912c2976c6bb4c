//! Staging: fetch, verify and load while guests run. Once per attempt; whoever calls again joins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use liveupdate_host::{HostError, Target};
use liveupdate_proto::common::v1::Subject;
use liveupdate_proto::refusal::Refusal;
use tokio::sync::watch;
use tonic::Status;

use crate::fetch;
use crate::fetches::{Fetch, Wanted};
use crate::node::Node;
use crate::stages::{Begun, Entered, Stage};

/// Stops the staging of an attempt, if it is still under way.
pub(crate) fn cancel(node: &Node, attempt: &str) {
    if let Some(target) = node.stages.cancel(attempt) {
        // A fetch may wait for a registry, where nobody looks at the flag.
        node.fetches.cancel(&target);
    }
}

/// Begins the staging of an attempt, or joins it. What has ended is begun again: the host knows what is
/// loaded, and need not load it twice.
pub(crate) fn begin(
    node: &Arc<Node>,
    subject: &Subject,
    target: Target,
    wanted: Option<Wanted>,
) -> Result<watch::Receiver<Stage>, Status> {
    let Entered { progress, begun } = node.stages.enter(subject, &target)?;
    let Some(Begun { sender, cancel }) = begun else { return Ok(progress) };
    let node = Arc::clone(node);
    tokio::spawn(async move {
        if let Some(wanted) = wanted.filter(|wanted| wanted.target == target)
            && let Err(error) = fetched(&node, &wanted, &sender, &cancel).await
        {
            // Why is written down where it is fetched.
            sender.send_replace(Stage::Failed(match error {
                HostError::Malformed { .. } => Refusal::BundleUnusable.status(error.to_string()),
                error => node.host_error(&error),
            }));
            return;
        }
        // Its end is told by it; broken off, the sender goes with it.
        let _ = tokio::task::spawn_blocking(move || load(&node, &target, &sender, &cancel)).await;
    });
    Ok(progress)
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
    let mut progress = fetch::begin(node, wanted);
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
        Err(error) => {
            let Target { bundle, digest, .. } = target;
            tracing::warn!(node = node.name, bundle, digest, why = %error, "the bundle was not staged");
            Stage::Failed(Refusal::BundleUnusable.status(error.to_string()))
        }
    });
}
