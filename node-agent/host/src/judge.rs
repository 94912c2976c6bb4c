//! Reads the machine and lets the core judge it. Agent and keeper each do so for themselves: what the one
//! finds is not believed by the other.

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{Gate, GateId};
use liveupdate_node_core::verdict::{self, Demands, Device, Holder, Verdict};

use crate::{Host, HostError, Target};

/// The platform's word on who signs beside the node's: the strictest counts, and both say what they found.
fn narrow(gates: &mut [Gate], platform: Gate) {
    let Some(gate) = gates.iter_mut().find(|gate| gate.id == GateId::TargetTrusted) else { return };
    for (text, more) in [(&mut gate.evidence, platform.evidence), (&mut gate.remedy, platform.remedy)] {
        if !text.is_empty() && !more.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&more);
    }
    if gate.result == GateResult::Pass || platform.result == GateResult::Fail {
        gate.result = platform.result;
    }
}

/// Reads every gate, device and holder now, and says what would happen.
///
/// # Errors
/// The machine cannot be asked.
pub fn judge(
    host: &dyn Host,
    target: Option<&Target>,
    demands: &Demands,
) -> Result<(Verdict, Vec<Gate>), HostError> {
    let mut gates = host.gates(target)?;
    if let Some(target) = target.filter(|_| !demands.signers.is_empty()) {
        narrow(&mut gates, host.signed_for(target, &demands.signers)?);
    }
    let devices: Vec<_> = host.devices()?.iter().map(Device::from).collect();
    let holders: Vec<_> = host.holders()?.iter().map(Holder::from).collect();
    Ok((verdict::judge(&devices, &holders, &gates, demands), gates))
}
