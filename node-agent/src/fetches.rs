//! The fetch that an agent has under way, if any.

use std::sync::{Mutex, PoisonError};

use liveupdate_host::{HostError, Target};
use liveupdate_registry::Reference;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A target's bundle in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) target: Target,
    pub(crate) repository: Reference,
}

/// How far a fetch is.
#[derive(Clone, Debug)]
pub(crate) enum Fetch {
    Going { done: u64, total: u64 },
    Over(Result<(), HostError>),
}

/// One that is under way, or was.
pub(crate) struct Fetching {
    wanted: Wanted,
    progress: watch::Receiver<Fetch>,
    cancel: CancellationToken,
}

impl Fetching {
    fn is_over(&self) -> bool {
        matches!(*self.progress.borrow(), Fetch::Over(_))
    }

    /// Ends it, and waits until it has.
    pub(crate) async fn end(mut self) {
        self.cancel.cancel();
        // Its sender goes with it, which is as good.
        let _ = self.progress.wait_for(|fetch| matches!(fetch, Fetch::Over(_))).await;
    }
}

/// What whoever wants something fetched finds.
pub(crate) struct Entered {
    pub(crate) progress: watch::Receiver<Fetch>,
    /// None: somebody fetches it already.
    pub(crate) begun: Option<Begun>,
}

/// For who has to fetch.
pub(crate) struct Begun {
    pub(crate) sender: watch::Sender<Fetch>,
    pub(crate) cancel: CancellationToken,
    /// To be ended first.
    pub(crate) before: Option<Fetching>,
}

/// The one fetch of an agent.
#[derive(Default)]
pub(crate) struct Fetches {
    current: Mutex<Option<Fetching>>,
}

impl Fetches {
    /// Joins the fetch of this target, or takes the place of what is under way.
    pub(crate) fn enter(&self, wanted: &Wanted, token: impl FnOnce() -> CancellationToken) -> Entered {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let before = current.take().filter(|fetch| !fetch.is_over());
        if let Some(same) =
            before.as_ref().filter(|fetch| fetch.wanted == *wanted && !fetch.cancel.is_cancelled())
        {
            let progress = same.progress.clone();
            *current = before;
            return Entered { progress, begun: None };
        }
        let (sender, progress) = watch::channel(Fetch::Going { done: 0, total: 0 });
        let cancel = token();
        let fetching =
            Fetching { wanted: wanted.clone(), progress: progress.clone(), cancel: cancel.clone() };
        *current = Some(fetching);
        Entered { progress, begun: Some(Begun { sender, cancel, before }) }
    }

    /// Ends the fetch of this target, if it is still under way.
    pub(crate) fn cancel(&self, target: &Target) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fetch) = current.as_ref().filter(|fetch| fetch.wanted.target == *target) {
            fetch.cancel.cancel();
        }
    }
}
