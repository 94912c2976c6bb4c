//! Reads the node and lets the core judge it.

use liveupdate_host::{Gate, Host, HostError, Target, judge};
use liveupdate_node_core::node::Plan;
use liveupdate_node_core::verdict::{Demands, Verdict};

/// What would happen if the node were updated now.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) verdict: Verdict,
    pub(crate) gates: Vec<Gate>,
}

impl Decision {
    /// Why the node is blocked, in a sentence; none when it is clear.
    pub(crate) fn blocked(&self) -> Option<String> {
        let (reason, message) = self.verdict.blocked.as_ref()?;
        Some(format!("{}: {message}", reason.as_str()))
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
        let scope = self.verdict.scope().into_iter();
        scope.filter(|device| wanted(&device.plan)).map(|device| device.address).collect()
    }
}

/// Reads every gate, device and holder now, and judges.
pub(crate) fn read(
    host: &dyn Host,
    target: Option<&Target>,
    demands: &Demands,
) -> Result<Decision, HostError> {
    let (verdict, gates) = judge(host, target, demands)?;
    Ok(Decision { verdict, gates })
}
