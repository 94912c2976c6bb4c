//! Types that more than one kind uses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A fencing epoch: which cluster (UID of the `kube-system` namespace) and which leadership of the
/// controller (raised by compare-and-swap on each takeover). Never lowered: the API server refuses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    /// UID of the `kube-system` namespace of the cluster that speaks.
    pub cluster: String,
    /// Number of the leadership within that cluster, from 1.
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
}

/// A whole number of nodes, or a percentage such as `10%`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrPercent {
    /// A number of nodes.
    Int(i32),
    /// A percentage, written with its sign: `10%`.
    Percent(String),
}

impl JsonSchema for IntOrPercent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IntOrPercent".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
        })
    }
}

/// A duration such as `30s`, `5m` or `1h30m`, as Go and kubectl write it.
pub type DurationString = String;

/// A reference to an update that survives the name being used again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRef {
    /// Name of the `LiveUpdate`.
    pub name: String,
    /// Its UID.
    pub uid: String,
}
