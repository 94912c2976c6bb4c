//! Gates of each holder: does it speak with us, in which way does it have its devices, can its memory go over
//! and come back, and who starts its successor.

use std::fs;
use std::os::unix::fs::MetadataExt;

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{Gate, GateId};

use super::devices::{self, Holders};
use super::returns::returns;
use crate::linux::cgroup;
use crate::linux::custody::published::Published;
use crate::linux::gates;
use crate::linux::kubelet::Kubelet;
use crate::linux::memory::{self, Shared};
use crate::linux::processes::{self, Process, Processes};
use crate::linux::root::{ReadError, Root};

/// The kernel's number of the file system that huge pages of the pool are in.
const HUGETLBFS: rustix::fs::FsWord = 0x9584_58f6;

/// All of them.
pub(super) fn all(
    root: &Root,
    kubelet: &Kubelet,
    holders: &Holders,
    processes: Option<&Processes>,
) -> Vec<Gate> {
    let mut gates = Vec::new();
    for known in &holders.known {
        let process = processes.and_then(|all| all.holding.iter().find(|process| process.pid == known.pid));
        gates.extend(aware(root, kubelet, known, process));
    }
    for process in &holders.unaware {
        let name = devices::name(process);
        let evidence = format!("process {} ({}) never said Hello", process.pid, process.command);
        let remedy = "start it with the liveupdate handover client";
        gates.push(gate(GateId::HolderAware, &name, GateResult::Fail, evidence, remedy));
        gates.push(gates::holder_open_mode(&name, Some(process)));
    }
    gates
}

fn aware(root: &Root, kubelet: &Kubelet, known: &Published, process: Option<&Process>) -> [Gate; 5] {
    let name = &known.name;
    let shared = shared_memory(root, known.pid);
    let levels = cgroup::memory(root, &known.cgroup);
    let said = format!("process {} said Hello on the handover socket", known.pid);
    [
        gate(GateId::HolderAware, name, GateResult::Pass, said, ""),
        gates::holder_open_mode(name, process),
        gates::memory_preservable(name, shared.as_deref(), None),
        charge(root, known, levels.as_deref()),
        returns(root, kubelet, known),
    ]
}

/// Where no group up to the root counts memory, none can run out of it: the same question as is asked when it is given
/// back.
fn charge(root: &Root, known: &Published, levels: Result<&[cgroup::Level], &ReadError>) -> Gate {
    let name = &known.name;
    match levels {
        Err(ReadError::Absent { path })
            if path.ends_with("/memory.max") && cgroup::one_hierarchy(root, known.pid) =>
        {
            let evidence = format!("{path}: no such file, nor above it: no memory.max up to the root");
            gate(GateId::MemoryCharge, name, GateResult::Pass, evidence, "")
        }
        levels => gates::memory_charge(name, levels, known.memory_bytes),
    }
}

/// What a process maps shared, and the memfds that it has open and does not map.
fn shared_memory(root: &Root, pid: u32) -> Result<Vec<Shared>, ReadError> {
    let mut found = memory::shared(root, pid)?;
    let folder = format!("/proc/{pid}/fd");
    for fd in root.names(&folder)? {
        let path = format!("{folder}/{fd}");
        let Some(target) = processes::target(root, &path)? else { continue };
        let name = match target.strip_prefix("/memfd:") {
            Some(name) => name,
            // What came through a live update has no name any more, not even a memfd's.
            None if target == "/ (deleted)" => "",
            None => continue,
        };
        // Closed meanwhile.
        let path = root.path(&path);
        let (Ok(file), Ok(system)) = (fs::metadata(&path), rustix::fs::statfs(&path)) else { continue };
        if found.iter().any(|known| known.memfd && known.inode == file.ino()) {
            continue;
        }
        found.push(Shared {
            name: format!("memfd:{}", name.strip_suffix(" (deleted)").unwrap_or(name)),
            inode: file.ino(),
            bytes: file.len(),
            memfd: true,
            unlinked: true,
            hugetlb: system.f_type == HUGETLBFS,
        });
    }
    Ok(found)
}

fn gate(id: GateId, subject: &str, result: GateResult, evidence: impl Into<String>, remedy: &str) -> Gate {
    Gate { id, subject: subject.into(), result, evidence: evidence.into(), remedy: remedy.into() }
}
