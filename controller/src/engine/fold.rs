//! What came of operations, folded into what is known.

use std::time::Duration;

use liveupdate_proto::common::v1::AttemptReport;
use liveupdate_proto::node::v1::{InspectReply, OutcomeReply, PreflightReply};

use super::Engine;
use super::calls::{RunNews, Said};
use super::work::{Key, Kind};
use crate::agents::{AgentError, Agents};
use crate::clock::Clock;
use crate::cluster::{Cluster, ClusterError, NodeUpdateObject, Note, UpdateObject};
use crate::world::Asked;

/// Pauses after a write that failed.
const WRITE_RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Pauses after a write that cannot go well before the watch shows a newer version, which ends the pause.
const STALE_RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));
/// Pauses after a call that an agent refused.
const CALL_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

type Answer<T> = Result<T, AgentError>;

/// Who was asked, and how many turns the node's runs had taken by then.
#[derive(Debug)]
pub struct Whom {
    /// The Node's UID.
    pub uid: String,
    /// See [`crate::world::NodeSide::turns`].
    pub turn: u64,
}

/// What came of an operation. Answers of agents carry the UID that they were asked under: a node that was
/// made again in between is another one.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is the result of the operation of its name")]
pub enum Done {
    Update { version: String, result: Box<Result<UpdateObject, ClusterError>>, notes: Vec<Note> },
    NodeUpdate { version: String, result: Box<Result<NodeUpdateObject, ClusterError>>, notes: Vec<Note> },
    NodeUpdateLeft { result: Result<(), ClusterError> },
    Node { version: String, result: Result<(), ClusterError> },
    Inspect { asked: Whom, result: Answer<Box<InspectReply>> },
    Preflight { uid: String, asked: Asked, result: Answer<Box<PreflightReply>> },
    Run { serial: u64 },
    Abort { asked: Whom, attempt: String, result: Answer<Box<Option<AttemptReport>>> },
    Outcome { asked: Whom, attempt: String, result: Answer<Box<Option<OutcomeReply>>> },
    Confirm { uid: String, attempt: String, result: Answer<()> },
    Release { uid: String, attempt: String, result: Answer<Box<AttemptReport>> },
    NodeLease { boot: String, result: Result<Option<String>, ClusterError> },
    Event { result: Result<(), ClusterError> },
}

impl<C: Cluster, A: Agents, K: Clock> Engine<C, A, K> {
    pub(super) fn fold(&mut self, key: &Key, done: Done) {
        let name = key.0.as_str();
        match done {
            Done::Update { version, result, notes } => {
                if let Some(object) = self.written(key, &version, *result, "LiveUpdate") {
                    self.world.put_update(object);
                    self.note(notes);
                }
            }
            Done::NodeUpdate { version, result, notes } => {
                if let Some(object) = self.written(key, &version, *result, "NodeLiveUpdate") {
                    self.world.put_node_update(object);
                    self.note(notes);
                }
            }
            Done::NodeUpdateLeft { result } => {
                if self.written(key, "", result, "NodeLiveUpdate").is_some() {
                    self.world.drop_node_update(name);
                }
            }
            // Not put into the world: only the watch shows a Node (invariant 1).
            Done::Node { version, result } => {
                if self.written(key, &version, result, "Node").is_some() {
                    self.after_mark(key, &version);
                }
            }
            Done::Event { result } => {
                self.shared.metrics.write("Event", result.as_ref().err().map_or("ok", ClusterError::label));
                if let Err(error) = result {
                    tracing::warn!(%error, "an Event was lost");
                }
            }
            Done::NodeLease { boot, result } => self.lease_read(name, boot, result),
            Done::Run { serial } => self.run_over(name, serial),
            Done::Inspect { asked, result } => {
                if self.is(name, &asked.uid) {
                    let now = self.clock.now();
                    match result {
                        Ok(reply) => self.world.inspected(name, asked.turn, &reply, now),
                        Err(error) => self.call_failed(key, &error, "Inspect"),
                    }
                }
            }
            Done::Preflight { uid, asked, result } => {
                if self.is(name, &uid) {
                    self.preflighted(key, asked, result);
                }
            }
            Done::Abort { asked, attempt, result } => {
                if self.is(name, &asked.uid) {
                    self.aborted(key, asked.turn, &attempt, result);
                }
            }
            Done::Outcome { asked, attempt, result } => {
                if self.is(name, &asked.uid) {
                    self.outcome(key, asked.turn, &attempt, result);
                }
            }
            Done::Release { uid, attempt, result } => {
                if self.is(name, &uid) {
                    self.released(key, &attempt, result);
                }
            }
            Done::Confirm { uid, attempt, result } => {
                if self.is(name, &uid) {
                    match result {
                        Ok(()) => {
                            self.work.succeeded(key);
                            self.world.confirmed(name, &attempt);
                            // Another kernel, bundle and devices than before.
                            if let Some(side) = self.world.side_mut(name) {
                                side.inspect_due = Duration::ZERO;
                            }
                        }
                        Err(error) => {
                            self.work.failed(key, &attempt, self.clock.monotonic(), CALL_RETRY);
                            self.call_failed(key, &error, "Confirm");
                        }
                    }
                }
            }
        }
    }

    fn released(&mut self, key: &Key, attempt: &str, result: Answer<Box<AttemptReport>>) {
        let node = key.0.as_str();
        match result {
            Ok(report) => {
                self.work.succeeded(key);
                self.world.attempt_report(node, &report, self.clock.now());
            }
            Err(error) => {
                self.work.failed(key, attempt, self.clock.monotonic(), CALL_RETRY);
                match error {
                    AgentError::Refused(why) | AgentError::NotFound(why) => {
                        tracing::warn!(node, attempt, why, "the files that are kept of it are not given up");
                        self.world.release_refused(node, attempt, &why);
                    }
                    error => self.call_failed(key, &error, "Release"),
                }
            }
        }
    }

    /// The node is still the one that was asked.
    fn is(&mut self, node: &str, uid: &str) -> bool {
        let same = self.world.node(node).is_some_and(|(node, _)| node.uid == uid);
        if !same {
            // The one that bears the name now waits for this to be over to be asked itself.
            self.world.touch();
        }
        same
    }

    fn written<T>(
        &mut self,
        key: &Key,
        version: &str,
        result: Result<T, ClusterError>,
        kind: &'static str,
    ) -> Option<T> {
        self.shared.metrics.write(kind, result.as_ref().err().map_or("ok", ClusterError::label));
        // Whatever came of it, what waited for it may go on.
        self.world.touch();
        let now = self.clock.monotonic();
        let error = match result {
            Ok(value) => {
                self.work.succeeded(key);
                return Some(value);
            }
            Err(error) => error,
        };
        let pause = match &error {
            // The watch is behind; it brings the newer version.
            ClusterError::Conflict { .. } => {
                tracing::debug!(%error, "observing it again");
                STALE_RETRY
            }
            ClusterError::NotFound { .. } => {
                match key.1 {
                    Kind::UpdateStatus | Kind::Finalizer => self.world.drop_update(&key.0),
                    Kind::NodeUpdate => self.world.drop_node_update(&key.0),
                    _ => {}
                }
                tracing::info!(%error, "skipped");
                WRITE_RETRY
            }
            ClusterError::Refused { .. } => {
                tracing::error!(%error, "trying again later");
                WRITE_RETRY
            }
            ClusterError::Unavailable { .. } => {
                tracing::warn!(%error, "trying again");
                WRITE_RETRY
            }
        };
        self.work.failed(key, version, now, pause);
        None
    }

    /// A Node that was just written is not written again before the watch shows it.
    fn after_mark(&mut self, key: &Key, version: &str) {
        let seen = self.world.node(&key.0).is_some_and(|(_, side)| side.version != version);
        if !seen {
            self.work.failed(key, version, self.clock.monotonic(), STALE_RETRY);
        }
    }

    /// A call failed: the node's agent is judged by that, and looked at again before long.
    fn call_failed(&mut self, key: &Key, error: &AgentError, call: &str) {
        let (name, now) = (key.0.as_str(), self.clock.now());
        tracing::debug!(node = name, call, %error, "the call failed");
        self.world.call_failed(name, error, now);
        let monotonic = self.clock.monotonic();
        if let Some(side) = self.world.side_mut(name) {
            Self::inspect_again(side, name, monotonic);
        }
    }

    fn preflighted(&mut self, key: &Key, asked: Asked, result: Answer<Box<PreflightReply>>) {
        let now = self.clock.now();
        match result {
            Ok(reply) => {
                self.work.succeeded(key);
                self.world.preflighted(&key.0, asked, &reply, now);
            }
            Err(error) => {
                let revision = asked.revision.clone();
                self.work.failed(key, &revision, self.clock.monotonic(), CALL_RETRY);
                // It will not even look: that is in the way of the update, and it says why.
                if let AgentError::Refused(why) | AgentError::NotFound(why) = &error {
                    self.world.preflight_refused(&key.0, asked, why, now);
                } else {
                    self.call_failed(key, &error, "Preflight");
                }
            }
        }
    }

    fn aborted(
        &mut self,
        key: &Key,
        mut turn: u64,
        attempt: &str,
        result: Answer<Box<Option<AttemptReport>>>,
    ) {
        let now = self.clock.now();
        match result.map(|report| *report) {
            Ok(Some(report)) => {
                self.work.succeeded(key);
                self.world.attempt_report(&key.0, &report, now);
            }
            Ok(None) => {
                self.work.succeeded(key);
                // It is still staging for it, and would begin after that.
                if self.world.side_mut(&key.0).is_some_and(|side| side.turns == turn && side.hang_up(attempt))
                {
                    turn += 1;
                }
                self.world.outcome(&key.0, (attempt, turn), None, now);
            }
            Err(error) => {
                self.work.failed(key, attempt, self.clock.monotonic(), CALL_RETRY);
                // Past its commit, perhaps: the outcome tells.
                if let Some((_, side)) = self.world.node_mut(&key.0) {
                    side.outcome_due = Duration::ZERO;
                }
                match error {
                    AgentError::Refused(why) => {
                        tracing::info!(node = key.0, attempt, why, "the attempt is not undone");
                        self.ask_now(&key.0, attempt);
                    }
                    error => self.call_failed(key, &error, "Abort"),
                }
            }
        }
    }

    fn outcome(&mut self, key: &Key, turn: u64, attempt: &str, result: Answer<Box<Option<OutcomeReply>>>) {
        let now = self.clock.now();
        match result {
            Ok(reply) => self.world.outcome(&key.0, (attempt, turn), reply.as_ref().as_ref(), now),
            Err(error) => {
                tracing::debug!(node = key.0, attempt, %error, "its outcome is not known yet");
                self.world.call_failed(&key.0, &error, now);
            }
        }
    }

    fn lease_read(&mut self, node: &str, boot: String, result: Result<Option<String>, ClusterError>) {
        let version = match result {
            Ok(version) => version,
            Err(error) => {
                tracing::debug!(node, %error, "its Lease cannot be read");
                return;
            }
        };
        let (Some(version), Some((found, side))) = (version, self.world.node_mut(node)) else { return };
        match &side.lease_base {
            Some((base, about)) if *about == boot => found.lease_renewed |= *base != version,
            // The first look after the return: from here on a change counts.
            _ => {
                side.lease_base = Some((version, boot));
                found.lease_renewed = false;
            }
        }
    }

    fn run_over(&mut self, node: &str, serial: u64) {
        // Its last words may still be on their way, and would not be heard after it is forgotten.
        while let Ok(news) = self.news.1.try_recv() {
            self.heard(news);
        }
        if let Some((_, side)) = self.world.node_mut(node)
            && side.session.as_ref().is_some_and(|session| session.serial == serial)
        {
            side.session = None;
        }
    }

    /// Something that a run said.
    pub(super) fn heard(&mut self, news: RunNews) {
        let RunNews { node, attempt, serial, said } = news;
        let current = self.world.node(&node).is_some_and(|(_, side)| {
            side.session.as_ref().is_some_and(|s| s.serial == serial && s.attempt == attempt)
        });
        if !current {
            return;
        }
        let now = self.clock.now();
        let key = (node.clone(), Kind::Run);
        match said {
            Said::State(state, at) => self.world.run_state(&node, &attempt, state, at),
            Said::Asks(receipt) => self.world.run_asks(&node, &attempt, &receipt),
            Said::Ended(report) => {
                self.work.succeeded(&key);
                self.world.attempt_report(&node, &report, now);
            }
            Said::Jumping => {
                tracing::info!(node, attempt, "jumps");
                self.work.succeeded(&key);
                self.world.jumping(&node, &attempt, now);
                self.ask_later(&node);
            }
            Said::Broke(error) => {
                let permitted = self
                    .world
                    .node(&node)
                    .is_some_and(|(_, side)| side.permitted.as_deref() == Some(attempt.as_str()));
                if permitted {
                    tracing::info!(node, attempt, "gone after its permission: it jumps, most likely");
                } else {
                    tracing::info!(node, attempt, %error, "the run broke off");
                }
                self.work.failed(&key, &attempt, self.clock.monotonic(), CALL_RETRY);
                self.world.run_broke(&node, &attempt, &error, now);
                if permitted {
                    self.ask_later(&node);
                } else {
                    self.ask_now(&node, &attempt);
                }
            }
        }
    }

    /// A node that has just jumped is not there: it knocks when it is.
    fn ask_later(&mut self, node: &str) {
        let at = self.clock.monotonic() + Duration::from_secs(5);
        if let Some(side) = self.world.side_mut(node) {
            side.outcome_due = at;
        }
    }

    /// What the agent thinks of the attempt is asked at once, whatever the planner believes.
    fn ask_now(&mut self, node: &str, attempt: &str) {
        if let Some(side) = self.world.side_mut(node) {
            side.outcome_due = Duration::ZERO;
        }
        let now = self.clock.monotonic();
        self.ask_outcome(node, attempt, now);
    }
}
