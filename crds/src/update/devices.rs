//! What happens to the devices that guests hold.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{Continuity, rules};

/// What to do with the devices that match.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.onUpdate != 'Preserve' || has(self.minimumContinuity)").message("onUpdate: Preserve needs minimumContinuity: write the least that you accept, Reinitialised, Paused or Uninterrupted"))]
#[x_kube(validation = Rule::new("self.onUpdate != 'Stop' || !has(self.minimumContinuity)").message("onUpdate: Stop keeps nothing of the device: leave minimumContinuity out, or write onUpdate: Preserve"))]
pub struct DeviceRule {
    /// Name of the rule, for messages.
    #[schemars(length(max = 63))]
    #[x_kube(validation = rules::dns_label())]
    pub name: String,
    /// Which devices. What is left out matches anything; an empty match matches every device.
    #[serde(default)]
    pub r#match: DeviceMatch,
    /// `Preserve`: the device is handed over the kexec to the same holder. `Stop`: its holder is stopped
    /// before, and the device is not preserved.
    pub on_update: OnUpdate,
    /// The least that is accepted for a preserved device, from the least to the most. `Reinitialised`:
    /// same device, same holder, as if it had been reset. `Paused`: quiescent while the kernel was
    /// replaced, went on from the same state. `Uninterrupted`: its DMA never stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_continuity: Option<Continuity>,
    /// What happens when a device would get less than that. `Block`: the node is not updated and says
    /// why. `Stop`: the device's holder is stopped before, as with `onUpdate: Stop`.
    #[serde(default)]
    pub on_shortfall: OnShortfall,
}

/// Which PCI devices a rule is for. All that is written must match.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceMatch {
    /// PCI vendor, four lower-case hex digits, such as `"10de"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::four_hex_digits())]
    pub vendor: Option<String>,
    /// PCI device, four lower-case hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::four_hex_digits())]
    pub device: Option<String>,
    /// PCI class and subclass, four lower-case hex digits, such as `"0302"` (3D controller).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rules::four_hex_digits())]
    pub class: Option<String>,
}

/// What happens to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnUpdate {
    /// Handed over the kexec.
    Preserve,
    /// Its holder is stopped before; the device is not preserved.
    Stop,
}

/// What happens when a device would get less than asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnShortfall {
    /// The node is blocked.
    #[default]
    Block,
    /// The holder is stopped before, as with `onUpdate: Stop`.
    Stop,
}
