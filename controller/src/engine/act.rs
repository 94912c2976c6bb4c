//! From the planner's actions to operations. An action whose operation is under way is passed over: it is
//! planned again for as long as it is needed.

use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use liveupdate_planner::{Action, Epoch, Mark, Node, Plan, Report};
use liveupdate_proto::node::v1::Permission;
use tokio::sync::{mpsc, oneshot};

use super::calls::{About, Run};
use super::fold::{Done, Whom};
use super::work::{Key, Kind};
use super::{Engine, RECORDS};
use crate::agents::{Agents, Peer};
use crate::clock::{Clock, jitter};
use crate::cluster::{Cluster, NodeChange};
use crate::convert;
use crate::world::{NodeSide, Session};

/// The agent knocks when it returns; this is for the knock that got lost.
const OUTCOME_POLL: Duration = Duration::from_secs(5);
/// A kubelet renews its Lease every ten seconds.
const LEASE_POLL: Duration = Duration::from_secs(2);
/// The least that a permission is worth: what the commit takes, many times over.
const SHORTEST_PERMISSION: Duration = Duration::from_secs(1);
/// How often an agent that answers is inspected although nothing asks for it.
const INSPECT: Duration = Duration::from_secs(3600);
/// Pauses after a call that failed.
const AGENT_RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

impl<C: Cluster, A: Agents, K: Clock> Engine<C, A, K> {
    pub(super) fn execute(&mut self, plan: &Plan, now: Duration) {
        // What builds on a record waits until the record was written: it is planned again then.
        let pending: HashSet<String> = plan
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::CommitRecord { update } => Some(update.to_string()),
                _ => None,
            })
            .chain(self.world.updates().map(|side| side.object.name.clone()))
            .filter(|name| self.work.busy(&(name.clone(), Kind::UpdateStatus)))
            .collect();
        for action in &plan.actions {
            match action {
                Action::AddFinalizer { update } => self.finalizer(update, true),
                Action::RemoveFinalizer { update } => self.finalizer(update, false),
                Action::CommitRecord { update } => self.commit(update, &plan.report, now),
                Action::Preflight { node, update } => self.preflight(node, update),
                Action::Mark { node, update, mark } if !pending.contains(update.as_str()) => {
                    self.mark(node, Some((update.to_string(), mark.clone())));
                }
                Action::Unmark { node, .. } => self.mark(node, None),
                Action::Claim { node, update, attempt } if !pending.contains(update.as_str()) => {
                    self.claim(node, update, attempt, &plan.report);
                }
                Action::Run { node, update, attempt } if !pending.contains(update.as_str()) => {
                    self.run(node, update, attempt);
                }
                Action::Mark { .. } | Action::Claim { .. } | Action::Run { .. } => {}
                Action::Permit { node, attempt, receipt, boot_id, duration } => {
                    self.permit(node, attempt, receipt, boot_id, *duration);
                }
                Action::Abort { node, attempt, why } => self.abort(node, attempt, why),
                Action::AskOutcome { node, attempt } => self.ask_outcome(node, attempt, now),
                Action::ReadLease { node } => self.read_lease(node, now),
                Action::RecordEnd { node, attempt } => self.record_end(node, attempt, &plan.report),
                Action::Confirm { node, attempt } => self.confirm(node, attempt),
                Action::Release { node, update, attempt } => self.release(node, update, attempt),
            }
        }
    }

    fn finalizer(&mut self, update: &str, add: bool) {
        let key = (update.to_owned(), Kind::Finalizer);
        let Some(side) = self.world.update(update) else { return };
        let object = &side.object;
        // Both writes have the same version as their precondition: one after the other.
        if !self.free(&key, &object.version) || self.work.busy(&(update.to_owned(), Kind::UpdateStatus)) {
            return;
        }
        let (name, version) = (object.name.clone(), object.version.clone());
        let mut finalizers = object.finalizers.clone();
        finalizers.retain(|finalizer| finalizer != liveupdate_crds::FINALIZER);
        if add {
            finalizers.push(liveupdate_crds::FINALIZER.to_owned());
        }
        let cluster = Rc::clone(&self.cluster);
        self.work.begin(key, async move {
            let result = Box::new(cluster.write_finalizers(&name, &version, &finalizers).await);
            Done::Update { version, result, notes: Vec::new() }
        });
    }

    /// Writes an update's record now, with everything else that its status says.
    fn commit(&mut self, update: &str, report: &Report, now: Duration) {
        let spaced = self.records.get(update).map(|last| *last + RECORDS).filter(|at| *at > now);
        // Whoever is first does not wait: its update is seen to begin.
        let mut updates = self.world.snapshot.updates.iter();
        let flies = updates.any(|found| *found.name == *update && !found.record.in_flight.is_empty());
        if let Some(later) = spaced.max(self.yields_until(now).filter(|_| flies)) {
            self.wake_at(later);
            return;
        }
        if self.write_update(update, report, now, true) {
            self.records.insert(update.to_owned(), now);
        }
    }

    fn preflight(&mut self, node: &str, update: &str) {
        let key = (node.to_owned(), Kind::Preflight);
        let Some(spec) = self.world.update(update).and_then(|side| side.spec.as_ref().ok()) else { return };
        if self.work.room(Kind::Preflight) == 0 || !self.free(&key, &spec.planner.revision) {
            return;
        }
        let (target, limit) = (spec.target.clone(), spec.preflight);
        let demands = convert::spec::demands(spec, &self.world.snapshot.policy);
        let Some(about) = self.about(node, Some(update), "") else { return };
        let Some(asked) = self.world.asked(update) else { return };
        let calls = self.calls.clone();
        self.work.begin(key, async move {
            let result = calls.preflight(&about, target, demands, limit).await;
            Done::Preflight { uid: about.peer.uid, asked, result: result.map(Box::new) }
        });
    }

    fn mark(&mut self, node: &str, mark: Option<(String, Mark)>) {
        let key = (node.to_owned(), Kind::NodeMark);
        let Some((found, side)) = self.world.node(node) else { return };
        if !self.free(&key, &side.version) {
            return;
        }
        let change = NodeChange {
            name: found.name.to_string(),
            version: side.version.clone(),
            taints: side.taints.clone(),
            has_annotations: side.has_annotations,
            has_mark: side.has_mark,
            mark,
        };
        let cluster = Rc::clone(&self.cluster);
        self.work.begin(key, async move {
            let result = cluster.change_node(&change).await;
            Done::Node { version: change.version, result }
        });
    }

    fn run(&mut self, node: &str, update: &str, attempt: &str) {
        let key = (node.to_owned(), Kind::Run);
        let Some(spec) = self.world.update(update).and_then(|side| side.spec.as_ref().ok()) else { return };
        // A spec that was edited since says nothing about an attempt of before.
        if spec.planner.revision != convert::node_status::revision_of(attempt) || !self.free(&key, attempt) {
            return;
        }
        let (target, stage_limit) = (spec.target.clone(), spec.stage);
        let demands = convert::spec::demands(spec, &self.world.snapshot.policy);
        let Some(about) = self.about(node, Some(update), attempt) else { return };
        self.serial += 1;
        let serial = self.serial;
        let (permits, granted) = mpsc::unbounded_channel();
        let (hang_up, hung_up) = oneshot::channel();
        if let Some(side) = self.world.side_mut(node) {
            side.begin(Session { attempt: attempt.to_owned(), serial, permits, hang_up });
        }
        self.world.run_began(node, attempt);
        let (calls, news) = (self.calls.clone(), self.news.0.clone());
        let run = Run { about, target, demands, stage_limit, serial };
        self.work.begin(key, async move {
            tokio::select! {
                () = calls.run(run, granted, news) => {}
                // When another session takes its place, it says its last words to nobody.
                Ok(()) = hung_up => {}
            }
            Done::Run { serial }
        });
    }

    fn permit(&mut self, node: &str, attempt: &str, receipt: &str, boot_id: &str, asked: Duration) {
        // Not longer than our own word counts.
        let duration = asked.min(self.term.remaining(&*self.clock)).min(Duration::from_secs(30));
        if duration < SHORTEST_PERMISSION {
            return;
        }
        let Some(about) = self.about(node, None, attempt) else { return };
        let permission = Permission {
            subject: Some(about.subject()),
            boot_id: boot_id.to_owned(),
            receipt: receipt.to_owned(),
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(0),
        };
        let session = self.world.side_mut(node).and_then(|side| side.session.as_ref());
        let sent = session
            .filter(|session| session.attempt == attempt)
            .is_some_and(|session| session.permits.send(permission).is_ok());
        if sent {
            tracing::info!(node, attempt, "permitted to jump");
            self.world.permitted(node, attempt);
        } else {
            // Its run is gone: it is joined again, and asks again.
            self.world.run_began(node, attempt);
        }
    }

    fn abort(&mut self, node: &str, attempt: &str, why: &str) {
        let key = (node.to_owned(), Kind::Abort);
        if !self.free(&key, attempt) {
            return;
        }
        let Some((about, turn)) = self.about(node, None, attempt).zip(self.turn_of(node)) else { return };
        let (calls, why) = (self.calls.clone(), why.to_owned());
        self.work.begin(key, async move {
            let result = calls.abort(&about, why).await.map(Box::new);
            Done::Abort { asked: Whom { uid: about.peer.uid, turn }, attempt: about.attempt, result }
        });
    }

    pub(super) fn ask_outcome(&mut self, node: &str, attempt: &str, now: Duration) {
        let key = (node.to_owned(), Kind::Outcome);
        let Some(side) = self.world.side_mut(node) else { return };
        if side.outcome_due > now {
            let due = side.outcome_due;
            self.wake_at(due);
            return;
        }
        if self.work.busy(&key) {
            return;
        }
        let serial = self.serial;
        side.outcome_due = now + jitter(OUTCOME_POLL, 0.3, node, serial);
        let due = side.outcome_due;
        self.wake_at(due);
        let Some((about, turn)) = self.about(node, None, attempt).zip(self.turn_of(node)) else { return };
        let calls = self.calls.clone();
        self.work.begin(key, async move {
            let result = calls.outcome(&about).await.map(Box::new);
            Done::Outcome { asked: Whom { uid: about.peer.uid, turn }, attempt: about.attempt, result }
        });
    }

    pub(super) fn read_lease(&mut self, node: &str, now: Duration) {
        let key = (node.to_owned(), Kind::NodeLease);
        let serial = self.serial;
        let Some((found, side)) = self.world.node(node) else { return };
        let (boot, due) = (found.boot_id.to_string(), side.lease_due);
        if due > now {
            self.wake_at(due);
            return;
        }
        if self.work.busy(&key) {
            return;
        }
        let next = now + jitter(LEASE_POLL, 0.2, node, serial);
        if let Some(side) = self.world.side_mut(node) {
            side.lease_due = next;
        }
        self.wake_at(next);
        let (cluster, name) = (Rc::clone(&self.cluster), node.to_owned());
        self.work.begin(key, async move {
            Done::NodeLease { boot, result: cluster.read_node_lease(&name).await }
        });
    }

    fn confirm(&mut self, node: &str, attempt: &str) {
        let key = (node.to_owned(), Kind::Confirm);
        if !self.free(&key, attempt) {
            return;
        }
        let Some(about) = self.about(node, None, attempt) else { return };
        let calls = self.calls.clone();
        self.work.begin(key, async move {
            let result = calls.confirm(&about).await;
            Done::Confirm { uid: about.peer.uid, attempt: about.attempt, result }
        });
    }

    fn release(&mut self, node: &str, update: &str, attempt: &str) {
        let key = (node.to_owned(), Kind::Release);
        if !self.free(&key, attempt) {
            return;
        }
        let Some(about) = self.about(node, Some(update), attempt) else { return };
        tracing::warn!(node, update, attempt, "the files that are kept of it are to be given up");
        let calls = self.calls.clone();
        self.work.begin(key, async move {
            let result = calls.release(&about).await.map(Box::new);
            Done::Release { uid: about.peer.uid, attempt: about.attempt, result }
        });
    }

    /// Inspects the agents whose time has come; those with attempts in flight first.
    pub(super) fn inspect_due(&mut self, now: Duration) {
        let mut due = Vec::new();
        let mut next: Option<Duration> = None;
        for (node, side) in self.world.nodes() {
            if side.address.is_none() {
                continue;
            }
            if side.inspect_due <= now {
                due.push(node.name.clone());
            } else {
                next = Some(next.map_or(side.inspect_due, |at| at.min(side.inspect_due)));
            }
        }
        let flying: HashSet<&str> = self
            .world
            .snapshot
            .updates
            .iter()
            .flat_map(|update| &update.record.in_flight)
            .map(|entry| entry.node.as_str())
            .collect();
        due.sort_by_key(|name| !flying.contains(name.as_str()));
        for name in due {
            if self.work.room(Kind::Inspect) == 0 {
                break;
            }
            self.inspect(&name, now);
        }
        next.into_iter().for_each(|at| self.wake_at(at));
    }

    fn inspect(&mut self, node: &str, now: Duration) {
        let key: Key = (node.to_owned(), Kind::Inspect);
        if self.work.busy(&key) {
            return;
        }
        let Some((about, turn)) = self.about(node, None, "").zip(self.turn_of(node)) else { return };
        if let Some(side) = self.world.side_mut(node) {
            side.inspect_due = now + jitter(INSPECT, 0.1, node, 0);
        }
        let calls = self.calls.clone();
        self.work.begin(key, async move {
            let result = calls.inspect(&about).await.map(Box::new);
            Done::Inspect { asked: Whom { uid: about.peer.uid, turn }, result }
        });
    }

    /// Puts the next inspection of an agent that failed nearer than that of one that answers.
    pub(super) fn inspect_again(side: &mut NodeSide, node: &str, now: Duration) {
        let (first, last) = AGENT_RETRY;
        let pause = last.min(first * 2u32.saturating_pow(side.failures.saturating_sub(1).min(8)));
        side.inspect_due = now + jitter(pause, 0.2, node, u64::from(side.failures));
    }

    /// What a call to a node's agent is about. Without the update's name it is the one that has the attempt.
    pub(super) fn about(&self, node: &str, update: Option<&str>, attempt: &str) -> Option<About> {
        let (found, side) = self.world.node(node)?;
        let peer =
            Peer { node: found.name.to_string(), uid: found.uid.clone(), address: side.address.clone()? };
        let owner = update.and_then(|name| self.world.update(name)).or_else(|| {
            let flight = |u: &&crate::world::UpdateSide| {
                u.object.status.as_ref().is_ok_and(|s| s.in_flight.iter().any(|e| e.attempt == attempt))
            };
            let marked = || {
                let mark = found.mark.as_ref().filter(|mark| mark.attempt == attempt)?;
                self.world.update_by_uid(&mark.update_uid)
            };
            if attempt.is_empty() { None } else { self.world.updates().find(flight).or_else(marked) }
        });
        let revision = match (owner, attempt.is_empty()) {
            (_, false) => convert::node_status::revision_of(attempt).to_owned(),
            (Some(side), true) => {
                side.spec.as_ref().map(|spec| spec.planner.revision.to_string()).unwrap_or_default()
            }
            (None, true) => String::new(),
        };
        Some(About {
            peer,
            update: owner.map(|side| side.object.name.clone()).unwrap_or_default(),
            update_uid: owner.map(|side| side.object.uid.clone()).unwrap_or_default(),
            revision,
            attempt: attempt.to_owned(),
            epoch: self.epoch(),
        })
    }

    fn turn_of(&self, node: &str) -> Option<u64> {
        self.world.node(node).map(|(_, side)| side.turns)
    }

    fn epoch(&self) -> Epoch {
        self.term.epoch.clone()
    }

    /// The node's `NodeLiveUpdate`, unless it was left by an earlier node of the name.
    pub(super) fn own_node_update(&self, node: &str) -> Option<&crate::cluster::NodeUpdateObject> {
        let (found, _): (&Node, _) = self.world.node(node)?;
        self.world.node_update(node).filter(|object| object.owner_uid == found.uid)
    }
}
