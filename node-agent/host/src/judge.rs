//! Reads the machine and lets the core judge it. Agent and keeper each do so for themselves: what the one
//! finds is not believed by the other.

use liveupdate_node_core::gate::Gate;
use liveupdate_node_core::verdict::{self, Demands, Device, Holder, Verdict};

use crate::{Host, HostError, Target};

/// Reads every gate, device and holder now, and says what would happen.
///
/// # Errors
/// The machine cannot be asked.
pub fn judge(
    host: &dyn Host,
    target: Option<&Target>,
    demands: &Demands,
) -> Result<(Verdict, Vec<Gate>), HostError> {
    let gates = host.gates(target)?;
    let devices: Vec<_> = host.devices()?.iter().map(Device::from).collect();
    let holders: Vec<_> = host.holders()?.iter().map(Holder::from).collect();
    Ok((verdict::judge(&devices, &holders, &gates, demands), gates))
}
