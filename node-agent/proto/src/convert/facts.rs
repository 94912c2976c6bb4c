//! Facts, outcomes, proof.

use std::time::Duration;

use liveupdate_node_core::node::{Attempt, Proof};
use liveupdate_node_core::outcome::{Config, Dma, Facts, Interrupts, Reset, State};
use liveupdate_node_core::outcomes::Settled;
use liveupdate_node_core::vocabulary::millis;

use crate::common::v1 as pb;

impl From<&Facts> for pb::DeviceFacts {
    fn from(facts: &Facts) -> Self {
        let reset = match facts.reset {
            Reset::None => pb::Reset::None,
            Reset::Detected => pb::Reset::Detected,
            Reset::Unknown => pb::Reset::Unknown,
        };
        let (dma, dma_gap_ms) = match facts.dma {
            Dma::Continuous => (pb::Dma::Continuous, 0),
            Dma::Gap(gap) => (pb::Dma::Gap, millis(gap)),
            Dma::Stopped => (pb::Dma::Stopped, 0),
            Dma::Unknown => (pb::Dma::Unknown, 0),
        };
        let (interrupts, interrupts_gap_ms) = match facts.interrupts {
            Interrupts::Relatched(gap) => (pb::Interrupts::Relatched, millis(gap)),
            Interrupts::Lost => (pb::Interrupts::Lost, 0),
            Interrupts::Unknown => (pb::Interrupts::Unknown, 0),
        };
        let config = match facts.config {
            Config::Same => pb::Config::Same,
            Config::Changed => pb::Config::Changed,
            Config::Unknown => pb::Config::Unknown,
        };
        let state = match facts.state {
            State::Probed => pb::DeviceState::Probed,
            State::Attested => pb::DeviceState::Attested,
            State::Unknown => pb::DeviceState::Unknown,
        };
        Self {
            reset: reset.into(),
            dma: dma.into(),
            dma_gap_ms,
            interrupts: interrupts.into(),
            interrupts_gap_ms,
            config: config.into(),
            state: state.into(),
            quiescent: facts.quiescent,
            returned: facts.returned,
        }
    }
}

impl From<&pb::DeviceFacts> for Facts {
    fn from(facts: &pb::DeviceFacts) -> Self {
        Self {
            reset: match facts.reset() {
                pb::Reset::None => Reset::None,
                pb::Reset::Detected => Reset::Detected,
                pb::Reset::Unspecified | pb::Reset::Unknown => Reset::Unknown,
            },
            dma: match facts.dma() {
                pb::Dma::Continuous => Dma::Continuous,
                pb::Dma::Gap => Dma::Gap(Duration::from_millis(facts.dma_gap_ms)),
                pb::Dma::Stopped => Dma::Stopped,
                pb::Dma::Unspecified | pb::Dma::Unknown => Dma::Unknown,
            },
            interrupts: match facts.interrupts() {
                pb::Interrupts::Relatched => {
                    Interrupts::Relatched(Duration::from_millis(facts.interrupts_gap_ms))
                }
                pb::Interrupts::Lost => Interrupts::Lost,
                pb::Interrupts::Unspecified | pb::Interrupts::Unknown => Interrupts::Unknown,
            },
            config: match facts.config() {
                pb::Config::Same => Config::Same,
                pb::Config::Changed => Config::Changed,
                pb::Config::Unspecified | pb::Config::Unknown => Config::Unknown,
            },
            state: match facts.state() {
                pb::DeviceState::Probed => State::Probed,
                pb::DeviceState::Attested => State::Attested,
                pb::DeviceState::Unspecified | pb::DeviceState::Unknown => State::Unknown,
            },
            quiescent: facts.quiescent,
            returned: facts.returned,
        }
    }
}

/// One device of an attempt with what it got.
pub fn device_outcome(attempt: &Attempt, address: &str, settled: &Settled) -> pb::DeviceOutcome {
    let device = attempt.devices.iter().find(|device| device.address == address);
    pb::DeviceOutcome {
        address: address.into(),
        model: device.map(|device| device.model.clone()).unwrap_or_default(),
        holder: device.map(|device| device.holder.clone()).unwrap_or_default(),
        outcome: pb::Outcome::from(settled.outcome).into(),
        facts: settled.facts.as_ref().map(Into::into),
        // Whoever has seen the device tells.
        evidence: String::new(),
    }
}

/// That the node jumped, beside the boot that the attempt began on. There is no way back: a proof is made
/// by its check alone.
pub fn proof(attempt: &Attempt, proof: &Proof) -> pb::Proof {
    pb::Proof {
        boot_id: proof.boot_id().into(),
        boot_id_before: attempt.boot_id.clone(),
        release: proof.release().into(),
        // Where nothing is handed over nothing can carry it: a proof is made only by the node's own record of the jump then.
        nonce_returned: proof.nonce_returned() || !attempt.carries_nonce(),
    }
}
