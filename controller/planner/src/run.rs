//! One update while a pass works on it.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::Time;
use crate::fleet::Fleet;
use crate::input::{
    InFlight, Node, NodeEnd, NodeRecord, OnBlocked, Policy, Spec, Text, Update, UpdateRecord, Verb, VerbKind,
};
use crate::output::{Bound, NodeClass, Reason};
use crate::progress::Progress;
use crate::revision;

/// Undone attempts after which a node is blocked.
pub(crate) const MAX_ABORTS: u32 = 3;

/// One update while a pass works on it.
pub(crate) struct Run<'a> {
    pub(crate) update: &'a Update,
    /// Absent when it cannot be read.
    pub(crate) spec: Option<&'a Spec>,
    /// As it shall be after this pass.
    pub(crate) record: UpdateRecord,
    /// It was over before this pass.
    pub(crate) was_finished: bool,
    pub(crate) not_accepted: Option<(Reason, String)>,
    /// The nodes that it wants, in plan order; none unless it is active.
    pub(crate) members: Vec<Member<'a>>,
    /// The attempts on record, each with the position of the node that has its node's name now, if there is one.
    pub(crate) flights: Vec<(&'a InFlight, Option<usize>)>,
    /// Its attempts in flight, without those that leave in this pass.
    pub(crate) entries: Vec<Entry<'a>>,
    /// Runs that have nodes which this one wants.
    pub(crate) conflicts: BTreeSet<usize>,
    /// A verb of this pass accepts the failures so far.
    pub(crate) accepts: bool,
    /// What is to be said of verbs.
    pub(crate) remarks: Vec<String>,
    /// Attempts of the revision that have failed in this pass: not in the record before their ends are.
    pub(crate) found_failures: u32,
    pub(crate) tally: Tally,
    pub(crate) stop: Option<Stop>,
    pub(crate) limit: Limit,
    pub(crate) progress: Progress,
}

/// Attempts in flight, each with the position of the node that has its node's name now: compared without reading names.
pub(crate) type Flying<'a> = BTreeSet<(usize, &'a str)>;

/// What is in flight by the statuses as observed: what leaves one in this pass flies until that was written.
pub(crate) fn flying<'a>(runs: &[Run<'a>]) -> Flying<'a> {
    let flights = runs.iter().flat_map(|run| &run.flights);
    flights.filter_map(|(flight, node)| node.map(|node| (node, flight.attempt.as_str()))).collect()
}

/// A node that an update wants.
pub(crate) struct Member<'a> {
    /// Its position in the fleet.
    pub(crate) node: usize,
    pub(crate) standing: Standing<'a>,
    /// Not to be reported: only what is news is asked for, and the node's record says all of this.
    pub(crate) said: bool,
}

/// An end: on record, where it need not be copied to be passed around, or found in this pass.
pub(crate) enum End<'a> {
    Recorded(&'a NodeEnd),
    Found(Box<NodeEnd>),
}

impl core::ops::Deref for End<'_> {
    type Target = NodeEnd;

    fn deref(&self) -> &NodeEnd {
        match self {
            Self::Recorded(end) => end,
            Self::Found(end) => end,
        }
    }
}

/// How a node stands towards the update that wants it.
pub(crate) struct Standing<'a> {
    pub(crate) class: NodeClass,
    pub(crate) reason: Reason,
    pub(crate) message: Text,
    /// Nothing but its turn is missing.
    pub(crate) startable: bool,
    /// Ask for its verdict.
    pub(crate) ask: bool,
    pub(crate) end: Option<End<'a>>,
    pub(crate) aborts: u32,
    pub(crate) last_failure: Text,
}

impl Standing<'_> {
    pub(crate) fn new(class: NodeClass, reason: Reason, message: Text) -> Self {
        let last_failure = Text::default();
        Self { class, reason, message, startable: false, ask: false, end: None, aborts: 0, last_failure }
    }

    /// Takes over what is on record of earlier attempts.
    pub(crate) fn remember(&mut self, record: Option<&NodeRecord>) {
        if let Some(record) = record {
            self.aborts = record.aborts;
            self.last_failure = record.last_failure.clone();
        }
    }
}

/// An attempt in flight.
pub(crate) struct Entry<'a> {
    pub(crate) flight: &'a InFlight,
    /// Position of its node in the fleet.
    pub(crate) node: usize,
    /// It is of the revision that the record speaks of.
    pub(crate) current: bool,
    /// Its end stands in the node's record; the mark is still to be removed.
    pub(crate) recorded: bool,
    pub(crate) standing: Standing<'a>,
    /// It was not run yet, as far as its agent knows, and could be now.
    pub(crate) may_start: bool,
    /// It shall leave although nothing was run.
    pub(crate) drop: bool,
}

/// What keeps an update from starting nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) reason: Reason,
    /// Attempts before their commit are undone.
    pub(crate) hard: bool,
}

/// Numbers of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) total: u32,
    pub(crate) eligible: u32,
    pub(crate) updated: u32,
    pub(crate) failed: u32,
    pub(crate) blocked: u32,
    pub(crate) skipped: u32,
    pub(crate) waiting: u32,
    /// Of the revision, their ends not on record.
    pub(crate) in_flight: u32,
    /// Waiting for older updates.
    pub(crate) conflicted: u32,
    /// Their agents were not asked yet.
    pub(crate) unasked: u32,
    /// Of the failed ones: they were updated, and have booted another kernel since.
    pub(crate) left: u32,
    /// Of the updated ones: an attempt of this run has brought them there.
    pub(crate) verified: u32,
    /// When the first of those was verified.
    pub(crate) first_verified: Option<Time>,
    /// When the last of them was.
    pub(crate) last_verified: Option<Time>,
}

/// The numbers in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) max_unavailable: u32,
    pub(crate) bounded_by: Bound,
    pub(crate) max_failures: u32,
    /// Selected or in flight, and unavailable.
    pub(crate) unavailable: u32,
}

impl<'a> Run<'a> {
    pub(crate) fn new(update: &'a Update, policy: &Policy, fleet: &Fleet<'_>) -> Self {
        let spec = update.spec.as_ref().ok();
        let record = revision::current(&update.record, spec);
        let flights = update.record.in_flight.iter();
        Self {
            update,
            spec,
            was_finished: record.finished.is_some(),
            record,
            not_accepted: not_accepted(update, policy),
            members: Vec::new(),
            flights: flights.map(|flight| (flight, fleet.index_of(&flight.node))).collect(),
            entries: Vec::new(),
            conflicts: BTreeSet::new(),
            accepts: false,
            remarks: Vec::new(),
            found_failures: 0,
            tally: Tally::default(),
            stop: None,
            limit: Limit::default(),
            progress: Progress::default(),
        }
    }

    /// Its spec, while it may want nodes.
    pub(crate) fn active(&self) -> Option<&'a Spec> {
        let over = self.update.deleting || self.was_finished || self.not_accepted.is_some();
        if over { None } else { self.spec }
    }

    /// A note of an attempt at a node, beside the verb that is about it.
    pub(crate) fn note(&self, kind: VerbKind, node: &str, attempt: &str) -> Verb {
        let revision = self.record.revision.as_str().into();
        Verb { kind, argument: format!("{node}/{attempt}"), revision, again: 0 }
    }

    /// What the node's record says, if it speaks of this update's present revision.
    pub(crate) fn own_record<'n>(&self, node: &'n Node) -> Option<&'n NodeRecord> {
        let own = |record: &&NodeRecord| {
            record.update_uid == self.update.uid && record.revision == self.record.revision
        };
        node.record.as_ref().filter(own)
    }

    /// The verb `skip` took it out of the run.
    pub(crate) fn is_skipped(&self, node: &Node) -> bool {
        self.record.skipped.contains(node.name.as_str())
    }

    /// Every failure so far was accepted.
    pub(crate) fn all_accepted(&self) -> bool {
        self.record.accepted_failures >= self.record.failures
    }

    /// Blocked nodes that count as failures.
    pub(crate) fn blocked_failures(&self) -> u32 {
        match self.spec.map(|spec| spec.strategy.on_blocked) {
            Some(OnBlocked::Fail) => self.tally.blocked,
            _ => 0,
        }
    }

    /// Nodes that count as failures, though no attempt in flight has failed.
    pub(crate) fn failures_of_nodes(&self) -> u32 {
        self.blocked_failures().saturating_add(self.tally.left)
    }

    /// Failures that count against the budget.
    pub(crate) fn open_failures(&self) -> u32 {
        let all = self.record.failures.saturating_add(self.failures_of_nodes());
        let accepted = match self.found_failures {
            0 => self.record.accepted_failures,
            // As it will be when they are counted (endings.rs).
            _ => self.record.accepted_failures.min(self.record.failures),
        };
        all.saturating_add(self.found_failures).saturating_sub(accepted)
    }
}

/// Why an update is not carried out at all.
fn not_accepted(update: &Update, policy: &Policy) -> Option<(Reason, String)> {
    let spec = match &update.spec {
        Ok(spec) => spec,
        Err(why) => return Some((Reason::SpecInvalid, why.clone())),
    };
    let missing: Vec<&str> =
        spec.acknowledge.difference(&policy.allowed_acknowledgements).map(String::as_str).collect();
    if !missing.is_empty() {
        let message = format!(
            "the policy does not allow {}: add it to allowedAcknowledgements of LiveUpdatePolicy/default, or \
             remove it from spec.acknowledge",
            missing.join(", ")
        );
        return Some((Reason::AcknowledgementNotAllowed, message));
    }
    let mut names = BTreeSet::new();
    let twice = spec.strategy.steps.iter().find(|step| !names.insert(&step.name));
    if let Some(step) = twice {
        let message = format!("two steps are named \"{}\": give each its own name", step.name);
        return Some((Reason::SpecInvalid, message));
    }
    let empty = [("revision", spec.revision.as_str()), ("target.release", spec.release.as_str())]
        .into_iter()
        .find(|(_, value)| value.is_empty());
    empty.map(|(what, _)| (Reason::SpecInvalid, format!("{what} is empty")))
}
