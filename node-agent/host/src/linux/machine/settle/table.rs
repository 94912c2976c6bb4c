//! Which processes there are.

use std::collections::{BTreeMap, BTreeSet};

use crate::linux::cgroup;
use crate::linux::root::{ReadError, Root};

/// A process that could be ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) name: String,
    /// Tells two of one id apart.
    pub(super) started: u64,
    pub(super) cgroup: String,
    /// It is the first process of a container.
    pub(super) first: bool,
}

/// All processes but the kernel's own and those that are over.
#[derive(Clone, Debug, Default)]
pub(super) struct Table(BTreeMap<u32, Process>);

impl Table {
    pub(super) fn read(root: &Root) -> Result<Self, ReadError> {
        let mut table = BTreeMap::new();
        for pid in root.names("/proc")?.iter().filter_map(|name| name.parse().ok()) {
            // Over by now.
            let Some(process) = process(root, pid) else { continue };
            table.insert(pid, process);
        }
        Ok(Self(table))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Process> {
        self.0.values()
    }

    pub(super) fn get(&self, pid: u32) -> Option<&Process> {
        self.0.get(&pid)
    }

    /// These and all that started them.
    pub(super) fn with_ancestors(&self, pids: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        for pid in pids {
            let mut next = Some(pid);
            while let Some(pid) = next.filter(|pid| all.insert(*pid)) {
                next = self.get(pid).map(|process| process.parent).filter(|parent| *parent > 0);
            }
        }
        all
    }
}

/// The same process is still there, and not over.
pub(super) fn is_alive(root: &Root, process: &Process) -> bool {
    stat(root, process.pid).is_some_and(|stat| stat.started == process.started && stat.lives)
}

struct Stat {
    name: String,
    parent: u32,
    lives: bool,
    started: u64,
    kernel: bool,
}

const KERNEL_THREAD: u64 = 0x0020_0000;

/// `1 (name) S parent …`; the name may hold anything.
fn stat(root: &Root, pid: u32) -> Option<Stat> {
    let text = root.text(&format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| words.get(index)?.parse::<u64>().ok();
    Some(Stat {
        name,
        parent: u32::try_from(number(1)?).ok()?,
        lives: !matches!(words.first(), Some(&("Z" | "X"))),
        started: number(19)?,
        kernel: number(6)? & KERNEL_THREAD != 0,
    })
}

fn process(root: &Root, pid: u32) -> Option<Process> {
    let stat = stat(root, pid).filter(|stat| stat.lives && !stat.kernel)?;
    let status = root.text(&format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    Some(Process {
        pid,
        parent: stat.parent,
        name: stat.name,
        started: stat.started,
        cgroup: cgroup::path_of(root, pid).unwrap_or_default(),
        first: ids.len() > 1 && ids.last() == Some(&"1"),
    })
}
