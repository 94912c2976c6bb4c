//! The object of a node. Its spec is empty: what the controller claims stands in the status, so that one write
//! says both what is begun and how the node stands (docs/adr/0005-claim-in-the-status.md).

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::NodeLiveUpdateStatus;
use crate::rules;

/// Always empty. What the controller has begun stands in `status.claimedAttempt`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "liveupdate.dev",
    version = "v1alpha1",
    kind = "NodeLiveUpdate",
    doc = "What is known of one node, under the node's name: whether it could be updated, what would happen to its devices, and what the last attempt did. It exists for each node whose agent answers, even without any update. Only the controller writes it.",
    shortname = "nlu",
    category = "liveupdate",
    label("app.kubernetes.io/name", "liveupdate"),
    status = "NodeLiveUpdateStatus",
    derive = "PartialEq",
    validation = rules::epoch_stays("status"),
    validation = rules::epoch_of_same_cluster("status"),
    validation = rules::epoch_never_lower("status"),
    printcolumn(name = "Kernel", type_ = "string", json_path = ".status.kernel", description = "Release of the running kernel"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "What the node does, or how its last attempt ended"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", description = "What it waits on, or why it is so"),
    printcolumn(name = "Devices", type_ = "string", json_path = ".status.deviceSummary", description = "Held devices"),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".status.verdict", description = "What would happen to the devices if the node were updated now"),
    printcolumn(name = "Blackout", type_ = "string", json_path = ".status.blackout", description = "Longest time that a guest stood still in the last attempt"),
    printcolumn(name = "Update", type_ = "string", json_path = ".status.updateName", description = "The update that wants or wanted the node last"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Attempt", type_ = "string", json_path = ".status.attempt", priority = 1, description = "The attempt that the rest speaks of"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1, description = "The reason in a sentence")
)]
#[serde(rename_all = "camelCase")]
pub struct NodeLiveUpdateSpec {}
