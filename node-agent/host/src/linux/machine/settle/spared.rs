//! Who is not ended: ourselves, the agent, the holders, whoever started one of them, and what the way to the
//! controller needs, since its permission comes after all others are gone.

use std::collections::BTreeSet;

use super::table::{Process, Table};
use crate::linux::cgroup::Owner;

/// Services that carry the network, the log, or systemd itself. Ending them loses what Settling still needs and
/// saves nothing: they keep no data of their own.
const UNITS: [&str; 34] = [
    "liveupdate-*",
    "systemd-*",
    "dbus*",
    "polkit*",
    "init.scope",
    "getty@*",
    "serial-getty@*",
    "console-getty*",
    "ssh*",
    "NetworkManager*",
    "networking*",
    "connman*",
    "wicked*",
    "wpa_supplicant*",
    "dhcpcd*",
    "dhclient*",
    "ifup@*",
    "wg-quick@*",
    "openvpn*",
    "strongswan*",
    "tailscaled*",
    "nftables*",
    "firewalld*",
    "chrony*",
    "ntp*",
    "iscsid*",
    "open-iscsi*",
    "multipathd*",
    "lvm2-*",
    "mdmonitor*",
    "dm-event*",
    "rpc-*",
    "nfs-*",
    "qemu-guest-agent*",
];
/// The same without systemd, by name.
const NAMES: [&str; 8] =
    ["liveupdate-*", "udhcpc", "dhcpcd*", "dhclient*", "wpa_supplicant", "systemd*", "udevd", "sshd*"];
/// What /proc leaves of a long name.
const LONGEST_NAME: usize = 15;

/// Who is not ended.
pub(super) struct Spared {
    pids: BTreeSet<u32>,
    units: BTreeSet<String>,
    pods: BTreeSet<String>,
    patterns: Vec<String>,
}

impl Spared {
    /// `own`: this process; `holders`: those that are handed over; `more`: patterns of the node's operator.
    pub(super) fn of(table: &Table, own: u32, holders: &[u32], more: &[String]) -> Self {
        let agents = table.iter().filter(|process| fits("liveupdate-agent", &process.name));
        let kept: Vec<u32> =
            agents.map(|process| process.pid).chain(holders.iter().copied()).chain([own, 1]).collect();
        let (mut units, mut pods) = (BTreeSet::new(), BTreeSet::new());
        for process in kept.iter().filter_map(|pid| table.get(*pid)) {
            match Owner::of(&process.cgroup) {
                Owner::Unit(name) => units.insert(name),
                Owner::Pod(uid) => pods.insert(uid),
                Owner::Other(_) => false,
            };
        }
        Self { pids: table.with_ancestors(kept), units, pods, patterns: more.to_vec() }
    }

    /// A unit of systemd.
    pub(super) fn unit(&self, name: &str) -> bool {
        let patterns = UNITS.into_iter().chain(self.patterns.iter().map(String::as_str));
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let mut patterns = patterns.flat_map(|pattern| [fits(pattern, name), fits(pattern, stem)]);
        self.units.contains(name) || patterns.any(|fits| fits)
    }

    /// A process of a pod, or of a container of its own.
    pub(super) fn contained(&self, process: &Process) -> bool {
        let pod = matches!(Owner::of(&process.cgroup), Owner::Pod(uid) if self.pods.contains(&uid));
        pod || self.listed(process)
    }

    /// A process by itself.
    pub(super) fn process(&self, process: &Process) -> bool {
        self.contained(process) || NAMES.iter().any(|pattern| fits(pattern, &process.name))
    }

    fn listed(&self, process: &Process) -> bool {
        self.pids.contains(&process.pid) || self.patterns.iter().any(|pattern| fits(pattern, &process.name))
    }
}

/// A name, or the beginning of one with a star behind.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern || name.len() == LONGEST_NAME && pattern.starts_with(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_beginnings_or_what_proc_leaves_of_a_name() {
        assert!(fits("liveupdate-agent", "liveupdate-agen") && fits("ssh*", "sshd"));
        assert!(!fits("sshd", "ssh") && !fits("etcd", "etcd-operator"));
    }
}
