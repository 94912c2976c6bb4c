//! Fetching bundles from a registry. One at a time; whoever wants the same one joins.
//!
//! ```text
//!  Preflight ─► wanted ─┬─ here already ──────────────► gates
//!                       └─ begin or join, and wait ───► gates, or why they cannot be read
//!  Stage ─────► wanted, to its end, and Abort ends it ─► load
//! ```
//! Gates are read of what is here, so that a preflight fetches, too: it waits as long as it may, and what takes longer
//! goes on without it. What failed is tried again by the next one.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use liveupdate_host::HostError;
use liveupdate_host::bundle::{Blob, Delivery};
use liveupdate_proto::causes::chain;
use liveupdate_registry::{Client, Reader};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fetches::{Begun, Entered, Fetch, Wanted};
use crate::node::Node;

/// Begins to fetch, or joins. Another one that is under way is ended first: who asks last is in more of a hurry.
pub(crate) fn begin(node: &Arc<Node>, wanted: &Wanted) -> watch::Receiver<Fetch> {
    let Entered { progress, begun } = node.fetches.enter(wanted, || node.ending.child_token());
    let Some(Begun { sender, cancel, before }) = begun else { return progress };
    let (node, wanted) = (Arc::clone(node), wanted.clone());
    tokio::spawn(async move {
        if let Some(before) = before {
            before.end().await;
        }
        let handle = Handle::current();
        let told = sender.clone();
        let done = tokio::task::spawn_blocking(move || receive(&node, &wanted, handle, &told, &cancel)).await;
        let broke = |_| HostError::NotFetched { why: "the fetch broke off".into() };
        sender.send_replace(Fetch::Over(done.map_err(broke).and_then(|done| done)));
    });
    progress
}

fn receive(
    node: &Node,
    wanted: &Wanted,
    handle: Handle,
    told: &watch::Sender<Fetch>,
    cancel: &CancellationToken,
) -> Result<(), HostError> {
    let deadline = std::time::Instant::now() + node.limits.stage;
    let repository = &wanted.repository;
    tracing::info!(node = node.name, %repository, digest = wanted.target.digest, "fetching a bundle");
    let mut registry = FromRegistry { client: Client::new(node.registry.clone()), wanted, handle, cancel };
    let mut late = false;
    let received = node.host.receive(&wanted.target, &mut registry, &mut |done, total| {
        told.send_replace(Fetch::Going { done, total });
        late = std::time::Instant::now() > deadline;
        !late && !cancel.is_cancelled()
    });
    let received = match received {
        Err(HostError::Cancelled) if late => {
            Err(HostError::NotFetched { why: format!("fetching took longer than {:?}", node.limits.stage) })
        }
        other => other,
    };
    match &received {
        Ok(()) => tracing::info!(node = node.name, %repository, "the bundle is here"),
        Err(why) => {
            let digest = &wanted.target.digest;
            tracing::warn!(node = node.name, %repository, digest, %why, "the bundle was not fetched");
        }
    }
    received
}

/// A registry, as the host's blocking thread reads it.
struct FromRegistry<'a> {
    client: Client,
    wanted: &'a Wanted,
    handle: Handle,
    cancel: &'a CancellationToken,
}

impl FromRegistry<'_> {
    fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, liveupdate_registry::Error>>,
    ) -> Result<T, String> {
        self.handle.block_on(async {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => Err("cancelled".to_owned()),
                answer = answer => answer.map_err(|error| chain(&error)),
            }
        })
    }
}

impl Delivery for FromRegistry<'_> {
    fn manifest(&mut self) -> Result<Vec<u8>, String> {
        self.wait(self.client.manifest(&self.wanted.repository, &self.wanted.target.digest))
    }

    fn blob(&mut self, blob: &Blob) -> Result<Box<dyn Read + '_>, String> {
        let digest = blob.digest.to_string();
        let blob = self.wait(self.client.blob(&self.wanted.repository, &digest, blob.size))?;
        let wait = |blob: &mut liveupdate_registry::Blob| self.wait(blob.next()).map_err(io::Error::other);
        Ok(Box::new(Reader::new(blob, wait)))
    }
}

/// Sees to it that a target's bundle is here, for at most so long; none: it is, or is none of a registry's.
pub(crate) async fn here(node: &Arc<Node>, wanted: Option<&Wanted>, patience: Duration) -> Option<Absent> {
    let wanted = wanted?;
    let target = wanted.target.clone();
    match node.on_host(move |node| node.host.has_bundle(&target)).await {
        Ok(true) => return None,
        Ok(false) => {}
        Err(status) => return Some(Absent::Failed(status.message().to_owned())),
    }
    let mut progress = begin(node, wanted);
    let over = progress.wait_for(|fetch| matches!(fetch, Fetch::Over(_)));
    let over = tokio::time::timeout(patience, over).await.map(|over| over.map(|fetch| fetch.clone()));
    match over {
        Ok(Ok(Fetch::Over(Ok(())))) => None,
        Ok(Ok(Fetch::Over(Err(HostError::NotTrusted { why })))) => Some(Absent::NotTrusted(why)),
        Ok(Ok(Fetch::Over(Err(error)))) => Some(Absent::Failed(error.to_string())),
        Ok(_) => Some(Absent::Failed("the fetch broke off".to_owned())),
        Err(_) => {
            let Fetch::Going { done, total } = *progress.borrow() else { return None };
            Some(Absent::Going { done, total })
        }
    }
}

/// Why a bundle is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// It is on its way.
    Going { done: u64, total: u64 },
    /// It is not fetched, because nobody trusted signed it.
    NotTrusted(String),
    /// It cannot be fetched.
    Failed(String),
}
