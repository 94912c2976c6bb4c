//! What is known of the attempt, as the agent gets it.

use liveupdate_node_core::node::{Attempt, Node, Stage};
use liveupdate_node_core::outcomes::{Finished, Settled};
use liveupdate_proto::common::v1 as proto;
use liveupdate_proto::convert;

use crate::blackout::node_blackout;
use crate::journal::Journal;

/// The report; none when there was never an attempt. `unwritten`: why all this could not be written down.
pub(crate) fn report(
    journal: &Journal,
    unwritten: Option<&str>,
    simulated: bool,
) -> Option<proto::AttemptReport> {
    let attempt = journal.node.attempt()?;
    let measured = node_blackout(&journal.notes.stamps);
    let stood_still = !journal.notes.stamps.is_empty();
    let more = [
        ("lost", journal.notes.lost.as_str()),
        ("tried again", &journal.notes.trouble),
        ("not written down yet, and tried again", unwritten.unwrap_or_default()),
    ];
    let more = more.into_iter().filter(|(_, what)| !what.is_empty());
    let more = more.map(|(label, what)| format!("{label}: {what}"));
    let message = [message(&journal.node)].into_iter().filter(|message| !message.is_empty()).chain(more);
    let message = message.collect::<Vec<_>>().join("; ");
    let state = |&(state, unix_ms): &(i32, i64)| proto::StateTime { state, unix_ms };
    Some(proto::AttemptReport {
        attempt: attempt.id.clone(),
        revision: attempt.revision.clone(),
        state: proto::NodeState::from(journal.node.name()).into(),
        reason: journal.node.reason().unwrap_or_default().into(),
        message,
        proof: journal.node.proof().map(|proof| convert::proof(attempt, proof)),
        blackout: stood_still.then(|| proto::Blackout {
            measured: measured.is_some(),
            milliseconds: measured.unwrap_or(0),
            simulated,
        }),
        devices: devices(journal, attempt),
        states: journal.notes.states.iter().map(state).collect(),
        confirmed: confirmed(&journal.node),
        kept: kept(journal),
    })
}

/// Its holders may still come for files of the attempt, though no one waits for them any more.
pub(crate) fn kept(journal: &Journal) -> bool {
    match &journal.node {
        Node::After(after) => matches!(after.stage(), Stage::Quarantined { .. }),
        Node::Idle | Node::Ended(_) => journal.notes.open,
        Node::Before(_) | Node::Thawing(_) => false,
    }
}

fn message(node: &Node) -> String {
    match node {
        Node::Idle | Node::Before(_) => String::new(),
        Node::Thawing(thawing) => thawing.why().into(),
        Node::After(after) => match after.stage() {
            Stage::Quarantined { why, .. } => why.clone(),
            _ => String::new(),
        },
        Node::Ended(ended) => ended.message.clone(),
    }
}

/// The controller has the report.
pub(crate) fn confirmed(node: &Node) -> bool {
    match node {
        Node::Ended(ended) => ended.confirmed,
        Node::After(after) => {
            matches!(after.stage(), Stage::Quarantined { confirmed: true, .. } | Stage::Persisting { .. })
        }
        Node::Idle | Node::Before(_) | Node::Thawing(_) => false,
    }
}

fn devices(journal: &Journal, attempt: &Attempt) -> Vec<proto::DeviceOutcome> {
    let evidence = &journal.notes.evidence;
    let one = |address: &str, settled: &Settled| proto::DeviceOutcome {
        evidence: evidence.get(address).cloned().unwrap_or_default(),
        ..convert::device_outcome(attempt, address, settled)
    };
    let all = |finished: &Finished| finished.devices().iter().map(|(a, settled)| one(a, settled)).collect();
    match &journal.node {
        Node::Ended(ended) => all(&ended.outcomes),
        Node::After(after) => match after.outcomes() {
            // What is missing in the end is lost; the report says so from then on.
            Some(outcomes)
                if matches!(
                    after.stage(),
                    Stage::Verifying { .. } | Stage::Persisting { .. } | Stage::Quarantined { .. }
                ) =>
            {
                all(&outcomes.clone().finish())
            }
            Some(outcomes) => outcomes.settled().map(|(a, settled)| one(a, settled)).collect(),
            None => Vec::new(),
        },
        Node::Idle | Node::Before(_) | Node::Thawing(_) => Vec::new(),
    }
}
