//! What the planner is told: everything that was observed, as plain data.
//!
//! Durable truth is only what stands in the API and on the nodes; what is marked *volatile* here may be
//! lost with the controller and is found out again.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

pub use liveupdate_node_core::outcome::Outcome;
pub use liveupdate_node_core::{Continuity, Epoch};

pub use crate::devices::Devices;
pub use crate::nodes::Nodes;
pub use crate::text::Text;

use crate::Time;
use crate::reason::Reason;

/// Everything that was observed.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Our own leadership.
    pub epoch: Epoch,
    /// The platform's word.
    pub policy: Policy,
    /// All updates, in any order.
    pub updates: Vec<Update>,
    /// All Kubernetes nodes, in any order.
    pub nodes: Nodes,
}

/// The platform's word (`LiveUpdatePolicy/default`; its absence allows no acknowledgement).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Risks that may be acknowledged.
    pub allowed_acknowledgements: BTreeSet<String>,
    /// The floor under every device.
    pub minimum_continuity: Option<Continuity>,
    /// Over all updates together; percentages are of all nodes.
    pub max_unavailable: Option<Amount>,
    /// Who may have signed a target: names and public keys, for the agents alone. Empty: whoever the nodes trust.
    pub signers: Vec<(String, String)>,
    /// The global stop.
    pub hold: bool,
}

/// A number, or a share of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// That many.
    Count(u32),
    /// That many of a hundred.
    Percent(u32),
}

/// One `LiveUpdate`.
#[derive(Clone, Debug)]
pub struct Update {
    /// Name of the object.
    pub name: Text,
    /// UID of the object.
    pub uid: Text,
    /// When it was made; the oldest unfinished update wins a node that two want.
    pub created: Time,
    /// Somebody deleted it; it stays until our finalizer is gone.
    pub deleting: bool,
    /// Our finalizer is on it.
    pub has_finalizer: bool,
    /// Its spec; an error says why it cannot be read (invariant 9).
    pub spec: Result<Spec, String>,
    /// Verbs asked for by annotation, in any order; see [`Verb`].
    pub verbs: Vec<Verb>,
    /// What its status says: the durable part.
    pub record: UpdateRecord,
}

/// What an update asks for.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which nodes.
    pub selector: Selector,
    /// Nodes that were made after the update take part.
    pub include_joining: bool,
    /// What `uname -r` must say.
    pub release: Text,
    /// Digest of the bundle.
    pub digest: Text,
    /// Hash of target, devices and acknowledgements. Another one is a new revision: results of the old
    /// one no longer count, attempts in flight end as they are.
    pub revision: Text,
    /// Risks that the team takes.
    pub acknowledge: BTreeSet<String>,
    /// See [`Strategy`].
    pub strategy: Strategy,
    /// From the jump until the node must be back.
    pub return_deadline: Duration,
    /// From the return until it must be verified.
    pub verify_deadline: Duration,
    /// All of the states before the jump together; beyond it an attempt that did not jump is aborted.
    pub prepare_deadline: Duration,
    /// Longer blackouts count as failures.
    pub blackout_budget: Option<Duration>,
    /// Start no node.
    pub paused: bool,
}

/// A Kubernetes label selector.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    /// All of these must be met; none selects everything.
    pub requirements: Vec<Requirement>,
}

/// One line of a selector.
#[derive(Clone, Debug)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What of it.
    pub operator: Operator,
}

/// What is asked of a label.
#[derive(Clone, Debug)]
pub enum Operator {
    /// Its value is one of these.
    In(BTreeSet<String>),
    /// It is absent, or its value is none of these.
    NotIn(BTreeSet<String>),
    /// It is there.
    Exists,
    /// It is not.
    DoesNotExist,
}

/// How a run goes over the nodes.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// Most nodes unavailable at once; percentages are of the eligible nodes, rounded down, at least 1.
    pub max_unavailable: Amount,
    /// Label keys whose values order the nodes; the name decides among equals.
    pub order: Vec<String>,
    /// Most failures per revision; percentages are of the eligible nodes, rounded down (may be 0).
    pub max_failures: Amount,
    /// What happens beyond that.
    pub on_failure: OnFailure,
    /// What happens with nodes that cannot be updated.
    pub on_blocked: OnBlocked,
    /// Verdicts only.
    pub dry_run: bool,
    /// Never empty: without steps in the spec there is one of 100 % named `all`.
    pub steps: Vec<Step>,
}

/// What happens when more nodes failed than may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Start no more.
    Pause,
    /// As the verb abort.
    Abort,
}

/// What happens with blocked nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBlocked {
    /// Wait for them.
    Wait,
    /// Go on without them.
    Skip,
    /// Count them as failures.
    Fail,
}

/// One canary step; counts are cumulative.
#[derive(Clone, Debug)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Nodes in all; percentages are of the eligible nodes, rounded down, at least 1.
    pub nodes: Amount,
    /// Raise the count until each device model has one node.
    pub cover_device_model: bool,
    /// From the last verify.
    pub bake: Duration,
    /// Wait for `approve`.
    pub approval: bool,
}

/// A one-shot verb, from the annotation `liveupdate.dev/<verb>: argument@revision`. Verbs of another
/// revision are ignored; those in [`UpdateRecord::verbs`] were taken before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verb {
    /// What to do.
    pub kind: VerbKind,
    /// A step or a node; empty where the verb needs none.
    pub argument: String,
    /// The revision that it is bound to (at least 4 digits of it, all for `approve`).
    pub revision: String,
    /// Tells apart the second, third … time that the same thing is asked for; 0 at first.
    pub again: u32,
}

/// The verbs that work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerbKind {
    /// Argument: step. Lets the next step begin.
    Approve,
    /// Undo what is before commit, start nothing more, end. Outranks all.
    Abort,
    /// Goes on after `hold` or a spent failure budget (accepts the failures so far).
    Resume,
    /// Argument: node. Forget its failure or its three aborts and try again.
    Retry,
    /// Argument: node. Take it out of the run.
    Skip,
    /// As `paused: true`, until `resume`.
    Hold,
    /// Accept the failures so far; the budget counts from here.
    AcceptFailure,
    /// Argument: node. Give up the files that it keeps in quarantine, for good.
    Release,
}

/// What an update's status says: the durable part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateRecord {
    /// The revision that the rest speaks of. Empty: never written.
    pub revision: Text,
    /// Attempts in flight (of this or an older revision).
    pub in_flight: Vec<InFlight>,
    /// Failures of the revision; never lowered.
    pub failures: u32,
    /// Of those, accepted.
    pub accepted_failures: u32,
    /// Index into the steps, from 0.
    pub step: u32,
    /// When the current step's count was reached.
    pub step_reached: Option<Time>,
    /// Bundles (digests) that came up as another kernel.
    pub bad_targets: BTreeSet<String>,
    /// Verbs taken, for this revision.
    pub verbs: BTreeSet<Verb>,
    /// Nodes taken out.
    pub skipped: BTreeSet<String>,
    /// The run is over.
    pub finished: Option<Finished>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// When.
    pub at: Time,
    /// `Completed`, `CompletedWithSkipped` or `Aborted`.
    pub reason: Reason,
}

/// One attempt in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The node's name.
    pub node: Text,
    /// UID of the Node object.
    pub uid: String,
    /// The attempt.
    pub attempt: Text,
    /// When it was admitted.
    pub since: Time,
}

/// One Kubernetes node with all that is known of it.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: Text,
    /// UID of the Node object.
    pub uid: String,
    /// When the object was made.
    pub created: Time,
    /// Its labels; nodes that are alike share them.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The object's Ready condition is True.
    pub ready: bool,
    /// As the kubelet wrote it.
    pub release: Text,
    /// As the kubelet wrote it.
    pub boot_id: Text,
    /// Why the object cannot be used, if so.
    pub malformed: Option<Text>,
    /// Our taint with its annotation, *as the watch shows it*: seeing it proves that the view of all
    /// nodes is at least as new as our write (invariant 1).
    pub mark: Option<Mark>,
    /// Another actor is at work on it.
    pub foreign: Option<Text>,
    /// Its `NodeLiveUpdate`.
    pub record: Option<NodeRecord>,
    /// What its agent said. Volatile.
    pub agent: Agent,
    /// Its Lease was renewed after the controller saw the node's return. Volatile.
    pub lease_renewed: bool,
}

/// Our taint on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// UID of the update.
    pub update_uid: Text,
    /// The attempt.
    pub attempt: Text,
}

/// What a `NodeLiveUpdate` says, if its `nodeUid` is this node's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRecord {
    /// From `status.claimedAttempt`: the attempt that the controller wants.
    pub claimed_attempt: Text,
    /// From `status`: whose the rest is.
    pub update_uid: Text,
    /// From `status`: the revision that the rest is about.
    pub revision: Text,
    /// From `status`: the last attempt that has an end there.
    pub attempt: Text,
    /// How that attempt, or the node without one, ended.
    pub end: Option<NodeEnd>,
    /// Attempts of this revision that were undone.
    pub aborts: u32,
    /// Why the last attempt of this revision was undone or failed, in a sentence; empty when none was.
    pub last_failure: Text,
    /// From `status`: the state is `Skipped`, for this reason. Kept after the run, when gates are no longer
    /// read.
    pub skipped: Option<Reason>,
}

/// How a node ended for a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeEnd {
    /// Runs the target and was verified.
    Updated {
        /// When; the bake starts from here.
        verified_at: Time,
        /// Milliseconds; absent when unmeasured.
        blackout: Option<Duration>,
        /// Nothing was real.
        simulated: bool,
        /// Devices by outcome.
        devices: Devices,
    },
    /// Undone before the jump.
    Aborted {
        /// Why.
        reason: Reason,
    },
    /// A bad end.
    Failed {
        /// Why.
        reason: Reason,
    },
}

/// What the agent said. Volatile: asked again after a restart.
#[expect(clippy::large_enum_variant, reason = "nearly every agent answers: a box would save nothing")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Not asked yet.
    Unasked,
    /// Does not answer.
    Unreachable {
        /// Since when.
        since: Time,
        /// It has never answered this controller.
        never: bool,
        /// What was tried and what happened.
        why: Text,
    },
    /// Answers, but nonsense or as somebody else.
    Misbehaves {
        /// What it did.
        why: Text,
    },
    /// Its answer.
    Answered(AgentFacts),
}

/// An agent's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AgentFacts {
    /// Boot id as the agent says.
    pub boot_id: Text,
    /// Release as the agent says.
    pub release: Text,
    /// Digest of the running bundle; empty when unknown.
    pub digest: Text,
    /// Models (`vendor:device`) of held devices.
    pub models: BTreeSet<String>,
    /// Its answer to the last preflight.
    pub verdict: Option<Verdict>,
    /// The attempt that it knows of.
    pub attempt: Option<AttemptFacts>,
    /// The attempt of which it keeps files in quarantine, whether or not that is confirmed, and its sentence about
    /// it. Nothing new can begin on the node before their holders come, or somebody gives them up.
    pub kept: Option<(Text, Text)>,
    /// The attempt whose files it would not give up when it was told to, and why.
    pub refusal: Option<(Text, Text)>,
}

/// Answer to a preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// For which update.
    pub update_uid: Text,
    /// For which revision.
    pub revision: Text,
    /// When.
    pub at: Time,
    /// Nothing is in the way, or what is.
    pub blocked: Option<(Reason, Text)>,
}

/// What an agent says of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptFacts {
    /// Which one.
    pub attempt: Text,
    /// How far it is.
    pub state: AttemptState,
}

/// How far an attempt is, as the controller needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// Before the commit, nothing asked.
    Preparing,
    /// Settled; asks for the permission to jump.
    AsksPermission {
        /// The receipt.
        receipt: String,
        /// The boot that it is for.
        boot_id: String,
    },
    /// Permission given, not committed as far as is known.
    Permitted,
    /// The stream ended with the jump.
    Jumping {
        /// When that was seen.
        since: Time,
    },
    /// Back, and being given back: not at its end yet.
    Reclaiming {
        /// When the return was seen.
        since: Time,
        /// What it proved.
        proof: Proof,
    },
    /// Back, all given back: what is left is ours to verify.
    Returned {
        /// When the return was seen.
        since: Time,
        /// What it proved.
        proof: Proof,
        /// Milliseconds; absent when unmeasured.
        blackout: Option<Duration>,
        /// Nothing was real.
        simulated: bool,
        /// Devices by outcome.
        devices: Devices,
    },
    /// Undone.
    Aborted {
        /// Why.
        reason: Reason,
        /// The node's sentence about it; empty when it said none.
        why: Text,
    },
    /// A bad end on the node.
    Failed {
        /// Why.
        reason: Reason,
        /// The node's sentence about it; empty when it said none.
        why: Text,
    },
}

/// What a returned node proved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// The boot that runs.
    pub boot_id: String,
    /// The boot that jumped.
    pub boot_id_before: String,
    /// Its release.
    pub release: String,
    /// The nonce came back through the preserved index; or nothing was handed over that could carry it, and the node has its
    /// own record of the jump.
    pub nonce_returned: bool,
}
