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
pub(crate) mod runs;
mod states;

pub(crate) use attempt::{Attempt, End, Grant, Order};
pub(crate) use driver::{adopt_orphan, undone, unstage};
pub(crate) use states::{is_committed, is_moving, is_over, status};

use std::sync::Arc;

use liveupdate_proto::common::v1::Subject;
use tonic::Status;

use crate::node::Node;

/// Joins the attempt when it is being driven, else begins to drive it.
pub(crate) fn join(node: &Arc<Node>, subject: &Subject, order: Order) -> Result<Arc<Attempt>, Status> {
    let (attempt, begun) = node.runs.enter(subject, order)?;
    if begun {
        driver::spawn(Arc::clone(node), Arc::clone(&attempt));
    }
    Ok(attempt)
}
