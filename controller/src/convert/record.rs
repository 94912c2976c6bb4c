//! The durable part of both statuses, read back. What the planner decides from is only this: whatever a
//! conversion would lose here, a restart would lose, too.

use std::collections::BTreeMap;
use std::time::Duration;

use liveupdate_crds::conditions::{self, LiveUpdateCondition};
use liveupdate_crds::{LiveUpdateStatus, verbs};
use liveupdate_planner::{
    Devices, Finished, InFlight, NodeEnd, NodeRecord, Reason, Text, Time, UpdateRecord,
};

use crate::agents::facts;
use crate::cluster::NodeUpdateObject;

use super::time;

/// The durable part of an update's status.
pub fn update(status: &LiveUpdateStatus) -> UpdateRecord {
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    UpdateRecord {
        revision: Text::copy(&status.revision),
        in_flight: status
            .in_flight
            .iter()
            .map(|entry| InFlight {
                node: Text::copy(&entry.node),
                uid: entry.uid.clone(),
                attempt: Text::copy(&entry.attempt),
                since: time(&entry.since),
            })
            .collect(),
        failures: count(status.failures),
        accepted_failures: count(status.accepted_failures),
        step: status.step.as_ref().map_or(0, |step| count(step.index - 1)),
        step_reached: status.step.as_ref().and_then(|step| step.reached_at.as_ref()).map(time),
        bad_targets: status.bad_targets.iter().cloned().collect(),
        // An echo that nobody can read was written by another version; its verb is none of ours.
        verbs: status.verbs.iter().filter_map(|line| verbs::parse_echo(line).ok()).collect(),
        skipped: status.skipped.iter().cloned().collect(),
        finished: status.finished_at.as_ref().map(|at| Finished { at: time(at), reason: finish(status) }),
    }
}

/// How a run ended: the reason of the condition `Succeeded` from then on.
fn finish(status: &LiveUpdateStatus) -> Reason {
    conditions::find(&status.conditions, LiveUpdateCondition::Succeeded)
        .and_then(|condition| facts::reason(&condition.reason))
        .unwrap_or(Reason::Completed)
}

/// What a `NodeLiveUpdate` says of the node with this UID; none when it speaks of another one.
pub fn node(object: &NodeUpdateObject, node_uid: &str) -> Option<NodeRecord> {
    let status = &object.status;
    // Before its first status, the owner says whose it is.
    let whose = if status.node_uid.is_empty() { &object.owner_uid } else { &status.node_uid };
    if whose != node_uid {
        return None;
    }
    Some(NodeRecord {
        claimed_attempt: Text::copy(&object.claimed_attempt),
        update_uid: Text::copy(&status.update_uid),
        revision: Text::copy(&status.revision),
        attempt: Text::copy(&status.attempt),
        end: end(object),
        aborts: status.aborts,
        last_failure: Text::copy(&status.last_failure),
        skipped: (status.state == SKIPPED).then(|| facts::reason(&status.reason).unwrap_or(Reason::Skipped)),
    })
}

/// States of a status that are ends.
pub(super) const UPDATED: &str = "Updated";
const ABORTED: &str = "Aborted";
const FAILED: &str = "Failed";
/// No end, but kept as well.
const SKIPPED: &str = "Skipped";

fn end(object: &NodeUpdateObject) -> Option<NodeEnd> {
    let status = &object.status;
    let reason = || facts::reason(&status.reason);
    match status.state.as_str() {
        UPDATED => Some(NodeEnd::Updated {
            verified_at: status.verified_at.unwrap_or(Time(0)),
            blackout: status.blackout_ms.map(Duration::from_millis),
            simulated: status.simulated,
            devices: outcomes(&status.outcomes),
        }),
        ABORTED => Some(NodeEnd::Aborted { reason: reason().unwrap_or(Reason::AttemptAborted) }),
        FAILED => Some(NodeEnd::Failed { reason: reason().unwrap_or(Reason::VerifyFailed) }),
        _ => None,
    }
}

fn outcomes(words: &BTreeMap<String, u32>) -> Devices {
    words.iter().filter_map(|(word, count)| Some((facts::outcome_of(word)?, *count))).collect()
}
