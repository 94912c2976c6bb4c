//! What the controller keeps of Kubernetes objects: a Node is 10 to 20 KB of JSON, of which this is the part
//! that decides something. What cannot be read is kept with a reason (invariant 9).

use std::collections::BTreeMap;

use liveupdate_crds::{LiveUpdatePolicySpec, LiveUpdateSpec, LiveUpdateStatus};
use liveupdate_planner::{Mark, Time};

/// A Node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeObject {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Version that was seen; the precondition of every write to it.
    pub version: String,
    /// When it was made.
    pub created: Time,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its condition Ready is True.
    pub ready: bool,
    /// `status.nodeInfo.kernelVersion`.
    pub release: String,
    /// `status.nodeInfo.bootID`.
    pub boot_id: String,
    /// Its first InternalIP.
    pub internal_ip: Option<String>,
    /// `host:port` from our annotation: a hint, never trusted.
    pub agent_address: Option<String>,
    /// Our taint with our annotation; one without the other is the mark of nobody (empty words).
    pub mark: Option<Mark>,
    /// Our annotation is on it.
    pub has_mark: bool,
    /// `spec.taints` as they stand there: what a patch is tested against.
    pub taints: Vec<serde_json::Value>,
    /// It has annotations at all (a JSON patch cannot add to a map that is absent).
    pub has_annotations: bool,
    /// Another actor is at work on it: which, and by what sign.
    pub foreign: Option<String>,
    /// What cannot be read of it.
    pub malformed: Option<String>,
}

/// A `LiveUpdate`.
#[derive(Clone, Debug, PartialEq)]
pub struct UpdateObject {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Version that was seen.
    pub version: String,
    /// Generation of its spec.
    pub generation: i64,
    /// When it was made.
    pub created: Time,
    /// Somebody deleted it.
    pub deleting: bool,
    /// All finalizers on it.
    pub finalizers: Vec<String>,
    /// Annotations of our group.
    pub annotations: BTreeMap<String, String>,
    /// What it asks for, or why that cannot be read.
    pub spec: Result<LiveUpdateSpec, String>,
    /// What was written; an error says why it cannot be read.
    pub status: Result<LiveUpdateStatus, String>,
}

/// A `NodeLiveUpdate`, without gates and devices: those are known from the agent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeUpdateObject {
    /// Its name: the node's.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Version that was seen.
    pub version: String,
    /// UID of the Node that owns it.
    pub owner_uid: String,
    /// From the status: the claimed attempt.
    pub claimed_attempt: String,
    /// From the status; see the fields of the same names there.
    pub status: NodeStatusDigest,
    /// Why its status cannot be read.
    pub malformed: Option<String>,
}

/// The part of a `NodeLiveUpdate`'s status that is durable truth.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs, reason = "the fields are those of NodeLiveUpdateStatus")]
pub struct NodeStatusDigest {
    pub node_uid: String,
    pub kernel: String,
    pub previous_kernel: String,
    pub state: String,
    pub reason: String,
    /// Kept only of `Blocked`: what is in the way can become something else under the same reason.
    pub blocked: String,
    pub update_uid: String,
    pub revision: String,
    pub attempt: String,
    pub aborts: u32,
    pub last_failure: String,
    pub verified_at: Option<Time>,
    pub blackout_ms: Option<u64>,
    pub simulated: bool,
    /// Devices by the word of their outcome.
    pub outcomes: BTreeMap<String, u32>,
}

/// The `LiveUpdatePolicy` named `default`; others are not observed.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyObject {
    /// Its name.
    pub name: String,
    /// What it says, or why that cannot be read.
    pub spec: Result<LiveUpdatePolicySpec, String>,
}

/// One change that a watch brought.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<T> {
    /// A complete list follows, as `Listed` objects up to `Complete`.
    Restarted,
    /// Part of that list.
    Listed(T),
    /// The list is complete: what was known and not listed is gone.
    Complete,
    /// Made or changed.
    Applied(T),
    /// Gone: its name.
    Deleted(String),
}

/// One change of any kind.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "moved once, into the world")]
pub enum Observed {
    /// Of a Node.
    Node(Change<NodeObject>),
    /// Of a `LiveUpdate`.
    Update(Change<UpdateObject>),
    /// Of a `NodeLiveUpdate`.
    NodeUpdate(Change<NodeUpdateObject>),
    /// Of the policy.
    Policy(Change<PolicyObject>),
}

/// The leader's Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseObject {
    /// Version that was seen; empty for one that is to be made.
    pub version: String,
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// For how long a renewal counts, in seconds.
    pub duration_seconds: i32,
    /// Number of the leadership.
    pub epoch: u64,
    /// When it was taken.
    pub acquired: Option<Time>,
    /// When it was renewed last, by the holder's clock.
    pub renewed: Option<Time>,
    /// How often it changed hands.
    pub transitions: i32,
    /// Labels, which are others': without its own, Helm does not take for its release what it kept of the one before.
    pub labels: BTreeMap<String, String>,
    /// Annotations of others.
    pub annotations: BTreeMap<String, String>,
}

/// Whether a version is newer than another. Versions of one kind grow; what is no number counts as newer,
/// since the watch corrects it.
pub fn newer(version: &str, than: &str) -> bool {
    match (version.parse::<u64>(), than.parse::<u64>()) {
        (Ok(a), Ok(b)) => a > b,
        _ => true,
    }
}
