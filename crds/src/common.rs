//! Types that more than one kind uses.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which cluster's controller wrote this, and under which leadership. It is never removed, never
/// lowered and never handed to another cluster: the API server refuses a controller that is no longer
/// the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    /// UID of the `kube-system` namespace of the cluster whose controller speaks.
    #[schemars(length(min = 1, max = 64))]
    pub cluster: String,
    /// Number of the leadership within that cluster, from 1, one more at each takeover.
    #[schemars(range(min = 1))]
    pub counter: i64,
}

/// How much of a device's life goes on over an update; ordered, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Continuity {
    /// Same device, same holder; treat it as if it had been reset.
    Reinitialised,
    /// The device was quiescent while the kernel was replaced, and went on from the same state.
    Paused,
    /// DMA never stopped; no reset; interrupts were latched again.
    Uninterrupted,
}

/// One risk that somebody takes by name. Without its token the API server refuses the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Acknowledgement {
    /// Preservation of VFIO devices over a kexec is experimental in every kernel there is.
    VfioPciLiveUpdate,
    /// A device that no IOMMU confines goes on writing while kernels change, and its holder's word is all that says
    /// where.
    UnconfinedDma,
    /// A crash of the next kernel cannot be dumped: a kernel that hands memory over has no room for a crash
    /// kernel after its first live update.
    NoKdump,
}

impl Acknowledgement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::VfioPciLiveUpdate, Self::UnconfinedDma, Self::NoKdump];

    /// As it is written in a spec.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VfioPciLiveUpdate => "VfioPciLiveUpdate",
            Self::UnconfinedDma => "UnconfinedDma",
            Self::NoKdump => "NoKdump",
        }
    }
}

impl From<Continuity> for liveupdate_planner::Continuity {
    fn from(continuity: Continuity) -> Self {
        match continuity {
            Continuity::Reinitialised => Self::Reinitialised,
            Continuity::Paused => Self::Paused,
            Continuity::Uninterrupted => Self::Uninterrupted,
        }
    }
}

/// A reference to an update that survives the name being used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRef {
    /// Name of the `LiveUpdate`.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
}
