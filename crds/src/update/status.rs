//! What the controller knows of a run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Epoch;

/// What the controller knows of the run. Only the controller writes it.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveUpdateStatus {
    /// The generation that this status speaks of.
    pub observed_generation: i64,
    /// The leadership that wrote this status. Never lower than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Hash of target, devices and acknowledgements, 32 hex digits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// What the run does or how it ended, in a word for the column `STATUS`, such as `Progressing`,
    /// `Baking`, `WaitingForApproval`, `Paused`, `Completed` or `Aborted`. The conditions are the truth.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// The same in a sentence: the step, and what it waits for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub summary: String,
    /// `Accepted`, `Progressing`, `Paused`, `Succeeded`, `Degraded`, `Conflicted`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Numbers of nodes.
    pub counts: Counts,
    /// The current step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepStatus>,
    /// The numbers that are in force.
    pub effective: Effective,
    /// Attempts in flight: written before anything is done to the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250))]
    pub in_flight: Vec<InFlight>,
    /// Waiting nodes by reason.
    #[schemars(length(max = 64))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<WaitingGroup>,
    /// Blackouts of the nodes updated so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blackout: Option<BlackoutSummary>,
    /// Devices by outcome.
    #[schemars(length(max = 16))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<OutcomeCount>,
    /// Up to ten failed nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub failing: Vec<FailingNode>,
    /// Failures of this revision so far; never lowered by nodes that leave.
    pub failures: i32,
    /// How many of those somebody has accepted (`accept-failure`).
    pub accepted_failures: i32,
    /// Digests of bundles that came up as another kernel: no other node tries them.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bad_targets: Vec<String>,
    /// One-shot verbs that have been taken, `verb: argument@revision`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub verbs: Vec<String>,
    /// Nodes taken out by the verb `skip`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 250))]
    pub skipped: Vec<String>,
    /// When the run will be over at the present pace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end: Option<Time>,
    /// When the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// Numbers of nodes.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Selected.
    pub total: i32,
    /// Selected, less skipped.
    pub eligible: i32,
    /// Updated and verified.
    pub updated: i32,
    /// In flight.
    pub in_flight: i32,
    /// Failed.
    pub failed: i32,
    /// Blocked.
    pub blocked: i32,
    /// Skipped.
    pub skipped: i32,
    /// Waiting for anything else.
    pub waiting: i32,
}

/// The current step.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepStatus {
    /// For the column: `2/3 early`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub display: String,
    /// From 1.
    pub index: i32,
    /// How many steps there are.
    pub of: i32,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How many nodes must be updated for it to pass.
    pub target: i32,
    /// What it waits for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub waiting_for: String,
    /// When its count was reached; the bake starts at the last verify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached_at: Option<Time>,
}

/// The numbers that are in force after policy, percentages and bounds.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Effective {
    /// Most nodes unavailable at once.
    pub max_unavailable: i32,
    /// Most failures.
    pub max_failures: i32,
    /// What bounded `maxUnavailable`: `Spec`, `Policy` or `InFlightLimit`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bounded_by: String,
}

/// One attempt in flight.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// The node.
    pub node: String,
    /// UID of the Node object: a node made again under the same name is another one.
    pub uid: String,
    /// Id of the attempt.
    pub attempt: String,
    /// When it was admitted.
    pub since: Time,
}

/// Waiting nodes that share a reason.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingGroup {
    /// The reason, one word of docs/reasons.md.
    pub reason: String,
    /// How many.
    pub count: i32,
    /// Up to ten of them.
    #[schemars(length(max = 10))]
    pub nodes: Vec<String>,
    /// A sentence about the first one.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Blackouts of the nodes updated so far, in milliseconds.
#[derive(JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlackoutSummary {
    /// Median.
    pub p50_ms: i64,
    /// 99th percentile (nearest rank).
    pub p99_ms: i64,
    /// Longest.
    pub max_ms: i64,
    /// As shown in the column: `812ms`, with `(simulated)` where no real kernel jumped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub p99: String,
    /// Whether any of them is simulated.
    pub simulated: bool,
}

/// How many devices got an outcome.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeCount {
    /// The outcome's word.
    pub outcome: String,
    /// How many devices.
    pub count: i32,
}

/// A failed node.
#[derive(JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailingNode {
    /// The node.
    pub node: String,
    /// The reason, one word of docs/reasons.md.
    pub reason: String,
    /// A sentence: what happened and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}
