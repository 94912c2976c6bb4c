//! Devices and holders: what sysfs and /proc show, and what the keeper knows of those that declared
//! themselves.

use std::collections::BTreeSet;

use liveupdate_node_core::gate::{self, Gate, GateId, Scope};
use liveupdate_node_core::{Continuity, GateResult};

use super::LinuxHost;
use super::settle::Kept;
use super::store::io_error;
use crate::linux::cgroup::Owner;
use crate::linux::custody::Custodian;
use crate::linux::custody::published::Published;
use crate::linux::pci::{self, PciDevices};
use crate::linux::processes::{Process, Processes};
use crate::linux::root::ReadError;
use crate::{Device, Held, Holder, HostError};

/// Everybody who holds something, aware or not.
pub(super) struct Holders {
    pub(super) known: Vec<Published>,
    /// Processes that hold devices and never declared themselves.
    pub(super) unaware: Vec<Process>,
}

impl Holders {
    pub(super) fn of(known: Vec<Published>, processes: &Processes) -> Self {
        let declared = |process: &Process| known.iter().any(|holder| holder.pid == process.pid);
        let unaware = processes.holding.iter();
        let unaware = unaware.filter(|process| process.devices().next().is_some() && !declared(process));
        Self { unaware: unaware.cloned().collect(), known }
    }

    /// Who holds a device.
    pub(super) fn holder_of(&self, address: &str) -> Option<String> {
        let declared = self.known_holder_of(address);
        let unaware = || self.unaware.iter().find(|process| process.devices().any(|other| other == address));
        declared.map(|known| known.name.clone()).or_else(|| unaware().map(name))
    }

    /// The holder of a device that declared it.
    pub(super) fn known_holder_of(&self, address: &str) -> Option<&Published> {
        self.known.iter().find(|known| known.devices.iter().any(|other| other == address))
    }

    /// Addresses of all devices that somebody holds.
    pub(super) fn held(&self, processes: Option<&Processes>) -> BTreeSet<String> {
        let open = processes.into_iter().flat_map(|all| &all.holding).flat_map(Process::devices);
        let declared = self.known.iter().flat_map(|known| &known.devices).map(String::as_str);
        open.chain(declared).map(str::to_owned).collect()
    }

    fn all(&self) -> Vec<Holder> {
        let unaware = self.unaware.iter().map(|process| Holder {
            name: name(process),
            aware: false,
            minimum: None,
            refuses: false,
            memory_bytes: 0,
        });
        self.known.iter().cloned().map(Holder::from).chain(unaware).collect()
    }
}

/// A process that never said what it is called.
pub(super) fn name(process: &Process) -> String {
    match &process.owner {
        Owner::Unit(unit) => unit.clone(),
        Owner::Pod(uid) => format!("pod/{uid}"),
        Owner::Other(_) => format!("{}/{}", process.command, process.pid),
    }
}

impl LinuxHost {
    pub(super) fn who_holds(&self) -> Result<Holders, HostError> {
        let processes =
            Processes::read(&self.root).map_err(|error| io_error("see who holds devices", &error))?;
        Ok(Holders::of(self.known()?, &processes))
    }

    /// See [`crate::Host::holders`].
    pub(super) fn read_holders(&self) -> Result<Vec<Holder>, HostError> {
        Ok(self.who_holds()?.all())
    }

    /// Holders that are handed over, those of the devices in `stop` apart: all that are known, and all that are in custody,
    /// also when their connection has ended since.
    pub(super) fn handed_over(&self, stop: &[String]) -> Result<Vec<Kept>, HostError> {
        let stays = |known: &Published| !known.devices.iter().any(|device| stop.contains(device));
        let known = self.known()?.into_iter().filter(stays);
        let known = known.map(|known| Kept { pid: Some(known.pid), cgroup: known.cgroup });
        let taken = self.custody.iter().flat_map(Custodian::handed_over);
        Ok(known.chain(taken.map(|(pid, cgroup)| Kept { pid, cgroup })).collect())
    }

    /// See [`crate::Host::held`]. Processes are looked through only where somebody who did not declare it could hold a device.
    pub(super) fn read_held(&self, custody: &Custodian) -> Result<Held, HostError> {
        let mut held = Held::default();
        for (name, devices) in custody.declared() {
            held.devices.extend(devices.into_iter().map(|device| (device, name.clone())));
            held.holders.insert(name);
        }
        let seeing = |error: ReadError| io_error("see who holds devices", &error);
        let mut free = pci::openable(&self.root).map_err(seeing)?;
        free.retain(|device| !held.devices.contains_key(&device.address));
        if free.is_empty() {
            return Ok(held);
        }
        let processes = Processes::read(&self.root).map_err(seeing)?;
        if let Some(first) = processes.unreadable.into_iter().next() {
            return Err(seeing(first));
        }
        // What was declared to us we have open ourselves.
        for process in processes.holding.iter().filter(|process| process.pid != self.own_pid) {
            for device in free.iter().filter(|device| process.has(device)) {
                held.devices.entry(device.address.clone()).or_insert_with(|| name(process));
            }
        }
        Ok(held)
    }

    /// See [`crate::Host::devices`].
    pub(super) fn read_devices(&self) -> Result<Vec<Device>, HostError> {
        let pci = PciDevices::read(&self.root).map_err(|error| io_error("list PCI devices", &error))?;
        let holders = self.who_holds()?;
        let gates = self.read_gates(None)?;
        let devices = pci.devices.iter().filter(|device| !device.is_bridge()).map(|device| {
            let holder = holders.holder_of(&device.address);
            Device {
                address: device.address.clone(),
                vendor: device.vendor.clone(),
                device: device.device.clone(),
                class: device.class.clone(),
                ceiling: holder.as_deref().and_then(|holder| ceiling(&gates, &device.address, holder)),
                holder,
            }
        });
        Ok(devices.collect())
    }
}

/// The best that the device's and its holder's own gates leave, to an update that takes each risk that can be taken.
fn ceiling(gates: &[Gate], address: &str, holder: &str) -> Option<Continuity> {
    let pass = |continuity: &Continuity| {
        gate::required(Some(*continuity)).all(|id| match id.scope() {
            Scope::Node | Scope::Target => true,
            // Of a target nothing is asked here.
            Scope::Device if id == GateId::NativeDriverRace => true,
            Scope::Device => {
                let result = gate::result(gates, id, address);
                result == GateResult::Pass || id.waived_by(result).is_some()
            }
            Scope::Holder => gate::result(gates, id, holder) == GateResult::Pass,
        })
    };
    Continuity::ALL.into_iter().rev().find(pass)
}
