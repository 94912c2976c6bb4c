//! Running attempts: one at a time; whoever calls again joins.
//!
//! ```text
//!  Run ──► [keeper's Status] ──► Preserve ──► Settle ──► gates again ──► receipt ─┐
//!   │            │                  │            │            │                   │ permission, in time
//!   │ repeated,  │                  └────────────┴─────┬──────┴───── no ──────────┤
//!   │ other      ▼                                     ▼                          ▼
//!   └──► refused: nothing changed              Abort ──► `ended`        Jump ──► `jumping` | `ended`
//! ```
//! The driver of an attempt is a task of the agent, not of a call: when the controller's stream breaks, the
//! attempt goes on to its receipt and waits for somebody to join until its deadline. A new agent finds in
//! the keeper how far the attempt is, and goes on from there.

mod attempt;
mod driver;
mod states;

pub(crate) use attempt::{Attempt, End, Grant, Order};
pub(crate) use driver::{adopt_orphan, undone, unstage};
pub(crate) use states::{is_committed, is_moving, is_over, status};

use std::sync::{Arc, Mutex, PoisonError};

use liveupdate_proto::common::v1::Subject;
use liveupdate_proto::refusal::Refusal;
use tonic::Status;

use crate::node::Node;

/// The attempt that this agent drives, if any.
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

    /// Joins the attempt when it is being driven, else begins to drive it.
    pub(crate) fn join(
        &self,
        node: &Arc<Node>,
        subject: &Subject,
        order: Order,
    ) -> Result<Arc<Attempt>, Status> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driven) = current.as_ref().filter(|driven| !driven.is_over()) {
            if driven.id != subject.attempt {
                return Err(Refusal::OtherAttempt.status(format!("attempt {} is under way here", driven.id)));
            }
            if driven.order.target != order.target {
                return Err(Refusal::malformed("target", "differs from the one this attempt began with"));
            }
            driven.speak_as(subject.clone());
            return Ok(Arc::clone(driven));
        }
        let attempt = Arc::new(Attempt::new(subject.clone(), order));
        *current = Some(Arc::clone(&attempt));
        driver::spawn(Arc::clone(node), Arc::clone(&attempt));
        Ok(attempt)
    }
}
