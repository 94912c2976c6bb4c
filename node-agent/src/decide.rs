//! Reads the node and lets the core judge it.

use liveupdate_host::{Host, HostError, Target};
use liveupdate_node_core::verdict::{Demands, Fate, judge};
use liveupdate_proto::common::v1::Gate;
use liveupdate_proto::node::v1::DeviceVerdict;

use crate::convert;

/// What would happen if the node were updated now.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) clear: bool,
    /// Why not, when it is not clear.
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) gates: Vec<Gate>,
    pub(crate) devices: Vec<DeviceVerdict>,
    /// Addresses of devices to preserve.
    pub(crate) preserve: Vec<String>,
    /// Addresses of devices whose holders are stopped.
    pub(crate) stop: Vec<String>,
}

impl Decision {
    /// Why the node is blocked, in a sentence.
    pub(crate) fn sentence(&self) -> String {
        format!("{}: {}", self.reason, self.message)
    }
}

/// Reads every gate, device and holder now, and judges.
pub(crate) fn read(
    host: &dyn Host,
    target: Option<&Target>,
    demands: &Demands,
) -> Result<Decision, HostError> {
    let gates = host.gates(target)?;
    let devices: Vec<_> = host.devices()?.iter().map(convert::judged_device).collect();
    let holders: Vec<_> = host.holders()?.iter().map(convert::judged_holder).collect();
    let verdict = judge(&devices, &holders, &gates, demands);
    let (reason, message) = match &verdict.blocked {
        Some((reason, message)) => (reason.as_str().to_owned(), message.clone()),
        None => (String::new(), String::new()),
    };
    let addresses = |fate: Fate| {
        let of_fate = verdict.devices.iter().filter(|judged| judged.fate == fate);
        of_fate.map(|judged| judged.device.address.clone()).collect()
    };
    Ok(Decision {
        clear: verdict.blocked.is_none(),
        reason,
        message,
        gates: gates.iter().map(Into::into).collect(),
        devices: verdict.devices.iter().map(Into::into).collect(),
        preserve: addresses(Fate::Preserved),
        stop: addresses(Fate::Stopped),
    })
}
