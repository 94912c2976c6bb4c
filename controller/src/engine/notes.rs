//! Events: on transitions alone, at most three per node and run (begun, ended, or blocked); and one more where a person
//! gave up what was kept of a failed attempt.

use std::rc::Rc;

use liveupdate_crds::LiveUpdateStatus;
use liveupdate_crds::conditions::{self, LiveUpdateCondition};
use liveupdate_planner::{Node, NodeClass, NodeEnd, NodeReport, Reason};

use super::Engine;
use super::fold::Done;
use super::work::Kind;
use crate::agents::Agents;
use crate::clock::Clock;
use crate::cluster::{About, Cluster, Note, UpdateObject};

impl<C: Cluster, A: Agents, K: Clock> Engine<C, A, K> {
    /// An attempt at a node begins.
    pub(super) fn started(node: &Node, update: &str, attempt: &str) -> Note {
        Note {
            about: About::Node { name: node.name.to_string(), uid: node.uid.clone() },
            reason: "UpdateStarted".to_owned(),
            message: format!("LiveUpdate {update} begins attempt {attempt}"),
            warning: false,
        }
    }

    /// What a write of a node's status tells.
    pub(super) fn told(node: &Node, report: &NodeReport, ended: bool) -> Option<Note> {
        let update = report.update.as_deref()?;
        let bad = match (&report.end, report.class) {
            (Some(NodeEnd::Updated { .. }), _) if ended => false,
            (Some(NodeEnd::Aborted { .. } | NodeEnd::Failed { .. }), _) if ended => true,
            (_, NodeClass::Blocked) => true,
            _ => return None,
        };
        Some(Note {
            about: About::Node { name: node.name.to_string(), uid: node.uid.clone() },
            reason: report.reason.as_str().to_owned(),
            message: format!("LiveUpdate {update}: {}", report.message),
            warning: bad,
        })
    }

    /// What was kept of a failed attempt is gone for good, and by whose word.
    pub(super) fn given_up(node: &Node, report: &NodeReport) -> Option<Note> {
        let update = report.update.as_deref()?;
        Some(Note {
            about: About::Node { name: node.name.to_string(), uid: node.uid.clone() },
            reason: "FilesReleased".to_owned(),
            message: format!("LiveUpdate {update}, verb release: {}", report.message),
            warning: true,
        })
    }

    /// What a write of an update's status tells: each condition that turned, and each new reason to go on
    /// or stand still.
    pub(super) fn turned(object: &UpdateObject, after: &LiveUpdateStatus) -> Vec<Note> {
        let empty = LiveUpdateStatus::default();
        let before = object.status.as_ref().unwrap_or(&empty);
        let told = |r#type: LiveUpdateCondition, warns: &dyn Fn(bool) -> bool| {
            let new = conditions::find(&after.conditions, r#type)?;
            let old = conditions::find(&before.conditions, r#type);
            let holds = new.status == "True";
            let same = match old {
                Some(old) => {
                    old.status == new.status
                        && (old.reason == new.reason || r#type != LiveUpdateCondition::Progressing)
                }
                // The beginning is told by what holds, not by all that does not.
                None => !holds && r#type != LiveUpdateCondition::Accepted,
            };
            let silent = !holds && matches!(r#type, LiveUpdateCondition::Succeeded);
            if same || silent {
                return None;
            }
            let message = if new.message.is_empty() { &after.summary } else { &new.message };
            Some(Note {
                about: About::Update { name: object.name.clone(), uid: object.uid.clone() },
                reason: new.reason.clone(),
                message: format!("{} is {}: {message}", new.type_, new.status),
                warning: warns(holds),
            })
        };
        [
            told(LiveUpdateCondition::Accepted, &|holds| !holds),
            told(LiveUpdateCondition::Progressing, &|_| false),
            told(LiveUpdateCondition::Succeeded, &|_| false),
            told(LiveUpdateCondition::Degraded, &|holds| holds),
            told(LiveUpdateCondition::Conflicted, &|holds| holds),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Attempts that leave because their Nodes are gone: no status of a node is left to tell it.
    pub(super) fn gone(&self, object: &UpdateObject, after: &LiveUpdateStatus) -> Vec<Note> {
        let before = object.status.as_ref().map(|status| status.in_flight.as_slice()).unwrap_or_default();
        let left = before.iter().filter(|old| after.in_flight.iter().all(|new| new.attempt != old.attempt));
        let gone = left.filter(|entry| self.world.node(&entry.node).is_none_or(|(n, _)| n.uid != entry.uid));
        let note = |entry: &liveupdate_crds::update::InFlight| Note {
            about: About::Update { name: object.name.clone(), uid: object.uid.clone() },
            reason: Reason::NodeGone.as_str().to_owned(),
            message: format!(
                "Node {} (UID {}) is gone in the middle of attempt {}, which counts as failed",
                entry.node, entry.uid, entry.attempt
            ),
            warning: true,
        };
        gone.map(note).collect()
    }

    /// Sends them. An Event that is lost is no harm: every one repeats what a status says.
    pub(super) fn note(&mut self, notes: Vec<Note>) {
        for note in notes {
            self.serial += 1;
            let key = (self.serial.to_string(), Kind::Event);
            let cluster = Rc::clone(&self.cluster);
            self.work.begin(key, async move { Done::Event { result: cluster.record(&note).await } });
        }
    }
}
