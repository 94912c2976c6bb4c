//! The staging that an agent has under way, if any.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use liveupdate_host::Target;
use liveupdate_proto::common::v1::Subject;
use liveupdate_proto::node::v1::StageProgress;
use liveupdate_proto::refusal::Refusal;
use tokio::sync::watch;
use tonic::Status;

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

/// What whoever wants an attempt staged finds.
pub(crate) struct Entered {
    pub(crate) progress: watch::Receiver<Stage>,
    /// None: it is being staged already.
    pub(crate) begun: Option<Begun>,
}

/// For who has to stage.
pub(crate) struct Begun {
    pub(crate) sender: watch::Sender<Stage>,
    pub(crate) cancel: Arc<AtomicBool>,
}

/// The one staging of an agent.
#[derive(Default)]
pub(crate) struct Stages {
    current: Mutex<Option<Staging>>,
}

impl Stages {
    /// Tells the staging of an attempt to stop, if it is still under way; gives its target.
    pub(crate) fn cancel(&self, attempt: &str) -> Option<Target> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let staging = current.as_ref().filter(|staging| staging.attempt == attempt)?;
        staging.cancel.store(true, Ordering::Relaxed);
        Some(staging.target.clone())
    }

    /// Something is being staged.
    pub(crate) fn busy(&self) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|staging| !staging.progress.borrow().is_over())
    }

    /// Joins the staging of an attempt, or takes the place of one that has ended.
    pub(crate) fn enter(&self, subject: &Subject, target: &Target) -> Result<Entered, Status> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(staging) = current.as_ref().filter(|staging| !staging.progress.borrow().is_over()) {
            if staging.attempt != subject.attempt {
                return Err(Refusal::OtherAttempt
                    .status(format!("attempt {} is being staged; abort it first", staging.attempt)));
            }
            if staging.target != *target {
                return Err(Refusal::malformed("target", "differs from the one this attempt began with"));
            }
            return Ok(Entered { progress: staging.progress.clone(), begun: None });
        }
        let (sender, progress) = watch::channel(Stage::Going { done: 0, total: 0 });
        let cancel = Arc::new(AtomicBool::new(false));
        *current = Some(Staging {
            attempt: subject.attempt.clone(),
            target: target.clone(),
            progress: progress.clone(),
            cancel: Arc::clone(&cancel),
        });
        Ok(Entered { progress, begun: Some(Begun { sender, cancel }) })
    }
}
