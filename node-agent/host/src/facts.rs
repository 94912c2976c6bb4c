//! What was seen of a device over a jump.

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
