//! Enums, each by one table for both directions.

use liveupdate_node_core::fence::Refusal;
use liveupdate_node_core::node::StateName;
use liveupdate_node_core::outcome::Outcome;
use liveupdate_node_core::verdict::{OnShortfall, OnUpdate, Voice};
use liveupdate_node_core::{Continuity, GateResult};

use crate::common::v1 as pb;
use crate::keeper::v1::refusal::Cause;
use crate::node::v1 as node;

/// Both directions; what is unset is `None`.
macro_rules! pairs {
    ($message:ty, $core:ty: $($name:ident)+) => {
        impl From<$core> for $message {
            fn from(value: $core) -> Self {
                match value { $(<$core>::$name => Self::$name,)+ }
            }
        }

        impl From<$message> for Option<$core> {
            fn from(value: $message) -> Self {
                match value {
                    $(<$message>::$name => Some(<$core>::$name),)+
                    <$message>::Unspecified => None,
                }
            }
        }
    };
}

pairs!(pb::Continuity, Continuity: Reinitialised Paused Uninterrupted);
pairs!(pb::Outcome, Outcome: Lost Reinitialised Paused Uninterrupted Stopped Untouched);
pairs!(pb::OnUpdate, OnUpdate: Preserve Stop);
pairs!(node::Voice, Voice: Platform Team Workload Node);
pairs!(pb::NodeState, StateName:
    Idle Preflight Queued Staging Preserving Settling Quiescing Committing Jumping Returned Reclaiming
    Verifying Persisting Updated Blocked Aborted Thawing Failed Quarantined);

impl From<GateResult> for pb::GateResult {
    fn from(result: GateResult) -> Self {
        match result {
            GateResult::Pass => Self::Pass,
            GateResult::Fail => Self::Fail,
            GateResult::Unknown => Self::Unknown,
        }
    }
}

impl From<pb::GateResult> for GateResult {
    fn from(result: pb::GateResult) -> Self {
        match result {
            pb::GateResult::Pass => Self::Pass,
            pb::GateResult::Fail => Self::Fail,
            pb::GateResult::Unspecified | pb::GateResult::Unknown => Self::Unknown,
        }
    }
}

impl From<OnShortfall> for pb::OnShortfall {
    fn from(on_shortfall: OnShortfall) -> Self {
        match on_shortfall {
            OnShortfall::Block => Self::Block,
            OnShortfall::Stop => Self::Stop,
        }
    }
}

impl From<pb::OnShortfall> for OnShortfall {
    fn from(on_shortfall: pb::OnShortfall) -> Self {
        match on_shortfall {
            pb::OnShortfall::Stop => Self::Stop,
            pb::OnShortfall::Unspecified | pb::OnShortfall::Block => Self::Block,
        }
    }
}

impl From<&Refusal> for Cause {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NoEpoch | Refusal::NoAttempt => Self::Malformed,
            Refusal::ForeignCluster { .. } => Self::ForeignCluster,
            Refusal::Stale { .. } => Self::StaleEpoch,
            Refusal::Repeated(_) => Self::AttemptRepeated,
            Refusal::OtherAttempt { .. } => Self::OtherAttempt,
        }
    }
}
