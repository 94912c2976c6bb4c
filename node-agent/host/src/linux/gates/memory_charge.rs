use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, size};
use crate::linux::cgroup::Level;
use crate::linux::root::ReadError;

/// The successor's control group, and every group above it, has room for the memory that it will be charged
/// with. What the holder's own group already has of it (`shmem`) comes back with it and is not counted twice.
pub fn memory_charge(holder: &str, levels: Result<&[Level], &ReadError>, bytes: u64) -> Gate {
    // Each group above counts what its own group has.
    let own = levels.ok().and_then(|levels| levels.first()).map_or(0, |own| own.shmem);
    memory_charge_of(holder, levels, bytes, |_| own)
}

/// The same where what each group has of the memory already is known better; at most all of it.
pub fn memory_charge_of(
    holder: &str,
    levels: Result<&[Level], &ReadError>,
    bytes: u64,
    charged: impl Fn(&Level) -> u64,
) -> Gate {
    let mut found = Findings::of(GateId::MemoryCharge, holder);
    let levels = match levels {
        Ok([]) => {
            found.unknown(
                "no control group with memory is known for it",
                "run it as a unit or a pod, with cgroup v2",
            );
            return found.gate();
        }
        Ok(levels) => levels,
        Err(error) => {
            found.unknown(
                error.to_string(),
                "run it as a unit or a pod, with cgroup v2 and the memory controller",
            );
            return found.gate();
        }
    };
    for level in levels {
        let Some(max) = level.max else { continue };
        let room = max.saturating_sub(level.current.saturating_sub(charged(level).min(bytes)));
        let evidence = format!(
            "/sys/fs/cgroup{}: memory.max {}, of which {} is left for {}",
            level.path,
            size(max),
            size(room),
            size(bytes)
        );
        if room < bytes {
            found.bad(
                evidence,
                format!(
                    "raise memory.max of {} by {}",
                    level.path,
                    size((bytes - room).next_multiple_of(1 << 20))
                ),
            );
        } else {
            found.good(evidence);
        }
    }
    if levels.iter().all(|level| level.max.is_none()) {
        found.good(format!("/sys/fs/cgroup{}: no memory.max up to the root", levels[0].path));
    }
    found.gate()
}
