//! What would happen if the node were updated now, and which voice decided (docs/concepts.md: three voices).
//!
//! The platform, the team and the workload's owner each ask for something; the strictest wins. What the
//! node can do comes from its gates; unknown is not a pass.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::Continuity;
use crate::gate::{self, Gate};
use crate::node::{BlockReason, Plan, ScopedDevice};

/// The acknowledgement without which no device is preserved.
pub const DEVICE_ACKNOWLEDGEMENT: &str = "VfioPciLiveUpdate";

/// One device of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// PCI address.
    pub address: String,
    /// Vendor id, four hex digits.
    pub vendor: String,
    /// Device id, four hex digits.
    pub device: String,
    /// Class, four hex digits.
    pub class: String,
    /// Who holds it; empty: nobody.
    pub holder: String,
}

impl Device {
    /// `vendor:device`
    pub fn model(&self) -> String {
        format!("{}:{}", self.vendor, self.device)
    }
}

/// What a holder's owner says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub name: String,
    /// It speaks the handover protocol.
    pub aware: bool,
    /// The least that its owner accepts.
    pub minimum: Option<Continuity>,
    /// Its owner refuses any update.
    pub refuses: bool,
}

/// What a rule does with its devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUpdate {
    /// Hand them over.
    Preserve,
    /// Stop their holders.
    Stop,
}

/// What happens when a device would get less than is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnShortfall {
    /// The node is blocked.
    #[default]
    Block,
    /// Its holder is stopped.
    Stop,
}

/// What the team wants for the devices that match; an empty match field matches anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Vendor id.
    pub vendor: String,
    /// Device id.
    pub device: String,
    /// Class.
    pub class: String,
    /// What is done.
    pub on_update: OnUpdate,
    /// The least that the team accepts.
    pub minimum: Continuity,
    /// What happens otherwise.
    pub on_shortfall: OnShortfall,
}

impl Rule {
    /// Whether it is about this device. Hex digits compare without case.
    pub fn matches(&self, device: &Device) -> bool {
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted.eq_ignore_ascii_case(found);
        fits(&self.vendor, &device.vendor)
            && fits(&self.device, &device.device)
            && fits(&self.class, &device.class)
    }
}

/// The platform's and the team's voices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// The team's, in order: the first that matches counts.
    pub rules: Vec<Rule>,
    /// Risks that the team takes.
    pub acknowledged: BTreeSet<String>,
    /// The platform's floor under every device that is preserved; it does not speak against stopping one.
    pub platform_minimum: Option<Continuity>,
    /// Who may have signed the target, by the platform; empty: whoever the node trusts.
    pub signers: Vec<Signer>,
}

/// Somebody who signs bundles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signer {
    /// Their name.
    pub name: String,
    /// Their public key in PEM.
    pub key: String,
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Voice {
    /// The platform's policy.
    Platform,
    /// The team's update.
    Team,
    /// The workload's owner.
    Workload,
    /// A gate, or that nobody holds the device.
    Node,
}

impl Voice {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Platform, Self::Team, Self::Workload, Self::Node];

    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Team => "team",
            Self::Workload => "workload",
            Self::Node => "node",
        }
    }
}

/// What would happen to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Handed over, with at least the minimum.
    Preserved,
    /// Its holder is stopped.
    Stopped,
    /// Nobody holds it.
    Untouched,
    /// It blocks the node.
    Blocks(BlockReason),
}

/// What would happen to one device, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceVerdict {
    /// Which.
    pub device: Device,
    /// What would happen.
    pub fate: Fate,
    /// The best that it could get now; none: it cannot be preserved.
    pub ceiling: Option<Continuity>,
    /// What is asked for by the strictest.
    pub minimum: Option<Continuity>,
    /// Who decided.
    pub decided_by: Voice,
    /// A sentence.
    pub message: String,
}

/// What would happen to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// None: clear. Else why the node is blocked.
    pub blocked: Option<(BlockReason, String)>,
    /// Each device with its fate, in the order given.
    pub devices: Vec<DeviceVerdict>,
    /// Aware holders of memory alone; those of devices follow from the devices.
    pub holders: BTreeSet<String>,
}

impl Verdict {
    /// The devices as an attempt takes them; meaningful when the node is clear.
    pub fn scope(&self) -> Vec<ScopedDevice> {
        let plan = |v: &DeviceVerdict| match v.fate {
            Fate::Preserved => Plan::Preserve(v.minimum.unwrap_or(Continuity::Reinitialised)),
            Fate::Stopped => Plan::Stop,
            Fate::Untouched | Fate::Blocks(_) => Plan::Leave,
        };
        let scoped = |v: &DeviceVerdict| ScopedDevice {
            address: v.device.address.clone(),
            model: v.device.model(),
            holder: v.device.holder.clone(),
            plan: plan(v),
        };
        self.devices.iter().map(scoped).collect()
    }
}

/// Judges a node. Devices keep their order; the first that blocks names the node's reason.
pub fn judge(devices: &[Device], holders: &[Holder], gates: &[Gate], demands: &Demands) -> Verdict {
    let judged: Vec<_> = devices.iter().map(|device| judge_device(device, holders, gates, demands)).collect();
    let alone = |name: &str| !devices.iter().any(|device| device.holder == name);
    let aware = holders.iter().filter(|holder| holder.aware && alone(&holder.name));
    let alone: BTreeSet<String> = aware.map(|holder| holder.name.clone()).collect();
    let preserved = judged.iter().filter(|v| v.fate == Fate::Preserved).filter_map(|v| v.minimum).max();
    // Memory alone asks for what the least of devices asks for; an attempt sees it the same way.
    let continuity = preserved.or_else(|| (!alone.is_empty()).then_some(Continuity::Reinitialised));
    let acknowledged: Vec<&str> = demands.acknowledged.iter().map(String::as_str).collect();
    let mut shortfalls = gate::node_shortfalls(gates, continuity, &acknowledged);
    for holder in &alone {
        shortfalls.extend(gate::holder_shortfalls(gates, holder));
    }
    let blocked = holders
        .iter()
        .find(|holder| holder.refuses)
        .map(|holder| {
            (BlockReason::ContinuityShortfall, format!("the owner of {} refuses any update", holder.name))
        })
        .or_else(|| device_block(&judged))
        .or_else(|| {
            let first = gate::explain(&shortfalls, gates)?;
            Some((BlockReason::GateNotPassed, first))
        });
    Verdict { blocked, devices: judged, holders: alone }
}

fn device_block(judged: &[DeviceVerdict]) -> Option<(BlockReason, String)> {
    let blocking = |v: &DeviceVerdict| match v.fate {
        Fate::Blocks(reason) => Some((reason, v.message.clone())),
        Fate::Preserved | Fate::Stopped | Fate::Untouched => None,
    };
    let mut all = judged.iter().filter_map(blocking);
    let (reason, message) = all.next()?;
    match all.count() {
        0 => Some((reason, message)),
        more => Some((reason, format!("{message}; {more} more block too"))),
    }
}

/// The strictest demand and whose it is; among equals the team's, whose rule it is, then the platform's.
fn strictest(
    team: Continuity,
    platform: Option<Continuity>,
    workload: Option<Continuity>,
) -> (Continuity, Voice) {
    let mut found = (team, Voice::Team);
    for (minimum, voice) in [(platform, Voice::Platform), (workload, Voice::Workload)] {
        if let Some(minimum) = minimum.filter(|minimum| *minimum > found.0) {
            found = (minimum, voice);
        }
    }
    found
}

fn judge_device(device: &Device, holders: &[Holder], gates: &[Gate], demands: &Demands) -> DeviceVerdict {
    let acknowledged: Vec<&str> = demands.acknowledged.iter().map(String::as_str).collect();
    let held = !device.holder.is_empty();
    let ceiling =
        if held { gate::ceiling(gates, &device.address, &device.holder, &acknowledged) } else { None };
    let verdict = |fate, minimum, decided_by, message| DeviceVerdict {
        device: device.clone(),
        fate,
        ceiling,
        minimum,
        decided_by,
        message,
    };
    if !held {
        return verdict(Fate::Untouched, None, Voice::Node, "nobody holds it".to_string());
    }
    let (address, holder) = (&device.address, &device.holder);
    let owner = holders.iter().find(|h| h.name == *holder);
    if owner.is_some_and(|owner| owner.refuses) {
        let message = format!("{address}: the owner of {holder} refuses any update");
        return verdict(Fate::Blocks(BlockReason::ContinuityShortfall), None, Voice::Workload, message);
    }
    let Some(rule) = demands.rules.iter().find(|rule| rule.matches(device)) else {
        let message =
            format!("{address} ({}, held by {holder}) matches no rule of the update", device.model());
        return verdict(Fate::Blocks(BlockReason::DeviceNotCovered), None, Voice::Team, message);
    };
    // The platform floors what is preserved; only the owner can object to being stopped.
    let owners = owner.and_then(|owner| owner.minimum);
    if rule.on_update == OnUpdate::Stop {
        return match owners {
            None => verdict(Fate::Stopped, None, Voice::Team, format!("rule {} stops {holder}", rule.name)),
            Some(minimum) => {
                let message = format!(
                    "{address}: rule {} would stop {holder}, but the workload asks for at least {}",
                    rule.name,
                    minimum.as_str()
                );
                let fate = Fate::Blocks(BlockReason::ContinuityShortfall);
                verdict(fate, Some(minimum), Voice::Workload, message)
            }
        };
    }
    let (minimum, voice) = strictest(rule.minimum, demands.platform_minimum, owners);
    if !demands.acknowledged.contains(DEVICE_ACKNOWLEDGEMENT) {
        let message = format!(
            "{address}: preserving a device is experimental: the update must acknowledge {DEVICE_ACKNOWLEDGEMENT}"
        );
        return verdict(Fate::Blocks(BlockReason::GateNotPassed), Some(minimum), Voice::Team, message);
    }
    if ceiling.is_some_and(|ceiling| ceiling >= minimum) {
        let message = format!("{} is asked for by the {}", minimum.as_str(), voice.as_str());
        return verdict(Fate::Preserved, Some(minimum), voice, message);
    }
    let mut short = gate::node_shortfalls(gates, Some(minimum), &acknowledged);
    short.extend(gate::device_shortfalls(gates, address, holder, minimum, &acknowledged));
    let why = gate::explain(&short, gates).unwrap_or_default();
    let could = ceiling.map_or("nothing", Continuity::as_str);
    let base = format!(
        "{address}: {} is asked for by the {}, {could} is possible: {why}",
        minimum.as_str(),
        voice.as_str()
    );
    match (rule.on_shortfall, owners) {
        (OnShortfall::Stop, None) => verdict(
            Fate::Stopped,
            Some(minimum),
            Voice::Team,
            format!("{base}; rule {} stops {holder}", rule.name),
        ),
        (OnShortfall::Stop, Some(_)) => {
            let message =
                format!("{base}; rule {} would stop {holder}, which its owner does not accept", rule.name);
            verdict(Fate::Blocks(BlockReason::ContinuityShortfall), Some(minimum), Voice::Workload, message)
        }
        (OnShortfall::Block, _) if ceiling.is_none() => {
            verdict(Fate::Blocks(BlockReason::GateNotPassed), Some(minimum), Voice::Node, base)
        }
        (OnShortfall::Block, _) => {
            verdict(Fate::Blocks(BlockReason::ContinuityShortfall), Some(minimum), voice, base)
        }
    }
}
