//! Gates, demands, devices, holders, verdicts.

use std::time::Duration;

use liveupdate_node_core::Continuity;
use liveupdate_node_core::gate::{Gate, GateId};
use liveupdate_node_core::node::Deadlines;
use liveupdate_node_core::verdict::{Demands, Device, DeviceVerdict, Fate, Holder, Rule, Signer};

use super::ConvertError;
use crate::common::v1 as pb;
use crate::node::v1 as node;

impl From<&Gate> for pb::Gate {
    fn from(gate: &Gate) -> Self {
        Self {
            id: gate.id.as_str().into(),
            subject: gate.subject.clone(),
            result: pb::GateResult::from(gate.result).into(),
            evidence: gate.evidence.clone(),
            remedy: gate.remedy.clone(),
        }
    }
}

impl TryFrom<&pb::Gate> for Gate {
    type Error = ConvertError;

    fn try_from(gate: &pb::Gate) -> Result<Self, ConvertError> {
        let invalid = || ConvertError::Invalid { field: "gate.id", found: gate.id.clone() };
        Ok(Self {
            id: GateId::from_name(&gate.id).ok_or_else(invalid)?,
            subject: gate.subject.clone(),
            result: gate.result().into(),
            evidence: gate.evidence.clone(),
            remedy: gate.remedy.clone(),
        })
    }
}

/// The gates that this build knows; a newer peer may have others. Leaving those out helps nobody: this
/// build requires none of them, and a gate that it requires and does not find is unknown.
pub fn known_gates(gates: &[pb::Gate]) -> Vec<Gate> {
    gates.iter().filter_map(|gate| Gate::try_from(gate).ok()).collect()
}

impl From<&Rule> for pb::DeviceRule {
    fn from(rule: &Rule) -> Self {
        Self {
            name: rule.name.clone(),
            vendor: rule.vendor.clone(),
            device: rule.device.clone(),
            class: rule.class.clone(),
            on_update: pb::OnUpdate::from(rule.on_update).into(),
            minimum: pb::Continuity::from(rule.minimum).into(),
            on_shortfall: pb::OnShortfall::from(rule.on_shortfall).into(),
        }
    }
}

impl TryFrom<&pb::DeviceRule> for Rule {
    type Error = ConvertError;

    /// An unset minimum asks for the least; an unset action is an error: nothing may be guessed there.
    fn try_from(rule: &pb::DeviceRule) -> Result<Self, ConvertError> {
        let action = Option::from(rule.on_update());
        Ok(Self {
            name: rule.name.clone(),
            vendor: rule.vendor.clone(),
            device: rule.device.clone(),
            class: rule.class.clone(),
            on_update: action.ok_or_else(|| invalid("rule.on_update", rule.on_update))?,
            minimum: minimum("rule.minimum", rule.minimum)?.unwrap_or(Continuity::Reinitialised),
            on_shortfall: rule.on_shortfall().into(),
        })
    }
}

/// What somebody asks for; none: nothing. What a newer peer asks for and we do not know must not be taken
/// for nothing.
fn minimum(field: &'static str, found: i32) -> Result<Option<Continuity>, ConvertError> {
    let known = pb::Continuity::try_from(found).map_err(|_| invalid(field, found))?;
    Ok(known.into())
}

fn invalid(field: &'static str, found: i32) -> ConvertError {
    ConvertError::Invalid { field, found: found.to_string() }
}

impl TryFrom<&pb::Demands> for Demands {
    type Error = ConvertError;

    fn try_from(demands: &pb::Demands) -> Result<Self, ConvertError> {
        Ok(Self {
            rules: demands.devices.iter().map(Rule::try_from).collect::<Result<_, _>>()?,
            acknowledged: demands.acknowledged.iter().cloned().collect(),
            platform_minimum: minimum("demands.platform_minimum", demands.platform_minimum)?,
            signers: demands.signers.iter().map(signer).collect::<Result<_, _>>()?,
        })
    }
}

/// The name goes on into evidence. What is no key is found out where it is used: it must not be taken for nobody.
fn signer(signer: &pb::Signer) -> Result<Signer, ConvertError> {
    super::word("demands.signers.name", &signer.name)?;
    Ok(Signer { name: signer.name.clone(), key: signer.key.clone() })
}

/// How long each state may last; what is 0 or absent is the default.
pub fn deadlines(asked: Option<&pb::Deadlines>) -> Deadlines {
    let default = Deadlines::default();
    let Some(asked) = asked else { return default };
    let or = |ms: u64, default: Duration| if ms == 0 { default } else { Duration::from_millis(ms) };
    Deadlines {
        preflight: or(asked.preflight_ms, default.preflight),
        stage: or(asked.stage_ms, default.stage),
        preserve: or(asked.preserve_ms, default.preserve),
        quiesce: or(asked.quiesce_ms, default.quiesce),
        reclaim: or(asked.reclaim_ms, default.reclaim),
        ..default
    }
}

fn continuity(value: Option<Continuity>) -> i32 {
    value.map_or(pb::Continuity::Unspecified, Into::into).into()
}

/// A device with the best that it could get now.
impl From<(&Device, Option<Continuity>)> for node::Device {
    fn from((device, ceiling): (&Device, Option<Continuity>)) -> Self {
        Self {
            address: device.address.clone(),
            vendor: device.vendor.clone(),
            device: device.device.clone(),
            class: device.class.clone(),
            holder: device.holder.clone(),
            ceiling: continuity(ceiling),
        }
    }
}

impl From<&node::Device> for Device {
    fn from(device: &node::Device) -> Self {
        Self {
            address: device.address.clone(),
            vendor: device.vendor.clone(),
            device: device.device.clone(),
            class: device.class.clone(),
            holder: device.holder.clone(),
        }
    }
}

impl From<&Holder> for node::Holder {
    fn from(holder: &Holder) -> Self {
        Self {
            name: holder.name.clone(),
            aware: holder.aware,
            minimum: continuity(holder.minimum),
            refuses: holder.refuses,
        }
    }
}

impl TryFrom<&node::Holder> for Holder {
    type Error = ConvertError;

    fn try_from(holder: &node::Holder) -> Result<Self, ConvertError> {
        Ok(Self {
            name: holder.name.clone(),
            aware: holder.aware,
            minimum: minimum("holder.minimum", holder.minimum)?,
            refuses: holder.refuses,
        })
    }
}

impl From<Fate> for node::Fate {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Preserved => Self::Preserved,
            Fate::Stopped => Self::Stopped,
            Fate::Untouched => Self::Untouched,
            Fate::Blocks(_) => Self::Blocks,
        }
    }
}

impl From<&DeviceVerdict> for node::DeviceVerdict {
    fn from(verdict: &DeviceVerdict) -> Self {
        let reason = match verdict.fate {
            Fate::Blocks(reason) => reason.as_str(),
            Fate::Preserved | Fate::Stopped | Fate::Untouched => "",
        };
        Self {
            device: Some((&verdict.device, verdict.ceiling).into()),
            fate: node::Fate::from(verdict.fate).into(),
            minimum: continuity(verdict.minimum),
            decided_by: node::Voice::from(verdict.decided_by).into(),
            reason: reason.into(),
            message: verdict.message.clone(),
        }
    }
}
