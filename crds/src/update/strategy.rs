//! How a run goes over the nodes.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{DurationString, IntOrPercent, rules};

/// How the run goes over the nodes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Strategy {
    /// Most nodes that may be unavailable at once, as a number or a percentage of the eligible nodes
    /// (rounded down, at least 1). Nodes that are down for any other reason count. The policy's number
    /// and 250 attempts in flight bound it; `status.effective` says what is in force.
    #[serde(default = "default_max_unavailable")]
    #[x_kube(validation = rules::at_least_one_node())]
    pub max_unavailable: IntOrPercent,
    /// Label keys whose values order the nodes, such as `topology.kubernetes.io/zone`; the name decides
    /// among equals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 317)), extend("x-kubernetes-list-type" = "atomic"))]
    pub order: Vec<String>,
    /// How many nodes may fail, per revision and over the whole run, as a number or a percentage of the
    /// eligible nodes (rounded down). One more, and `onFailure` happens.
    #[serde(default = "default_max_failures")]
    #[x_kube(validation = rules::any_number_of_nodes())]
    pub max_failures: IntOrPercent,
    /// What happens when more nodes failed than may. `Pause`: no node is started until somebody accepts
    /// the failures or resumes. `Abort`: attempts before the jump are undone and the run ends.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What happens with nodes that cannot be updated. `Wait`: the run waits for them. `Skip`: it goes on
    /// without them and names them at the end. `Fail`: they count as failures.
    #[serde(default)]
    pub on_blocked: OnBlocked,
    /// Finds out what would happen to each device and node, and starts nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Canary steps, each with all nodes of those before it; without any there is one step of all nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a.name == b.name))").message("two steps have the same name: give each step a name of its own, because approvals name it"))]
    #[x_kube(validation = Rule::new("self.map(s, type(s.nodes) == int, int(s.nodes)).isSorted()").message("nodes of the steps fall: steps are cumulative, so write a number of nodes that is not below the step before"))]
    #[x_kube(validation = Rule::new("self.map(s, type(s.nodes) == string, int(s.nodes.substring(0, size(s.nodes) - 1))).isSorted()").message("percentages of the steps fall: steps are cumulative, so write a percentage that is not below the step before"))]
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
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Name of the step, used in approvals and messages.
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub name: String,
    /// How many nodes in all, those of the steps before included, as a number or a percentage of the
    /// eligible nodes (rounded down, at least 1).
    #[x_kube(validation = rules::at_least_one_node())]
    pub nodes: IntOrPercent,
    /// Raises the count until each class has one node. `DeviceModel`: each `vendor:device` of a held
    /// device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), extend("x-kubernetes-list-type" = "set"))]
    pub cover: Vec<Cover>,
    /// How long the step is watched after its last verified node before the next one begins, such as
    /// `30m`. It does not end while a node that was updated is not Ready; one that boots another kernel has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::duration_up_to("720h"))]
    pub bake: Option<DurationString>,
    /// Whether somebody must approve the step's end before the next one begins
    /// (`kubectl liveupdate approve`). `NotRequired` or `Required`.
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
