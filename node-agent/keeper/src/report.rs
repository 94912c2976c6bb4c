//! What is known of the attempt, as the agent gets it.

use std::time::Duration;

use liveupdate_node_core::node::{Attempt, Node, Stage, StateName};
use liveupdate_node_core::outcome::{Config, Dma, Facts, Interrupts, Outcome, Reset, State};
use liveupdate_node_core::outcomes::Settled;
use liveupdate_proto::common::v1 as proto;

use crate::blackout::node_blackout;
use crate::journal::Journal;

/// The report; none when there was never an attempt.
pub(crate) fn report(journal: &Journal, simulated: bool) -> Option<proto::AttemptReport> {
    let attempt = journal.node.attempt()?;
    let measured = node_blackout(&journal.notes.stamps);
    let stood_still = !journal.notes.stamps.is_empty();
    let trouble = &journal.notes.trouble;
    let message = match (message(&journal.node), trouble.as_str()) {
        (message, "") => message,
        (message, trouble) => format!("{message}; tried again: {trouble}"),
    };
    let state = |&(state, unix_ms): &(i32, i64)| proto::StateTime { state, unix_ms };
    Some(proto::AttemptReport {
        attempt: attempt.id.clone(),
        revision: attempt.revision.clone(),
        state: node_state(journal.node.name()).into(),
        reason: journal.node.reason().unwrap_or_default().into(),
        message,
        proof: journal.node.proof().map(|proof| proto::Proof {
            boot_id: proof.boot_id().into(),
            boot_id_before: attempt.boot_id.clone(),
            release: proof.release().into(),
            nonce_returned: proof.nonce_returned(),
        }),
        blackout: stood_still.then(|| proto::Blackout {
            measured: measured.is_some(),
            milliseconds: measured.unwrap_or(0),
            simulated,
        }),
        devices: devices(&journal.node, attempt),
        states: journal.notes.states.iter().map(state).collect(),
        confirmed: confirmed(&journal.node),
    })
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
        Node::After(after) => matches!(after.stage(), Stage::Quarantined { confirmed: true, .. }),
        Node::Idle | Node::Before(_) | Node::Thawing(_) => false,
    }
}

fn devices(node: &Node, attempt: &Attempt) -> Vec<proto::DeviceOutcome> {
    let describe = |(address, settled): (&str, &Settled)| {
        let device = attempt.devices.iter().find(|d| d.address == address);
        proto::DeviceOutcome {
            address: address.into(),
            model: device.map(|d| d.model.clone()).unwrap_or_default(),
            holder: device.map(|d| d.holder.clone()).unwrap_or_default(),
            outcome: outcome(settled.outcome).into(),
            facts: settled.facts.as_ref().map(facts),
        }
    };
    match node {
        Node::Ended(ended) => {
            ended.outcomes.devices().iter().map(|(address, s)| describe((address.as_str(), s))).collect()
        }
        Node::After(after) => match after.outcomes() {
            // What is missing in the end is lost; the report says so from then on.
            Some(outcomes)
                if matches!(after.stage(), Stage::Verifying { .. } | Stage::Quarantined { .. }) =>
            {
                let finished = outcomes.clone().finish();
                finished.devices().iter().map(|(address, s)| describe((address.as_str(), s))).collect()
            }
            Some(outcomes) => outcomes.settled().map(describe).collect(),
            None => Vec::new(),
        },
        Node::Idle | Node::Before(_) | Node::Thawing(_) => Vec::new(),
    }
}

pub(crate) fn node_state(name: StateName) -> proto::NodeState {
    match name {
        StateName::Idle => proto::NodeState::Idle,
        StateName::Preflight => proto::NodeState::Preflight,
        StateName::Queued => proto::NodeState::Queued,
        StateName::Staging => proto::NodeState::Staging,
        StateName::Preserving => proto::NodeState::Preserving,
        StateName::Settling => proto::NodeState::Settling,
        StateName::Quiescing => proto::NodeState::Quiescing,
        StateName::Committing => proto::NodeState::Committing,
        StateName::Jumping => proto::NodeState::Jumping,
        StateName::Returned => proto::NodeState::Returned,
        StateName::Reclaiming => proto::NodeState::Reclaiming,
        StateName::Verifying => proto::NodeState::Verifying,
        StateName::Persisting => proto::NodeState::Persisting,
        StateName::Updated => proto::NodeState::Updated,
        StateName::Blocked => proto::NodeState::Blocked,
        StateName::Aborted => proto::NodeState::Aborted,
        StateName::Thawing => proto::NodeState::Thawing,
        StateName::Failed => proto::NodeState::Failed,
        StateName::Quarantined => proto::NodeState::Quarantined,
    }
}

fn outcome(outcome: Outcome) -> proto::Outcome {
    match outcome {
        Outcome::Lost => proto::Outcome::Lost,
        Outcome::Reinitialised => proto::Outcome::Reinitialised,
        Outcome::Paused => proto::Outcome::Paused,
        Outcome::Uninterrupted => proto::Outcome::Uninterrupted,
        Outcome::Stopped => proto::Outcome::Stopped,
        Outcome::Untouched => proto::Outcome::Untouched,
    }
}

fn facts(facts: &Facts) -> proto::DeviceFacts {
    let ms = |gap: Duration| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
    let (dma, dma_gap_ms) = match facts.dma {
        Dma::Continuous => (proto::Dma::Continuous, 0),
        Dma::Gap(gap) => (proto::Dma::Gap, ms(gap)),
        Dma::Stopped => (proto::Dma::Stopped, 0),
        Dma::Unknown => (proto::Dma::Unknown, 0),
    };
    let (interrupts, interrupts_gap_ms) = match facts.interrupts {
        Interrupts::Relatched(gap) => (proto::Interrupts::Relatched, ms(gap)),
        Interrupts::Lost => (proto::Interrupts::Lost, 0),
        Interrupts::Unknown => (proto::Interrupts::Unknown, 0),
    };
    proto::DeviceFacts {
        reset: match facts.reset {
            Reset::None => proto::Reset::None,
            Reset::Detected => proto::Reset::Detected,
            Reset::Unknown => proto::Reset::Unknown,
        }
        .into(),
        dma: dma.into(),
        dma_gap_ms,
        interrupts: interrupts.into(),
        interrupts_gap_ms,
        config: match facts.config {
            Config::Same => proto::Config::Same,
            Config::Changed => proto::Config::Changed,
            Config::Unknown => proto::Config::Unknown,
        }
        .into(),
        state: match facts.state {
            State::Probed => proto::DeviceState::Probed,
            State::Attested => proto::DeviceState::Attested,
            State::Unknown => proto::DeviceState::Unknown,
        }
        .into(),
        quiescent: facts.quiescent,
        returned: facts.returned,
    }
}
