//! What the planner says: what to do, and why nothing else is done.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use crate::Time;
use crate::input::{Devices, Mark, NodeEnd, Text, UpdateRecord};

pub use crate::node_reports::NodeReports;
pub use crate::reason::Reason;

/// What is to be done now, what is to be written, and when to look again at the latest.
#[derive(Clone, Debug, Default)]
#[must_use = "a plan that nobody carries out moves no node"]
pub struct Plan {
    /// In this order; each may fail on its own without harm to the others.
    pub actions: Vec<Action>,
    /// What statuses shall say, and for every waiting node on what it waits.
    pub report: Report,
    /// When the passing of time alone can change the plan.
    pub wake: Option<Time>,
}

/// One thing to do. Each is idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Put our finalizer on the update.
    AddFinalizer {
        /// The update's name.
        update: Text,
    },
    /// Take it off.
    RemoveFinalizer {
        /// The update's name.
        update: Text,
    },
    /// Write the update's record now, with a precondition on the version that was observed: it admits
    /// or ends attempts, or takes a verb. Nothing that builds on it may be done before it is observed.
    CommitRecord {
        /// The update's name.
        update: Text,
    },
    /// Read the gates for this update's target.
    Preflight {
        /// The node.
        node: Text,
        /// The update's name.
        update: Text,
    },
    /// Put our taint and annotation on the node.
    Mark {
        /// The node.
        node: Text,
        /// The update's name (the taint's value).
        update: Text,
        /// What the annotation says.
        mark: Mark,
    },
    /// Take them off.
    Unmark {
        /// The node.
        node: Text,
        /// What must stand there.
        mark: Mark,
    },
    /// Write the attempt into the `NodeLiveUpdate`'s status.
    Claim {
        /// The node.
        node: Text,
        /// The update's name.
        update: Text,
        /// The attempt.
        attempt: Text,
    },
    /// Stage and run the attempt. Said in every pass until the attempt asks for its permission: whoever
    /// carries it out joins a run that is under way (so does a controller that was started again).
    Run {
        /// The node.
        node: Text,
        /// The update's name.
        update: Text,
        /// The attempt.
        attempt: Text,
    },
    /// Answer a receipt with the permission to jump.
    Permit {
        /// The node.
        node: Text,
        /// The attempt.
        attempt: Text,
        /// The receipt.
        receipt: String,
        /// The boot that it is for.
        boot_id: String,
        /// For how long, on the node's monotonic clock; at most 30 s.
        duration: Duration,
    },
    /// Undo an attempt that is not committed.
    Abort {
        /// The node.
        node: Text,
        /// The attempt.
        attempt: Text,
        /// Why, for people.
        why: String,
    },
    /// Ask what became of the attempt.
    AskOutcome {
        /// The node.
        node: Text,
        /// The attempt.
        attempt: Text,
    },
    /// Look whether the node's Lease was renewed since its return was seen.
    ReadLease {
        /// The node.
        node: Text,
    },
    /// Write the end of an attempt into the `NodeLiveUpdate`'s status, as the report says it.
    RecordEnd {
        /// The node.
        node: Text,
        /// The attempt.
        attempt: Text,
    },
    /// Tell the agent that its outcome is on record.
    Confirm {
        /// The node.
        node: Text,
        /// The attempt.
        attempt: Text,
    },
    /// Have the agent give up the files that are kept of the attempt, for good: an operator's word. Said in every
    /// pass until the agent says that it keeps nothing of it.
    Release {
        /// The node.
        node: Text,
        /// Name of the update that the word was given to.
        update: Text,
        /// The attempt.
        attempt: Text,
    },
}

/// What statuses shall say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an unread report is not actionable"]
pub struct Report {
    /// By name.
    pub updates: BTreeMap<Text, UpdateReport>,
    /// Every node that an update wants, that has an end on record, or whose agent answers.
    pub nodes: NodeReports,
}

/// What an update's status shall say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateReport {
    /// The durable part.
    pub record: UpdateRecord,
    /// `Accepted`: none means yes, else why not.
    pub not_accepted: Option<(Reason, String)>,
    /// Why the run stands still or goes on: reason of the condition `Progressing`.
    pub progress: Option<Reason>,
    /// A sentence about that.
    pub message: String,
    /// What stops new nodes: reason of the condition `Paused`.
    pub paused: Option<Reason>,
    /// Sentences about verbs that are refused, or taken and not carried out yet.
    pub remarks: Vec<String>,
    /// Older updates that want the same nodes.
    pub conflicted_with: Vec<Text>,
    /// Selected.
    pub total: u32,
    /// Selected, less skipped.
    pub eligible: u32,
    /// Updated and verified.
    pub updated: u32,
    /// Failed.
    pub failed: u32,
    /// Blocked.
    pub blocked: u32,
    /// Skipped.
    pub skipped: u32,
    /// Waiting for anything else.
    pub waiting: u32,
    /// The current step's name, count to reach and what it waits for.
    pub step: Option<StepReport>,
    /// Most nodes unavailable at once, after policy and bounds.
    pub max_unavailable: u32,
    /// What bounded it.
    pub bounded_by: Bound,
    /// Most failures.
    pub max_failures: u32,
    /// Blackouts of updated nodes, sorted.
    pub blackouts: Vec<Duration>,
    /// Any of them is simulated.
    pub simulated: bool,
    /// Devices by outcome.
    pub devices: Devices,
    /// When the run will be over at the present pace.
    pub estimated_end: Option<Time>,
    /// The run was over before this pass: its nodes may serve other updates by now, so that the counts
    /// here are no longer its own and the message is empty. The status keeps what it has.
    pub frozen: bool,
}

/// What bounded `maxUnavailable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// The update's own number.
    #[default]
    Spec,
    /// The policy's.
    Policy,
    /// The limit of attempts in flight ([`MAX_IN_FLIGHT`]).
    InFlightLimit,
}

/// Attempts in flight that a status holds at most; it bounds the concurrency.
pub const MAX_IN_FLIGHT: usize = 250;

/// The current step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// From 1.
    pub index: u32,
    /// How many there are.
    pub of: u32,
    /// Its name.
    pub name: String,
    /// How many nodes must be updated for it to pass.
    pub target: u32,
    /// What it waits for, for people.
    pub waiting_for: String,
}

/// What a node's status shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// The update that wants it, by name.
    pub update: Option<Text>,
    /// Its class: what is written at once when it changes.
    pub class: NodeClass,
    /// Why it waits, or how it ended.
    pub reason: Reason,
    /// A sentence about that. Other words alone cause no write.
    pub message: Text,
    /// The revision that attempt, aborts and end are of; it can be an older one than the update's. Empty
    /// without an update.
    pub revision: Text,
    /// The attempt, while there is one; afterwards the last one that ended. None where the node was on the
    /// target without one.
    pub attempt: Option<Text>,
    /// Attempts undone.
    pub aborts: u32,
    /// Why the last attempt was undone or failed; kept until one succeeds or it is forgiven.
    pub last_failure: Text,
    /// How it ended, once it has.
    pub end: Option<NodeEnd>,
}

/// The coarse state of a node towards the update that wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeClass {
    /// No update wants it.
    Idle,
    /// Wanted, not started; the reason says on what it waits.
    Waiting,
    /// Cannot be updated; the reason says why.
    Blocked,
    /// An attempt is in flight.
    InFlight,
    /// Runs the target, verified.
    Updated,
    /// A bad end.
    Failed,
    /// Taken out of the run.
    Skipped,
}
