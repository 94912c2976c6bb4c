//! The attempt that an agent drives, if any.

use std::sync::{Arc, Mutex, PoisonError};

use liveupdate_proto::common::v1::Subject;
use liveupdate_proto::refusal::Refusal;
use tonic::Status;

use super::attempt::{Attempt, Order};

/// The one attempt of an agent.
#[derive(Default)]
pub(crate) struct Runs {
    current: Mutex<Option<Arc<Attempt>>>,
}

impl Runs {
    /// The attempt under this id that is being driven.
    pub(crate) fn driven(&self, attempt: &str) -> Option<Arc<Attempt>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clone().filter(|current| current.id == attempt && !current.is_over())
    }

    /// Whether any attempt is being driven.
    pub(crate) fn busy(&self) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().is_some_and(|current| !current.is_over())
    }

    /// Joins the attempt, or takes the place of one that is over. True: whoever asked has to drive it.
    pub(super) fn enter(&self, subject: &Subject, order: Order) -> Result<(Arc<Attempt>, bool), Status> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driven) = current.as_ref().filter(|driven| !driven.is_over()) {
            if driven.id != subject.attempt {
                return Err(Refusal::OtherAttempt.status(format!("attempt {} is under way here", driven.id)));
            }
            if driven.order.target != order.target {
                return Err(Refusal::malformed("target", "differs from the one this attempt began with"));
            }
            driven.speak_as(subject.clone());
            return Ok((Arc::clone(driven), false));
        }
        let attempt = Arc::new(Attempt::new(subject.clone(), order));
        *current = Some(Arc::clone(&attempt));
        Ok((attempt, true))
    }
}
