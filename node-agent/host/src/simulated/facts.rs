//! What will be seen of a device over a jump, as it is written in a world's file.
//!
//! The core's facts with serde: the core itself has no dependencies.

use std::time::Duration;

use liveupdate_node_core::outcome as core;
use serde::{Deserialize, Serialize};

/// Was the device reset?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reset {
    /// No.
    None,
    /// Yes.
    Detected,
    /// Nobody can tell.
    #[default]
    Unknown,
}

/// What became of its DMA?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Dma {
    /// Never stopped.
    Continuous,
    /// Stopped for this many milliseconds.
    Gap(u64),
    /// Stopped.
    Stopped,
    /// Nobody can tell.
    #[default]
    Unknown,
}

/// What became of its interrupts?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Interrupts {
    /// Off for this many milliseconds; every vector signalled at least once after.
    Relatched(u64),
    /// Gone.
    Lost,
    /// Nobody can tell.
    #[default]
    Unknown,
}

/// Is its configuration space as before?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Config {
    /// Yes.
    Same,
    /// No.
    Changed,
    /// Nobody can tell.
    #[default]
    Unknown,
}

/// Is its inner state as before?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceState {
    /// It was looked at.
    Probed,
    /// Its holder says so.
    Attested,
    /// Nobody can tell.
    #[default]
    Unknown,
}

/// Everything that will be seen of a device over a jump. The default knows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FactsSpec {
    /// Was it reset?
    pub reset: Reset,
    /// Its DMA.
    pub dma: Dma,
    /// Its interrupts.
    pub interrupts: Interrupts,
    /// Its configuration space.
    pub config: Config,
    /// Its inner state.
    pub state: DeviceState,
    /// Quiescent over the gap.
    pub quiescent: bool,
}

impl FactsSpec {
    /// Facts that are worth `Uninterrupted`.
    pub fn uninterrupted() -> Self {
        Self {
            reset: Reset::None,
            dma: Dma::Continuous,
            interrupts: Interrupts::Relatched(1),
            config: Config::Same,
            state: DeviceState::Probed,
            quiescent: false,
        }
    }

    /// Facts that are worth `Paused`.
    pub fn paused(gap_ms: u64) -> Self {
        Self { dma: Dma::Gap(gap_ms), quiescent: true, ..Self::uninterrupted() }
    }

    /// Facts that are worth `Reinitialised`.
    pub fn reinitialised() -> Self {
        Self { reset: Reset::Detected, dma: Dma::Stopped, ..Self::uninterrupted() }
    }

    /// As the core has it.
    pub fn facts(self, returned: bool) -> core::Facts {
        core::Facts {
            reset: match self.reset {
                Reset::None => core::Reset::None,
                Reset::Detected => core::Reset::Detected,
                Reset::Unknown => core::Reset::Unknown,
            },
            dma: match self.dma {
                Dma::Continuous => core::Dma::Continuous,
                Dma::Gap(ms) => core::Dma::Gap(Duration::from_millis(ms)),
                Dma::Stopped => core::Dma::Stopped,
                Dma::Unknown => core::Dma::Unknown,
            },
            interrupts: match self.interrupts {
                Interrupts::Relatched(ms) => core::Interrupts::Relatched(Duration::from_millis(ms)),
                Interrupts::Lost => core::Interrupts::Lost,
                Interrupts::Unknown => core::Interrupts::Unknown,
            },
            config: match self.config {
                Config::Same => core::Config::Same,
                Config::Changed => core::Config::Changed,
                Config::Unknown => core::Config::Unknown,
            },
            state: match self.state {
                DeviceState::Probed => core::State::Probed,
                DeviceState::Attested => core::State::Attested,
                DeviceState::Unknown => core::State::Unknown,
            },
            quiescent: self.quiescent,
            returned,
        }
    }
}
