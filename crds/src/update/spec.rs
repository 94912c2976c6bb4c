//! What a team asks for.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Deadlines, DeviceRule, LiveUpdateStatus, Strategy, Target, selector};
use crate::{Acknowledgement, DurationString, rules};

const PRESERVE_WITHOUT_ACKNOWLEDGEMENT: &str = "'devices%s are preserved over the kexec, which is experimental: write \"acknowledge: [VfioPciLiveUpdate]\" to accept that risk, or onUpdate: Stop'.format([self.devices.map(d, d.onUpdate == 'Preserve', d.name)])";

/// What a team asks for: a kernel, the nodes, and how much each device must keep.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "liveupdate.dev",
    version = "v1alpha1",
    kind = "LiveUpdate",
    doc = "One bounded run of a kernel update over a set of nodes: each selected node jumps into the target kernel by kexec, and devices are handed across it as far as the node's gates, the platform and the workloads allow. Creating one is root on every node that it selects.",
    shortname = "lu",
    category = "liveupdate",
    label("app.kubernetes.io/name", "liveupdate"),
    status = "LiveUpdateStatus",
    derive = "PartialEq",
    validation = Rule::new("size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name: write a name of at most 63 lower-case letters, digits and '-', without '.', because it becomes the value of a taint on the nodes"),
    validation = rules::epoch_stays("status"),
    validation = rules::epoch_of_same_cluster("status"),
    validation = rules::epoch_never_lower("status"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target.release", description = "What `uname -r` must say afterwards"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step.display", description = "The current step, of how many, and its name"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.counts.updated", description = "Nodes that run the target and were verified"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.counts.total", description = "Nodes that are selected"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.counts.failed", description = "Nodes that failed"),
    printcolumn(name = "Blackout-P99", type_ = "string", json_path = ".status.blackout.p99", description = "99th percentile of the nodes' blackouts"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.state", description = "What the run does or how it ended, in a word"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision", priority = 1, description = "Hash of target, devices and acknowledgements"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.summary", priority = 1, description = "What the run waits for, in a sentence")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.devices) || !self.devices.exists(d, d.onUpdate == 'Preserve') || (has(self.acknowledge) && 'VfioPciLiveUpdate' in self.acknowledge)").message(Message::Expression(PRESERVE_WITHOUT_ACKNOWLEDGEMENT.to_owned())))]
pub struct LiveUpdateSpec {
    /// The nodes that this update is for, by their labels. An empty selector (`{}`) selects every node.
    #[schemars(schema_with = "selector::schema")]
    pub node_selector: LabelSelector,
    /// What happens to selected nodes that join after the update was created. `Ignore`: they are left
    /// alone. `Include`: they become part of the run.
    #[serde(default)]
    pub join_policy: JoinPolicy,
    /// The kernel to run afterwards. Another target is another revision: the run begins again.
    pub target: Target,
    /// One token for each risk that is taken. `VfioPciLiveUpdate`: the preservation of VFIO devices over
    /// a kexec is experimental in every kernel there is; needed by each rule with `onUpdate: Preserve`.
    /// `UnconfinedDma`: a device that no IOMMU confines goes on writing while kernels change, and its holder's
    /// word is all that says where; waives what nobody can check of the gate `DmaTargetsPreserved`.
    /// `NoKdump`: a crash of the next kernel cannot be dumped; waives the gate `CrashDump`. The `LiveUpdatePolicy` says which tokens may be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub acknowledge: Vec<Acknowledgement>,
    /// Rules for held PCI devices; the first one that matches counts. A held device that no rule matches
    /// blocks its node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a.name == b.name))").message("two rules have the same name: give each rule a name of its own"))]
    pub devices: Vec<DeviceRule>,
    /// How the run goes over the nodes. Edits apply at once; they do not make a new revision.
    #[serde(default)]
    pub strategy: Strategy,
    /// How long each state of an attempt may take. A state that takes longer has a defined end: before
    /// the jump everything is undone, after it the node counts as failed.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// The longest blackout of a node that is accepted, such as `3s`; a node with a longer one counts as
    /// a failure. Without it any blackout is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::deadline_up_to("1h"))]
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
