use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, size};
use crate::linux::boot_parameters::BootParameters;
use crate::linux::kexec_state::{KexecState, at};
use crate::linux::kho::{IN, Kho, OUT};

const WAIVER: &str = "or acknowledge NoKdump";

/// A crash of the next kernel can still be dumped: there is room reserved now, the next command line asks for
/// it too, and the next kernel finds it beside what is preserved. The last was seen to go wrong, so that it
/// passes only where this very machine has done it before. `next`: command line of the target.
pub fn crash_dump(state: &KexecState, kho: &Kho, next: Option<&BootParameters>) -> Gate {
    let mut found = Findings::of(GateId::CrashDump, "");
    let reserved = match &state.crash_size {
        Ok(0) => {
            found.bad(
                format!("{}: 0: no room is reserved for a crash kernel now", at::CRASH_SIZE),
                format!("boot with crashkernel=, {WAIVER}"),
            );
            return found.gate();
        }
        Ok(reserved) => *reserved,
        Err(error) if error.is_absent() => {
            found.bad(
                format!("{error}: this kernel cannot load a crash kernel"),
                format!("boot a kernel with CONFIG_CRASH_DUMP=y and crashkernel=, {WAIVER}"),
            );
            return found.gate();
        }
        Err(error) => {
            found.unknown(error.to_string(), "mount /sys");
            return found.gate();
        }
    };
    let now = format!("{}: {}", at::CRASH_SIZE, size(reserved));
    match next.map(|parameters| parameters.last("crashkernel")) {
        Some(Some(asked)) if !asked.is_empty() => {
            found.good(format!("{now}; target's command line: crashkernel={asked}"));
        }
        Some(_) => found.bad(
            format!("{now}; target's command line: no crashkernel="),
            format!("append crashkernel= to the target's command line, {WAIVER}"),
        ),
        None => found.unknown(format!("{now}; the target's command line is not known"), "name a target"),
    }
    match kho.on() {
        Some(false) => found.good("no handover: the next kernel reserves as a cold boot does"),
        Some(true) if kho.arrived => {
            found.good(format!("{IN} is there: this kernel came by a handover and found its room"));
        }
        Some(true) => {
            let largest =
                kho.scratch.as_ref().ok().and_then(|areas| areas.iter().map(|area| area.length).max());
            match largest {
                Some(largest) if largest < reserved => found.bad(
                    format!("{now}; {OUT}/scratch_len: at most {} in one piece: the next kernel finds no room", size(largest)),
                    format!("boot with a kho_scratch= that also holds the crash kernel's memory, {WAIVER}"),
                ),
                _ => found.unknown(
                    "whether the next kernel finds the room beside what is preserved: no handover has been seen here yet",
                    format!("update this node once while it holds nothing, {WAIVER}"),
                ),
            }
        }
        None => found.unknown("whether handover is on", "mount debugfs on /sys/kernel/debug"),
    }
    found.gate()
}
