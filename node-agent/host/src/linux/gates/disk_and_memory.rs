use liveupdate_node_core::gate::{Gate, GateId};

use super::{Findings, size};
use crate::linux::cgroup::Left;
use crate::linux::memory::Memory;
use crate::linux::root::ReadError;

/// What a bundle takes, and what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The folder that bundles lie in.
    pub folder: String,
    /// Bytes that can still be written there.
    pub free: Result<u64, ReadError>,
    /// Bytes that still have to be written: zero for a bundle that is there.
    pub to_fetch: u64,
    /// Bytes that loading it takes: the kernel as it starts, its initrd, and both files while they are read.
    pub to_load: u64,
    /// Of that, what the agent itself holds in memory meanwhile: the files that are loaded.
    pub to_hold: u64,
    /// What the limits of the agent's own control groups leave to it; none: no limit.
    pub left: Option<Left>,
}

/// There is room for the bundle on the disk, and for the load in memory: the node's, and the agent's own.
pub fn disk_and_memory(room: &Room, memory: Result<&Memory, &ReadError>) -> Gate {
    let mut found = Findings::of(GateId::DiskAndMemory, "");
    match &room.free {
        Ok(free) => {
            let evidence = format!("{}: {} free, {} to fetch", room.folder, size(*free), size(room.to_fetch));
            if *free < room.to_fetch {
                found.bad(evidence, format!("make room under {}", room.folder));
            } else {
                found.good(evidence);
            }
        }
        Err(error) => found.unknown(error.to_string(), "make the folder for bundles, or correct its path"),
    }
    match memory {
        Ok(memory) => {
            let evidence = format!(
                "/proc/meminfo: {} available, {} to load",
                size(memory.available),
                size(room.to_load)
            );
            if memory.available < room.to_load {
                found.bad(evidence, "free memory on the node");
            } else {
                found.good(evidence);
            }
        }
        Err(error) => found.unknown(error.to_string(), "mount /proc"),
    }
    if let Some(Left { path, bytes }) = &room.left {
        let evidence = format!(
            "control group {path}: {} left to the agent, {} to hold",
            size(*bytes),
            size(room.to_hold)
        );
        if *bytes < room.to_hold {
            found.bad(evidence, "raise agent.resources.limits.memory");
        } else {
            found.good(evidence);
        }
    }
    found.gate()
}
