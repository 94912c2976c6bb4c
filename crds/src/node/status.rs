//! What is known of a node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Continuity, Epoch, UpdateRef};

/// What is known of the node. Only the controller's account may write it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeLiveUpdateStatus {
    /// The leadership that wrote this. Never lower than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// UID of the Node object that this speaks of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node_uid: String,
    /// Release of the running kernel, as the kubelet wrote it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    /// Release of the kernel that ran before, as the kubelet wrote it; empty until it has been another one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub previous_kernel: String,
    /// Digest of the bundle that the node runs, as far as the agent knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle_digest: Option<String>,
    /// Boot id of the running kernel, as the kubelet wrote it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// The node's state: `Idle`, `Preflight`, `Queued`, `Staging`, `Preserving`, `Settling`, `Quiescing`, `Committing`, `Jumping`, `Returned`, `Reclaiming`, `Verifying`, `Persisting`, `Updated`; or `Blocked`, `Thawing`, `Aborted`, `Failed`, `Quarantined`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// What it waits on or why it is so: one word of docs/reasons.md.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence about that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The update that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateRef>,
    /// Name of that update, for the column.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub update_name: String,
    /// Its revision.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// The attempt that this status speaks of.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub attempt: String,
    /// The attempt that was begun last. Written before the agent is called; `attempt` follows at its end.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub claimed_attempt: String,
    /// How many attempts were aborted and undone for this revision.
    pub aborts: i32,
    /// Why the last attempt of this revision was undone or failed; gone when one succeeded or the verb retry
    /// forgave it.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub last_failure: String,
    /// When the node was seen updated and verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Time>,
    /// Result of every gate; evidence only where it is not `Pass`, and of `TargetTrusted`: who signed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub gates: Vec<GateStatus>,
    /// Held devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub devices: Vec<DeviceStatus>,
    /// Holders that the node's keeper knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub holders: Vec<HolderStatus>,
    /// For the column: `3` or `2/3 preserved`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub device_summary: String,
    /// For the column: what would happen to the devices if the node were updated now.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub verdict: String,
    /// For the column: `412ms`, or `unmeasured` after a jump that no counter spanned; with `(simulated)` where no real
    /// kernel jumped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub blackout: String,
    /// The node's blackout in milliseconds; absent when unmeasured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blackout_ms: Option<i64>,
    /// States of the last attempt with the times at which they began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub steps: Vec<StepTime>,
    /// `Ready`: the node's agent answers and nothing is wrong; `Updated`; `Blocked`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// One gate.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Which gate.
    pub id: String,
    /// Of a device or holder; absent for the node's own gates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `Pass`, `Fail` or `Unknown`.
    pub result: String,
    /// What was read, where, and what it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// What would mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// One held device.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// PCI address.
    pub address: String,
    /// `vendor:device`.
    pub model: String,
    /// Who holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// The best that it could get now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Continuity>,
    /// What would happen to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Whose word decided the verdict: `Platform`, `Team`, `Workload` or `Node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// What it got in the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The facts behind that, `reset=none dma=continuous …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<String>,
    /// What made the facts worse than the best, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// One holder: a program, most often a VMM, whose files come through the jump.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HolderStatus {
    /// Its service's name.
    pub name: String,
    /// It speaks the handover protocol. One that does not is stopped before the jump.
    pub aware: bool,
    /// The least that its owner accepts for its devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Continuity>,
    /// Its owner refuses any update.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub refuses: bool,
}

/// When a state began.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepTime {
    /// The state.
    pub state: String,
    /// When it began.
    pub at: Time,
}
