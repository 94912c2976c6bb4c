//! Statuses: ends at once, everything else when it has lasted, so that a rollout costs few writes.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use liveupdate_planner::{NodeClass, NodeEnd, NodeReport, Reason, Report};
use liveupdate_proto::common::v1::NodeState;

use super::fold::Done;
use super::work::Kind;
use super::{Engine, Knock};
use crate::agents::Agents;
use crate::agents::facts::state_word;
use crate::clock::Clock;
use crate::cluster::{Cluster, NodeStatusDigest};
use crate::convert::{node_status, record, update_status};
use crate::world::NodeSide;

/// A class or reason must last so long before it is written.
const LASTING: Duration = Duration::from_secs(2);
/// How long admission holds still for nodes that wait to be told something.
const YIELD: Duration = Duration::from_secs(8);
/// Nodes that begin to wait at once and are told so without a pause.
const MANY: usize = 64;
/// As a status says that nothing is wanted of its node.
const IDLE: &str = "Idle";
/// A thousand nodes' gates are read in so long; what takes longer is worth being told.
const READING: Duration = Duration::from_secs(5);
/// What is admitted next is under way before it would have been worth being told that it waits; longer than [`YIELD`],
/// which holds it up.
const STARTING: Duration = Duration::from_secs(10);
/// Objects that one pass makes, so that the starts of others are not behind them.
const PER_PASS: usize = 100;
/// Shortest time between two writes of an update's status that nothing waits for.
const STATUS: Duration = Duration::from_secs(2);

/// What a write of a node's status is for.
#[derive(Clone, Copy)]
enum Write<'a> {
    /// How the node stands.
    State,
    /// The end of this attempt.
    End(&'a str),
    /// The beginning of this attempt.
    Claim { update: &'a str, attempt: &'a str },
}

impl<C: Cluster, A: Agents, K: Clock> Engine<C, A, K> {
    /// Writes the end of an attempt.
    pub(super) fn record_end(&mut self, node: &str, attempt: &str, report: &Report) {
        if let Some(report) = report.nodes.get(node) {
            self.write_node(node, report, Write::End(attempt));
        }
    }

    /// Writes that the attempt is begun, before its agent is called. It is also how the node stands from then
    /// on, so that one write says both.
    pub(super) fn claim(&mut self, node: &str, update: &str, attempt: &str, report: &Report) {
        if let Some(report) = report.nodes.get(node) {
            self.write_node(node, &node_status::begun(report), Write::Claim { update, attempt });
        }
    }

    /// Writes what has lasted, and makes what is missing.
    pub(super) fn write_node_statuses(&mut self, report: &Report, now: Duration) {
        let flying: HashSet<&str> = self
            .world
            .snapshot
            .updates
            .iter()
            .flat_map(|update| &update.record.in_flight)
            .map(|entry| entry.node.as_str())
            .collect();
        let admitted: HashSet<&str> = report
            .updates
            .values()
            .flat_map(|update| &update.record.in_flight)
            .map(|entry| &*entry.node)
            .collect();
        let (mut finals, mut writes, mut makes, mut beginners) = (vec![], vec![], vec![], vec![]);
        let mut next = None::<Duration>;
        let mut classes = Vec::new();
        for (position, (node, side)) in self.world.nodes().enumerate() {
            let Some(wanted) = report.nodes.beside(position, &node.name) else { continue };
            let seen = (wanted.class, wanted.reason, preparing(wanted, side));
            let since = match side.class {
                Some((known, since)) if known == seen => since,
                _ => {
                    classes.push((node.name.clone(), (seen, now)));
                    now
                }
            };
            let Some(object) = self.world.node_update(&node.name) else {
                if side.answered {
                    makes.push((node.name.clone(), node.uid.clone(), None));
                }
                continue;
            };
            if object.owner_uid != node.uid {
                makes.push((node.name.clone(), node.uid.clone(), Some(object.uid.clone())));
                continue;
            }
            // While the attempt is in a status, its end there is truth that is still needed.
            let held = flying.contains(node.name.as_str()) && ends(&object.status);
            let first = object.status.node_uid.is_empty();
            let update = wanted.update.as_deref().and_then(|name| self.world.update(name));
            let uid = update.map_or("", |side| side.object.uid.as_str());
            let further = seen.2.is_some_and(|state| state_word(state) != object.status.state);
            let other = idle(wanted) && stale(object, node, side)
                // A power cut boots the default kernel, also after an end.
                || ended(wanted) && object.status.kernel != node.release;
            let same = says(&object.status, wanted, uid) && !further && !other;
            if held || (same && !first) {
                continue;
            }
            let over = matches!(wanted.end, Some(NodeEnd::Updated { .. } | NodeEnd::Failed { .. }));
            let reads_gates = wanted.reason == Reason::Preflight;
            let lasting = match wanted.class {
                NodeClass::Waiting if admitted.contains(node.name.as_str()) => STARTING,
                _ if reads_gates => READING,
                _ => LASTING,
            };
            let due = if first || over { now } else { since + lasting };
            let begins =
                object.status.state == IDLE && wanted.class == NodeClass::Waiting && lasting == LASTING;
            if begins && due > now {
                beginners.push((due, node.name.clone()));
            } else if due <= now {
                if over { &mut finals } else { &mut writes }.push(node.name.clone());
            } else {
                next = Some(next.map_or(due, |at| at.min(due)));
            }
        }
        // A fleet that begins to wait has a thousand writes before it, and needs no pause besides.
        if beginners.len() > MANY {
            writes.extend(beginners.into_iter().map(|(_, name)| name));
        } else {
            next = beginners.into_iter().map(|(due, _)| due).chain(next).min();
        }
        for (name, class) in classes {
            if let Some(side) = self.world.side_mut(&name) {
                side.class = Some(class);
            }
        }
        for (name, uid, left) in makes.into_iter().take(PER_PASS) {
            self.make(name.to_string(), uid, left);
        }
        // From the back: those in front start next, and then their status says something else.
        let mut untold = false;
        for name in finals.into_iter().chain(writes.into_iter().rev()) {
            if self.work.room_to_tell() == 0 {
                // A place that gets free brings the next pass.
                untold = true;
                break;
            }
            if let Some(wanted) = report.nodes.get(&name) {
                self.write_node(&name, wanted, Write::State);
            }
        }
        self.untold = untold.then(|| self.untold.unwrap_or(now));
        next.into_iter().for_each(|at| self.wake_at(at));
    }

    /// Until when nothing more is admitted, because many nodes wait to be told why they wait: what is admitted
    /// means writes that compete with those. Never for long, so that statuses which cannot be written hold up
    /// nothing.
    pub(super) fn yields_until(&self, now: Duration) -> Option<Duration> {
        self.untold.map(|since| since + YIELD).filter(|until| *until > now)
    }

    fn make(&mut self, node: String, uid: String, left: Option<String>) {
        let key = (node.clone(), Kind::NodeUpdate);
        if self.work.room(Kind::NodeUpdate) == 0 || !self.free(&key, "") {
            return;
        }
        let cluster = Rc::clone(&self.cluster);
        self.work.begin(key, async move {
            match left {
                Some(left) => Done::NodeUpdateLeft { result: cluster.delete_node_update(&node, &left).await },
                None => {
                    let result = Box::new(cluster.create_node_update(&node, &uid).await);
                    Done::NodeUpdate { version: String::new(), result, notes: Vec::new() }
                }
            }
        });
    }

    fn write_node(&mut self, node: &str, report: &NodeReport, write: Write<'_>) {
        let key = (node.to_owned(), Kind::NodeUpdate);
        let Some((found, side)) = self.world.node(node) else { return };
        let Some(object) = self.own_node_update(node) else {
            if !matches!(write, Write::State) && self.world.node_update(node).is_none() {
                // Somebody deleted it: an end needs a place to stand.
                self.make(node.to_owned(), found.uid.clone(), None);
            }
            return;
        };
        if !self.free(&key, &object.version) {
            return;
        }
        let version = object.version.clone();
        let (update, claimed, end_of) = match write {
            Write::State => (report.update.as_deref(), object.claimed_attempt.as_str(), None),
            Write::End(attempt) => (report.update.as_deref(), object.claimed_attempt.as_str(), Some(attempt)),
            Write::Claim { update, attempt } => (Some(update), attempt, None),
        };
        let update = update.and_then(|name| self.world.update(name));
        let reference = update.map(crate::world::UpdateSide::reference);
        let context = node_status::Context {
            node: found,
            before: &object.status,
            facts: &side.facts,
            update: reference.as_ref(),
            target: update.and_then(|update| Some(update.object.spec.as_ref().ok()?.target.release.as_str())),
            epoch: &self.term.epoch,
            now: self.clock.now(),
            claimed,
            end_of,
        };
        let status = node_status::status(context, report);
        tracing::debug!(
            node,
            from = object.status.state,
            because = object.status.reason,
            to = status.state,
            why = status.reason,
            message = report.message.as_ref(),
            "writes the node's status"
        );
        let newly_blocked = report.class == NodeClass::Blocked && object.status.state != "Blocked";
        let notes = match write {
            Write::Claim { update, attempt } => vec![Self::started(found, update, attempt)],
            // It has its end on record: what is new is that its files were given up.
            Write::End(attempt) if ends(&object.status) && object.status.attempt == attempt => {
                Self::given_up(found, report).into_iter().collect()
            }
            Write::End(_) => Self::told(found, report, true).into_iter().collect(),
            Write::State if newly_blocked => Self::told(found, report, false).into_iter().collect(),
            Write::State => Vec::new(),
        };
        if let Some(side) = self.world.side_mut(node) {
            side.facts_changed = false;
        }
        let (cluster, name) = (Rc::clone(&self.cluster), node.to_owned());
        let writing = async move {
            let result = Box::new(cluster.write_node_status(&name, &version, &status).await);
            Done::NodeUpdate { version, result, notes }
        };
        match write {
            Write::State => self.work.tell(key, writing),
            Write::End(_) | Write::Claim { .. } => self.work.begin(key, writing),
        }
    }

    /// Writes the statuses of updates that say something new, each at most every [`STATUS`].
    pub(super) fn write_update_statuses(&mut self, report: &Report, now: Duration) {
        for name in report.updates.keys() {
            match self.statuses.get(name.as_str()).map(|last| *last + STATUS).filter(|at| *at > now) {
                Some(at) => self.wake_at(at),
                None => {
                    self.write_update(name, report, now, false);
                }
            }
        }
        self.statuses.retain(|name, _| report.updates.contains_key(name.as_str()));
        self.records.retain(|name, _| report.updates.contains_key(name.as_str()));
    }

    /// Whether every node says what became of it, as far as nobody knows it after the end: that it was left
    /// out, or ran the target already. Writes what is missing; what cannot be written does not hold up the
    /// end.
    fn all_is_said(&mut self, update: &str, report: &Report) -> bool {
        let uid = self.world.update(update).map(|side| side.object.uid.clone()).unwrap_or_default();
        let unsaid = |name: &str, wanted: &NodeReport| {
            matches!(wanted.class, NodeClass::Skipped | NodeClass::Updated)
                && wanted.update.as_deref() == Some(update)
                && match self.own_node_update(name) {
                    Some(object) => !says(&object.status, wanted, &uid),
                    None => self.world.node(name).is_some_and(|(_, side)| side.answered),
                }
        };
        let missing: Vec<_> = report.nodes.iter().filter(|(name, wanted)| unsaid(name, wanted)).collect();
        let mut said = true;
        for (name, wanted) in missing {
            let key = (name.to_string(), Kind::NodeUpdate);
            // One that is to be made is made in this very pass, and written in a later one.
            let to_be_made = self.own_node_update(name).is_none() && self.free(&key, "");
            self.write_node(name, wanted, Write::State);
            said &= !to_be_made && !self.work.busy(&key);
        }
        said
    }

    /// Writes an update's status if it says something new, or always. True when a write began.
    pub(super) fn write_update(
        &mut self,
        update: &str,
        report: &Report,
        now: Duration,
        always: bool,
    ) -> bool {
        let ends = report.updates.get(update).is_some_and(|wanted| wanted.record.finished.is_some());
        if ends && always && !self.all_is_said(update, report) {
            return false;
        }
        let key = (update.to_owned(), Kind::UpdateStatus);
        let (Some(side), Some(wanted)) = (self.world.update(update), report.updates.get(update)) else {
            return false;
        };
        let object = &side.object;
        // What cannot be read is not written over: it may be what a newer version wrote.
        if object.status.is_err()
            || !self.free(&key, &object.version)
            || self.work.busy(&(update.to_owned(), Kind::Finalizer))
        {
            return false;
        }
        let mut problems = side.problems.clone();
        problems.extend(self.world.policy_problem().map(str::to_owned));
        problems.extend(wanted.remarks.iter().cloned());
        let context = update_status::Context {
            object,
            epoch: &self.term.epoch,
            now: self.clock.now(),
            problems: &problems,
        };
        let own = report.nodes.iter().filter(|(_, node)| node.update.as_deref() == Some(update));
        let status = update_status::status(context, wanted, own);
        if !always {
            let before = object.status.as_ref().ok();
            // A record that changes is committed, and takes everything else along.
            let commits = before.map(record::update).unwrap_or_default() != wanted.record;
            let changed = before.is_none_or(|before| !update_status::same(before, &status));
            if commits || !changed {
                self.statuses.insert(update.to_owned(), now);
                return false;
            }
        }
        self.statuses.insert(update.to_owned(), now);
        let Some(side) = self.world.update(update) else { return false };
        let mut notes = Self::turned(&side.object, &status);
        notes.extend(self.gone(&side.object, &status));
        let (name, version) = (side.object.name.clone(), side.object.version.clone());
        let cluster = Rc::clone(&self.cluster);
        self.work.begin(key, async move {
            let result = Box::new(cluster.write_update_status(&name, &version, &status).await);
            Done::Update { version, result, notes }
        });
        true
    }
}

fn ends(status: &NodeStatusDigest) -> bool {
    matches!(status.state.as_str(), "Updated" | "Failed" | "Aborted")
}

fn ended(report: &NodeReport) -> bool {
    matches!(report.class, NodeClass::Updated | NodeClass::Failed | NodeClass::Skipped)
}

fn idle(report: &NodeReport) -> bool {
    matches!(report.class, NodeClass::Idle | NodeClass::Waiting | NodeClass::Blocked)
}

/// The state of an attempt that prepares, as its node said it: what holds up a node before the jump is seen. After
/// it the reason tells.
fn preparing(report: &NodeReport, side: &NodeSide) -> Option<NodeState> {
    use NodeState::{Preserving, Quarantined, Quiescing, Settling, Thawing};
    let state = side.facts.state.filter(|_| report.class == NodeClass::InFlight)?;
    matches!(state, Preserving | Settling | Quiescing | Thawing | Quarantined).then_some(state)
}

/// Kernel, gates or devices are others than those that were written.
fn stale(
    object: &crate::cluster::NodeUpdateObject,
    node: &liveupdate_planner::Node,
    side: &NodeSide,
) -> bool {
    (side.facts_changed && side.answered) || object.status.kernel != node.release
}

/// Whether the status says what the report says, as far as a write is worth it.
fn says(status: &NodeStatusDigest, report: &NodeReport, update_uid: &str) -> bool {
    let class = match status.state.as_str() {
        "Idle" => NodeClass::Idle,
        "Queued" | "Preflight" => NodeClass::Waiting,
        "Blocked" => NodeClass::Blocked,
        "Updated" => NodeClass::Updated,
        "Failed" => NodeClass::Failed,
        "Skipped" => NodeClass::Skipped,
        _ => NodeClass::InFlight,
    };
    // `Queued` is what an attempt says before its agent said anything.
    let class = match (class, report.class) {
        (NodeClass::Waiting, NodeClass::InFlight) if report.attempt.as_deref() == Some(&status.attempt) => {
            NodeClass::InFlight
        }
        (class, _) => class,
    };
    class == report.class
        && status.reason == node_status::reason(report, None).as_str()
        && (class != NodeClass::Blocked || status.blocked == node_status::message(report))
        && status.update_uid == update_uid
        && (report.update.is_none() || status.revision == report.revision)
        && i64::from(status.aborts) == i64::from(report.aborts)
}

impl Knock {
    /// A knock of this node.
    pub fn new(node: &str, uid: &str) -> Self {
        Self { node: node.to_owned(), uid: uid.to_owned(), returned: false, answer: None }
    }

    /// A knock of this node, back from a jump.
    pub fn returned(node: &str, uid: &str) -> Self {
        Self { returned: true, ..Self::new(node, uid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is just written must not be written again: each class is read back as the same.
    #[test]
    fn what_was_written_is_not_written_again() {
        let classes = [
            (NodeClass::Idle, "Idle"),
            (NodeClass::Waiting, "Queued"),
            (NodeClass::Waiting, "Preflight"),
            (NodeClass::Blocked, "Blocked"),
            (NodeClass::InFlight, "Staging"),
            (NodeClass::InFlight, "Queued"),
            (NodeClass::Updated, "Updated"),
            (NodeClass::Failed, "Failed"),
            (NodeClass::Skipped, "Skipped"),
        ];
        for (class, state) in classes {
            let report = NodeReport {
                update: Some("kernel".into()),
                class,
                reason: Reason::InProgress,
                message: "".into(),
                revision: "r".into(),
                attempt: Some("r-u-1".into()),
                aborts: 0,
                last_failure: "".into(),
                end: None,
            };
            let mut status = NodeStatusDigest {
                state: state.into(),
                reason: "InProgress".into(),
                update_uid: "lu".into(),
                revision: "r".into(),
                attempt: "r-u-1".into(),
                ..NodeStatusDigest::default()
            };
            assert!(says(&status, &report, "lu"), "{class:?} {state}");
            status.blocked = "another gate".into();
            assert_eq!(says(&status, &report, "lu"), class != NodeClass::Blocked, "what blocks is news");
            status.reason = "Jumping".into();
            assert!(!says(&status, &report, "lu"), "another reason is news: {class:?}");
        }
    }
}
