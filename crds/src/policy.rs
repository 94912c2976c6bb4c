//! `LiveUpdatePolicy`: the platform's floor under every update.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{Acknowledgement, Continuity, IntOrPercent, rules};

/// Somebody who signs bundles.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Signer {
    /// What nodes call them when they say who signed a bundle.
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub name: String,
    /// Their public key: the text of the `.pub` file that `kubectl liveupdate bundle keygen` writes (Ed25519, PEM).
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.startsWith('-----BEGIN PUBLIC KEY-----')").message("write the text of the signer's .pub file, from its BEGIN line to its END line; the private key has no business here"))]
    pub key: String,
}

/// The platform's word.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "liveupdate.dev",
    version = "v1alpha1",
    kind = "LiveUpdatePolicy",
    plural = "liveupdatepolicies",
    doc = "The platform's word, which floors every update of the cluster. There is one, named `default`. Without it no risk may be acknowledged, so that nothing is preserved.",
    shortname = "lup",
    category = "liveupdate",
    label("app.kubernetes.io/name", "liveupdate"),
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name == 'default'").message("there is one policy for the cluster: write metadata.name: default"),
    printcolumn(name = "Hold", type_ = "boolean", json_path = ".spec.hold", description = "Whether every update is stopped"),
    printcolumn(name = "Max-Unavailable", type_ = "string", json_path = ".spec.maxUnavailable", description = "Most nodes unavailable at once over all updates"),
    printcolumn(name = "Min-Continuity", type_ = "string", json_path = ".spec.minimumContinuity", description = "The least that any preserved device may get"),
    printcolumn(name = "Acknowledgements", type_ = "string", json_path = ".spec.allowedAcknowledgements", description = "Risks that a team may take"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct LiveUpdatePolicySpec {
    /// Risks that a team may take. An update that acknowledges another one is not accepted and says so.
    /// `VfioPciLiveUpdate`: VFIO devices may be preserved over a kexec, which is experimental.
    /// `UnconfinedDma`: so may those that no IOMMU confines, by their holder's word alone. `NoKdump`: a crash
    /// of the next kernel need not be dumped.
    #[serde(default)]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "set"))]
    pub allowed_acknowledgements: Vec<Acknowledgement>,
    /// The least continuity that any preserved device may get, whatever the update says:
    /// `Reinitialised`, `Paused` or `Uninterrupted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_continuity: Option<Continuity>,
    /// Most nodes unavailable at once over all updates together, as a number or a percentage of all
    /// nodes (rounded down, at least 1). Nodes that are down for any other reason count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = rules::at_least_one_node())]
    pub max_unavailable: Option<IntOrPercent>,
    /// Who may have signed a target's bundle, by their public keys. A node that trusts others, too, takes only what
    /// one of these has signed; a node that trusts none of these takes nothing. Left out: whoever the nodes trust.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a.name == b.name))").message("two signers have the same name: give each a name of its own"))]
    pub signers: Vec<Signer>,
    /// The global stop: while true no node is started and no jump permitted, by any update. To stop at
    /// once: `kubectl patch lup default --type merge -p '{"spec":{"hold":true}}'`.
    #[serde(default)]
    pub hold: bool,
}
