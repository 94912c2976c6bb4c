//! Reads the node and lets the core judge it.

use std::collections::BTreeSet;

use liveupdate_host::{Gate, Host, HostError, Target};
use liveupdate_node_core::node::{Plan, ScopedDevice};
use liveupdate_node_core::verdict::{self, Demands, judge};
use liveupdate_proto::node::v1::DeviceVerdict;

/// What would happen if the node were updated now.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) clear: bool,
    /// Why not, when it is not clear.
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) gates: Vec<Gate>,
    pub(crate) devices: Vec<DeviceVerdict>,
    /// What an attempt does with each device.
    pub(crate) scope: Vec<ScopedDevice>,
    /// Holders of memory alone that take part.
    pub(crate) holders: BTreeSet<String>,
}

impl Decision {
    /// Why the node is blocked, in a sentence.
    pub(crate) fn sentence(&self) -> String {
        format!("{}: {}", self.reason, self.message)
    }

    /// Addresses of the devices that are preserved.
    pub(crate) fn preserve(&self) -> Vec<String> {
        self.planned(|plan| matches!(plan, Plan::Preserve(_)))
    }

    /// Addresses of the devices whose holders are stopped.
    pub(crate) fn stop(&self) -> Vec<String> {
        self.planned(|plan| matches!(plan, Plan::Stop))
    }

    fn planned(&self, wanted: impl Fn(&Plan) -> bool) -> Vec<String> {
        let scoped = self.scope.iter().filter(|device| wanted(&device.plan));
        scoped.map(|device| device.address.clone()).collect()
    }
}

/// Reads every gate, device and holder now, and judges.
pub(crate) fn read(
    host: &dyn Host,
    target: Option<&Target>,
    demands: &Demands,
) -> Result<Decision, HostError> {
    let gates = host.gates(target)?;
    let devices: Vec<_> = host.devices()?.iter().map(verdict::Device::from).collect();
    let holders: Vec<_> = host.holders()?.iter().map(verdict::Holder::from).collect();
    let verdict = judge(&devices, &holders, &gates, demands);
    let (reason, message) = match &verdict.blocked {
        Some((reason, message)) => (reason.as_str().to_owned(), message.clone()),
        None => (String::new(), String::new()),
    };
    let holds = |name: &str| devices.iter().any(|device| device.holder == name);
    let alone = holders.iter().filter(|holder| holder.aware && !holds(&holder.name));
    Ok(Decision {
        clear: verdict.blocked.is_none(),
        reason,
        message,
        scope: verdict.scope(),
        holders: alone.map(|holder| holder.name.clone()).collect(),
        devices: verdict.devices.iter().map(Into::into).collect(),
        gates,
    })
}
