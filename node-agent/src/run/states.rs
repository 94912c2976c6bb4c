//! What a state means for who drives an attempt.

use liveupdate_proto::common::v1::NodeState;
use liveupdate_proto::keeper::v1::{Status, request};

/// Asks the keeper how things are.
pub(crate) fn status() -> request::Message {
    request::Message::Status(Status {})
}

/// Begun and before commit.
pub(crate) fn is_undoable(state: NodeState) -> bool {
    matches!(
        state,
        NodeState::Preflight
            | NodeState::Queued
            | NodeState::Staging
            | NodeState::Preserving
            | NodeState::Settling
            | NodeState::Quiescing
    )
}

/// Past the point of no return, and not known to have failed.
pub(crate) fn is_committed(state: NodeState) -> bool {
    matches!(
        state,
        NodeState::Committing
            | NodeState::Jumping
            | NodeState::Returned
            | NodeState::Reclaiming
            | NodeState::Verifying
            | NodeState::Persisting
    )
}

/// Nothing more happens by itself.
pub(crate) fn is_over(state: NodeState) -> bool {
    matches!(
        state,
        NodeState::Updated
            | NodeState::Blocked
            | NodeState::Aborted
            | NodeState::Failed
            | NodeState::Quarantined
    )
}

/// As people read it.
pub(crate) fn name(state: NodeState) -> &'static str {
    state.as_str_name().trim_start_matches("NODE_STATE_")
}

/// Goes on without anybody's call.
pub(crate) fn is_moving(state: NodeState) -> bool {
    matches!(
        state,
        NodeState::Committing
            | NodeState::Jumping
            | NodeState::Thawing
            | NodeState::Returned
            | NodeState::Reclaiming
            | NodeState::Persisting
            | NodeState::Quarantined
    )
}
