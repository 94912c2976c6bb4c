//! How long each state of an attempt may take.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{DurationString, rules};

/// How long each state of an attempt may take.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deadlines {
    /// Reading all gates.
    #[serde(default = "default::preflight")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::deadline_up_to("1h"))]
    pub preflight: DurationString,
    /// Fetching, verifying and loading the bundle.
    #[serde(default = "default::stage")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::deadline_up_to("24h"))]
    pub stage: DurationString,
    /// Preserving memory and devices while the guests run.
    #[serde(default = "default::preserve")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::deadline_up_to("24h"))]
    pub preserve: DurationString,
    /// From the first stopped guest to the jump. Guests stand still meanwhile.
    #[serde(default = "default::quiesce")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::deadline_up_to("5m"))]
    pub quiesce: DurationString,
    /// From the jump to the node's return.
    #[serde(default = "default::r#return")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::deadline_up_to("24h"))]
    pub r#return: DurationString,
    /// From the return until every holder has its files. What is not fetched by then is kept, and the
    /// node counts as failed.
    #[serde(default = "default::reclaim")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::deadline_up_to("24h"))]
    pub reclaim: DurationString,
    /// From then until the node is seen Ready on the target.
    #[serde(default = "default::verify")]
    #[schemars(length(max = rules::DURATION_LENGTH))]
    #[x_kube(validation = rules::deadline_up_to("24h"))]
    pub verify: DurationString,
}

mod default {
    pub(super) fn preflight() -> String {
        "2m".to_owned()
    }
    pub(super) fn stage() -> String {
        "10m".to_owned()
    }
    pub(super) fn preserve() -> String {
        "5m".to_owned()
    }
    pub(super) fn quiesce() -> String {
        "2s".to_owned()
    }
    pub(super) fn r#return() -> String {
        "5m".to_owned()
    }
    pub(super) fn reclaim() -> String {
        "5m".to_owned()
    }
    pub(super) fn verify() -> String {
        "5m".to_owned()
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            preflight: default::preflight(),
            stage: default::stage(),
            preserve: default::preserve(),
            quiesce: default::quiesce(),
            r#return: default::r#return(),
            reclaim: default::reclaim(),
            verify: default::verify(),
        }
    }
}
