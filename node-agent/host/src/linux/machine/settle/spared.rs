//! Who is not ended: ourselves, the agent, the holders, whoever started one of them, and what the way to the
//! controller needs, since its permission comes after all others are gone. With systemd also what those need: it would stop
//! them with it. That ends with the kernel, as they do, and what it has written is synced and at rest as theirs is.

use std::collections::{BTreeMap, BTreeSet};

use super::super::calls::Calls;
use super::systemctl::{LIVING, running, show};
use super::table::{Process, Table};
use crate::HostError;
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
/// By which a unit names those with which systemd stops it.
const NEEDS: [&str; 5] = ["Requires", "Requisite", "BindsTo", "PartOf", "StopPropagatedFrom"];
/// With the last of which systemd stops it, if it is set to [`UNNEEDED`].
const NEEDED_BY: [&str; 5] = ["RequiredBy", "RequisiteOf", "WantedBy", "BoundBy", "UpheldBy"];
const UNNEEDED: &str = "StopWhenUnneeded";

/// Somebody who is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Kept {
    /// Its process, while that lives.
    pub(in super::super) pid: Option<u32>,
    /// Path of its control group.
    pub(in super::super) cgroup: String,
}

/// Who is not ended.
pub(super) struct Spared {
    pids: BTreeSet<u32>,
    units: BTreeSet<String>,
    /// Units that others need which are spared, and which of those.
    needed: BTreeMap<String, String>,
    pods: BTreeSet<String>,
    patterns: Vec<String>,
}

impl Spared {
    /// `own`: this process; `holders`: those that are handed over; `more`: patterns of the node's operator.
    pub(super) fn of(table: &Table, own: u32, holders: &[Kept], more: &[String]) -> Self {
        let agents = table.iter().filter(|process| fits("liveupdate-agent", &process.name));
        let holding = holders.iter().filter_map(|holder| holder.pid);
        let kept: Vec<u32> = agents.map(|process| process.pid).chain(holding).chain([own, 1]).collect();
        let (mut units, mut pods) = (BTreeSet::new(), BTreeSet::new());
        let groups = kept.iter().filter_map(|pid| table.get(*pid)).map(|process| process.cgroup.as_str());
        // Also of who has just ended, and whose service manager starts it again.
        for group in groups.chain(holders.iter().map(|holder| holder.cgroup.as_str())) {
            if let Owner::Pod(uid) = Owner::of(group) {
                pods.insert(uid);
            }
            units.extend(units_of(group));
        }
        let needed = BTreeMap::new();
        let mut spared =
            Self { pids: table.with_ancestors(kept), units, needed, pods, patterns: more.to_vec() };
        // Containers have scopes of their own, also those of the same pod and those whose processes are named.
        let scopes = table.iter().filter(|process| spared.contained(process));
        let scopes =
            scopes.flat_map(|process| units_of(&process.cgroup)).filter(|unit| unit.ends_with(".scope"));
        let scopes: Vec<String> = scopes.collect();
        spared.units.extend(scopes);
        spared
    }

    /// Spares also what spared units need, as systemd has it: whatever it would stop them with.
    pub(super) fn with_needs(mut self, calls: &dyn Calls) -> Result<Self, HostError> {
        let running = running(calls, "service,scope", LIVING)?;
        let running = running.into_iter().filter(|unit| self.unit(unit));
        // Each with the spared unit by which it came.
        let mut next: BTreeMap<String, String> =
            self.units.iter().cloned().chain(running).map(|unit| (unit.clone(), unit)).collect();
        let spared: BTreeSet<String> = next.keys().cloned().collect();
        let properties = [&["Id", UNNEEDED], &NEEDS[..], &NEEDED_BY].concat();
        while !next.is_empty() {
            let units: Vec<String> = next.keys().cloned().collect();
            let mut found = BTreeMap::new();
            for unit in show(calls, &units, &properties)? {
                let Some(name) = unit.get("Id") else { continue };
                let whose = next.get(name).unwrap_or(name);
                let unneeded = spared.contains(name) && unit.get(UNNEEDED).is_some_and(|set| set == "yes");
                let by = NEEDED_BY.iter().filter(|_| unneeded);
                let needs = NEEDS.iter().chain(by).filter_map(|property| unit.get(*property));
                for need in needs.flat_map(|needs| needs.split_whitespace()) {
                    let known = self.needed.insert(need.to_owned(), whose.clone());
                    if known.is_none() && !spared.contains(need) {
                        found.insert(need.to_owned(), whose.clone());
                    }
                }
            }
            next = found;
        }
        Ok(self)
    }

    /// A unit of systemd.
    pub(super) fn unit(&self, name: &str) -> bool {
        let patterns = UNITS.into_iter().chain(self.patterns.iter().map(String::as_str));
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let mut patterns = patterns.flat_map(|pattern| [fits(pattern, name), fits(pattern, stem)]);
        self.units.contains(name) || self.needed.contains_key(name) || patterns.any(|fits| fits)
    }

    /// The spared unit that systemd would stop with this one.
    pub(super) fn needed_by(&self, name: &str) -> Option<&str> {
        self.needed.get(name).map(String::as_str)
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

/// Units that a control group is of: the machine's own, and the nearest below it, of who has a part of the tree to itself
/// (a user's manager, a container). Whoever has one may call its groups what it likes, and systemd is asked for names alone.
fn units_of(path: &str) -> impl Iterator<Item = String> {
    let unit = |part: &&str| part.ends_with(".service") || part.ends_with(".scope");
    let outer = path.split('/').find(unit);
    let inner = path.split('/').rev().find(unit);
    // Names that the kernel has a file of are written with this before them.
    let names = outer.into_iter().chain(inner).map(|part| part.strip_prefix('_').unwrap_or(part));
    names.filter(|name| is_name(name)).map(str::to_owned).collect::<BTreeSet<_>>().into_iter()
}

/// Systemd takes it for a unit's name, and for no template's.
fn is_name(name: &str) -> bool {
    let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
    plain && !stem.is_empty() && !stem.ends_with('@')
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

    #[test]
    fn a_group_is_of_the_machines_unit_and_of_the_nearest_below_it() {
        for (path, units) in [
            ("/system.slice/vm-a.service", &["vm-a.service"][..]),
            (
                "/user.slice/user-7.slice/user@7.service/app.slice/vm-a.service",
                &["user@7.service", "vm-a.service"],
            ),
            ("/machine.slice/machine-qemu\\x2d1.scope/libvirt/emulator", &["machine-qemu\\x2d1.scope"]),
            ("/system.slice/_io.vm.service", &["io.vm.service"]),
            ("/system.slice/a.service/of a tenant.service", &["a.service"]),
            ("/system.slice/a.service/b@.service", &["a.service"]),
            ("/system.slice/a.service/.scope", &["a.service"]),
            ("/kubepods/besteffort/x", &[]),
        ] {
            assert_eq!(units_of(path).collect::<Vec<_>>(), units, "{path}");
        }
    }
}
