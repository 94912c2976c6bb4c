//! `LiveUpdatePolicy`: the platform's floor under every update.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use crate::common::{Acknowledgement, Continuity, IntOrPercent};

/// The platform's word. A singleton named `default`; without it nothing is allowed that needs an
/// acknowledgement... see `allowedAcknowledgements`.
#[derive(CustomResource, schemars::JsonSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "liveupdate.dev",
    version = "v1alpha1",
    kind = "LiveUpdatePolicy",
    shortname = "lup",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct LiveUpdatePolicySpec {
    /// Risks that a team may acknowledge. An update that names another one is not accepted.
    #[serde(default)]
    pub allowed_acknowledgements: Vec<Acknowledgement>,
    /// The least continuity that any preserved device may get, whatever the update says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_continuity: Option<Continuity>,
    /// Most nodes unavailable at once over all updates together; percentages are of all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrPercent>,
    /// The global stop: while true no node is started and no jump permitted, by any update.
    #[serde(default)]
    pub hold: bool,
}
