//! What a watch keeps of a written status.

use std::collections::BTreeMap;

use liveupdate_controller::cluster::NodeStatusDigest;
use liveupdate_crds::NodeLiveUpdateStatus;

/// What the watch keeps of a node's status.
pub fn digest(status: &NodeLiveUpdateStatus) -> NodeStatusDigest {
    let mut outcomes = BTreeMap::new();
    for word in status.devices.iter().filter_map(|device| device.outcome.clone()) {
        *outcomes.entry(word).or_insert(0) += 1;
    }
    NodeStatusDigest {
        node_uid: status.node_uid.clone(),
        kernel: status.kernel.clone(),
        previous_kernel: status.previous_kernel.clone(),
        state: status.state.clone(),
        reason: status.reason.clone(),
        blocked: if status.state == "Blocked" { status.message.clone() } else { String::new() },
        update_uid: status.update.as_ref().map(|u| u.uid.clone()).unwrap_or_default(),
        revision: status.revision.clone(),
        attempt: status.attempt.clone(),
        aborts: u32::try_from(status.aborts).unwrap(),
        last_failure: status.last_failure.clone(),
        verified_at: status
            .verified_at
            .as_ref()
            .map(|at| liveupdate_planner::Time(at.0.as_millisecond() / 1000 * 1000)),
        blackout_ms: status.blackout_ms.map(|ms| u64::try_from(ms).unwrap()),
        simulated: status.blackout.contains("simulated"),
        outcomes,
    }
}
