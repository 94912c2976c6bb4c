use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::kernel::{COMMAND_LINE, Kernel};
use crate::linux::kho::{Kho, LIVEUPDATE};

/// The running kernel has the orchestrator, switched on: its device is there. Otherwise the evidence says at
/// which of the steps it ended.
pub fn live_update_kernel(kernel: &Kernel, kho: &Kho) -> Gate {
    let mut found = Findings::of(GateId::LiveUpdateKernel, "");
    let release = kernel.release.as_deref().unwrap_or("unknown release");
    if kho.orchestrator {
        found.good(format!("{LIVEUPDATE} is there; running kernel: {release}"));
        return found.gate();
    }
    let absent = format!("{LIVEUPDATE}: no such file; running kernel: {release}");
    let built = kernel.config.as_ref().ok().map(|config| config.built_in("CONFIG_LIVEUPDATE"));
    let line = kernel.config_line("CONFIG_LIVEUPDATE").unwrap_or_default();
    match (built, kernel.switch("liveupdate")) {
        (Some(false), _) => found.bad(
            format!("{absent}; {line}"),
            "boot a kernel with CONFIG_LIVEUPDATE=y (no distribution's stock kernel has it; an update of a node that holds nothing brings one)",
        ),
        (_, None | Some(false)) => found.bad(
            format!("{absent}; {COMMAND_LINE}: no liveupdate=on"),
            "boot with liveupdate=on, on a kernel with CONFIG_LIVEUPDATE=y",
        ),
        (_, Some(true)) => found.bad(
            format!("{absent}; {COMMAND_LINE}: liveupdate=on"),
            match kho.on() {
                Some(true) => "look for \"luo\" in the kernel log, and whether the kernel has CONFIG_LIVEUPDATE=y",
                _ => "live update needs kexec handover: see the gate KexecHandover",
            },
        ),
    }
    found.gate()
}
