//! `LiveUpdate`: one bounded run of a kernel update over a set of nodes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use serde::{Deserialize, Serialize};

use crate::common::{Acknowledgement, Continuity, DurationString, Epoch, IntOrPercent};

/// What a team asks for: a kernel, the nodes, and how much each device must keep.
#[derive(CustomResource, schemars::JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "liveupdate.dev",
    version = "v1alpha1",
    kind = "LiveUpdate",
    shortname = "lu",
    status = "LiveUpdateStatus",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct LiveUpdateSpec {
    /// The nodes that this update is for. An empty selector selects every node.
    pub node_selector: LabelSelector,
    /// What happens to selected nodes that join after the update was created.
    #[serde(default)]
    pub join_policy: JoinPolicy,
    /// The kernel to run afterwards.
    pub target: Target,
    /// One token for each risk that is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledge: Vec<Acknowledgement>,
    /// Rules for devices, the first match wins. A held device that matches nothing blocks its node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceRule>,
    /// How the run goes over the nodes. Edits apply at once; they do not make a new revision.
    #[serde(default)]
    pub strategy: Strategy,
    /// How long each state of an attempt may take; its end is always defined.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// A node whose blackout is longer counts as a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blackout_budget: Option<DurationString>,
    /// Starts no node while true. Nodes in flight finish.
    #[serde(default)]
    pub paused: bool,
}

/// What happens to nodes that join during the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum JoinPolicy {
    /// They are left alone.
    #[default]
    Ignore,
    /// They become part of the run.
    Include,
}

/// The kernel to run.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// What `uname -r` must say afterwards.
    pub release: String,
    /// The bundle that holds the kernel.
    pub bundle: Bundle,
}

/// A bundle under the agent's bundle root.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// Folder name under the bundle root.
    pub name: String,
    /// Digest of the bundle's manifest, `sha256:` and 64 hex digits.
    pub digest: String,
}

/// What to do with the devices that match.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRule {
    /// Name of the rule, for messages.
    pub name: String,
    /// Which devices. What is left out matches anything.
    #[serde(default)]
    pub r#match: DeviceMatch,
    /// Keep the device over the update, or stop its holder first.
    pub on_update: OnUpdate,
    /// The least that is accepted for a preserved device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_continuity: Option<Continuity>,
    /// What happens when a device can get less than the minimum.
    #[serde(default)]
    pub on_shortfall: OnShortfall,
}

/// Which PCI devices a rule is for.
#[derive(schemars::JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceMatch {
    /// PCI vendor, four lower-case hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// PCI device, four lower-case hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// PCI class and subclass, four lower-case hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// What happens to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnUpdate {
    /// Handed over the kexec.
    Preserve,
    /// Its holder is stopped before; the device is not preserved.
    Stop,
}

/// What happens when a device would get less than asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnShortfall {
    /// The node is blocked.
    #[default]
    Block,
    /// The holder is stopped before, as with `onUpdate: Stop`.
    Stop,
}

/// How the run goes over the nodes.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Most nodes that may be unavailable at once, nodes that are already down included. Percentages
    /// are of the eligible nodes, rounded down, at least 1.
    #[serde(default = "default_max_unavailable")]
    pub max_unavailable: IntOrPercent,
    /// Label keys whose values order the nodes; the name decides among equals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// How many nodes may fail, per revision, over the whole run. One more stops it.
    #[serde(default = "default_max_failures")]
    pub max_failures: IntOrPercent,
    /// What happens beyond that.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What happens with nodes that cannot be updated.
    #[serde(default)]
    pub on_blocked: OnBlocked,
    /// Finds out the verdicts and starts nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Canary steps; without any there is one step of all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

fn default_max_unavailable() -> IntOrPercent {
    IntOrPercent::Int(1)
}

fn default_max_failures() -> IntOrPercent {
    IntOrPercent::Int(0)
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            max_unavailable: default_max_unavailable(),
            order: Vec::new(),
            max_failures: default_max_failures(),
            on_failure: OnFailure::default(),
            on_blocked: OnBlocked::default(),
            dry_run: false,
            steps: Vec::new(),
        }
    }
}

/// What happens when more nodes failed than may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnFailure {
    /// No node is started until somebody accepts the failures or resumes.
    #[default]
    Pause,
    /// As the verb `abort`: attempts before commit are undone and the run ends.
    Abort,
}

/// What happens with blocked nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnBlocked {
    /// The run waits for them.
    #[default]
    Wait,
    /// The run goes on without them and names them at the end.
    Skip,
    /// They count as failures.
    Fail,
}

/// One canary step. It passes when its count of nodes is updated and verified.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Name of the step, used in verbs and messages.
    pub name: String,
    /// How many nodes in all, this step included. Percentages are of the eligible nodes, rounded down,
    /// at least 1.
    pub nodes: IntOrPercent,
    /// Raises the count until each class has one node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cover: Vec<Cover>,
    /// How long the step is watched after its last verified node before the next one begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bake: Option<DurationString>,
    /// Whether somebody must approve the step's end before the next one begins.
    #[serde(default)]
    pub approval: Approval,
}

/// What a step must have seen at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Cover {
    /// Each vendor:device of a device in scope.
    DeviceModel,
}

/// Whether a step waits for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Approval {
    /// It does not.
    #[default]
    NotRequired,
    /// It does: `kubectl liveupdate approve NAME`.
    Required,
}

/// How long each state of an attempt may take.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Deadlines {
    /// Reading all gates.
    pub preflight: DurationString,
    /// Fetching, verifying and loading the bundle.
    pub stage: DurationString,
    /// Preserving memory and devices while the guests run.
    pub preserve: DurationString,
    /// From the first `Quiesce` to the jump.
    pub quiesce: DurationString,
    /// From the jump to the node's return.
    pub r#return: DurationString,
    /// From the return until every holder has its files.
    pub reclaim: DurationString,
    /// From then until the node is seen Ready on the target.
    pub verify: DurationString,
}

impl Default for Deadlines {
    fn default() -> Self {
        let of = str::to_owned;
        Self {
            preflight: of("2m"),
            stage: of("10m"),
            preserve: of("5m"),
            quiesce: of("2s"),
            r#return: of("5m"),
            reclaim: of("5m"),
            verify: of("5m"),
        }
    }
}

/// What the controller knows of the run. Only the controller writes it.
#[derive(schemars::JsonSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveUpdateStatus {
    /// The generation that this status speaks of.
    pub observed_generation: i64,
    /// The leadership that wrote this status. Never lower than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    /// Hash of target, devices and acknowledgements, 8 hex digits.
    pub revision: String,
    /// One line for people: step, what it waits for.
    pub summary: String,
    /// `Accepted`, `Progressing`, `Paused`, `Succeeded`, `Degraded`, `Conflicted`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Numbers of nodes.
    pub counts: Counts,
    /// The current step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepStatus>,
    /// The numbers that are in force.
    pub effective: Effective,
    /// Attempts in flight: written before anything is done to the node.
    #[schemars(length(max = 250))]
    pub in_flight: Vec<InFlight>,
    /// Waiting nodes by reason.
    pub waiting: Vec<WaitingGroup>,
    /// Blackouts of the nodes updated so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blackout: Option<BlackoutSummary>,
    /// Devices by outcome.
    pub devices: Vec<OutcomeCount>,
    /// Up to ten failed nodes.
    #[schemars(length(max = 10))]
    pub failing: Vec<FailingNode>,
    /// Failures of this revision so far; never lowered by nodes that leave.
    pub failures: i32,
    /// How many of those somebody has accepted (`accept-failure`).
    pub accepted_failures: i32,
    /// Bundles that came up as another kernel: no other node tries them.
    pub bad_targets: Vec<String>,
    /// One-shot verbs that have been taken, `verb: argument@revision`.
    #[schemars(length(max = 32))]
    pub verbs: Vec<String>,
    /// Nodes taken out by the verb `skip`.
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
#[derive(schemars::JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(schemars::JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepStatus {
    /// From 1.
    pub index: i32,
    /// How many steps there are.
    pub of: i32,
    /// Its name.
    pub name: String,
    /// How many nodes must be updated for it to pass.
    pub target: i32,
    /// What it waits for.
    pub waiting_for: String,
    /// When its count was reached; the bake starts at the last verify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reached_at: Option<Time>,
}

/// The numbers that are in force after policy, percentages and bounds.
#[derive(schemars::JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Effective {
    /// Most nodes unavailable at once.
    pub max_unavailable: i32,
    /// Most failures.
    pub max_failures: i32,
    /// What bounded `maxUnavailable`: `Spec`, `Policy` or `InFlightLimit`.
    pub bounded_by: String,
}

/// One attempt in flight.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingGroup {
    /// The reason, one of `Reason`.
    pub reason: String,
    /// How many.
    pub count: i32,
    /// Up to ten of them.
    #[schemars(length(max = 10))]
    pub nodes: Vec<String>,
    /// A sentence about the first one.
    pub message: String,
}

/// Blackouts of the nodes updated so far, in milliseconds.
#[derive(schemars::JsonSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BlackoutSummary {
    /// Median.
    pub p50_ms: i64,
    /// 99th percentile (nearest rank).
    pub p99_ms: i64,
    /// Longest.
    pub max_ms: i64,
    /// As shown in the column: `812ms`, with `(simulated)` where no real kernel jumped.
    pub p99: String,
    /// Whether any of them is simulated.
    pub simulated: bool,
}

/// How many devices got an outcome.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeCount {
    /// The outcome's word.
    pub outcome: String,
    /// How many devices.
    pub count: i32,
}

/// A failed node.
#[derive(schemars::JsonSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailingNode {
    /// The node.
    pub node: String,
    /// The reason, one of `Reason`.
    pub reason: String,
    /// A sentence: what happened and what to do.
    pub message: String,
}
