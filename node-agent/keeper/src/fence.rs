//! The core's fence, asked with the agent's messages.

use liveupdate_node_core::Epoch;
use liveupdate_node_core::fence::{Call, Fence, Refusal};
use liveupdate_proto::common::v1::Subject;
use liveupdate_proto::keeper::v1::refusal::Cause;

use crate::refusal::Refused;

/// Lets a call through or says why not. What it changed must be on disk before anything else happens.
pub(crate) fn pass(fence: &mut Fence, subject: &Subject, call: Call<'_>) -> Result<(), Refused> {
    let epoch = subject.epoch.clone().unwrap_or_default();
    let epoch = Epoch { cluster: epoch.cluster, counter: epoch.counter };
    let refused = |refusal: Refusal| {
        let cause = match refusal {
            Refusal::NoEpoch | Refusal::NoAttempt => Cause::Malformed,
            Refusal::ForeignCluster { .. } => Cause::ForeignCluster,
            Refusal::Stale { .. } => Cause::StaleEpoch,
            Refusal::Repeated(_) => Cause::AttemptRepeated,
            Refusal::OtherAttempt { .. } => Cause::OtherAttempt,
        };
        Refused::new(cause, refusal.to_string())
    };
    fence.check(&epoch, call).map(|_| ()).map_err(refused)
}
