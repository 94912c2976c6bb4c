//! Settling: everybody who is not handed over comes to an end, in order, and what they wrote gets to the disk.
//!
//! ```text
//!  kubelet ─► containers ─► scopes, services │ processes ─► image loaded again ─► memory locked ─► synced
//!     ▲            │            │
//!     └────────────┴────────────┴── thaw: what systemd stopped, it starts again; the kubelet last, which
//!                                   starts containers. Scopes and processes without systemd stay ended.
//! ```
//! What was stopped is on disk before it is stopped, so that a keeper that was started again can thaw. Login
//! sessions are left alone: they keep no data of their own, and end with the kernel. Nothing is stopped with which systemd
//! would stop somebody who is spared.

mod end;
mod services;
mod spared;
mod systemctl;
mod table;

use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::LinuxHost;
use super::filesystems::Filesystems;
use super::store::io_error;
use crate::HostError;
use crate::linux::cgroup::Owner;
pub(super) use spared::Kept;
use spared::Spared;
use table::{Process, Table};

const KEY: &str = "settled";
/// The folder is there when systemd is process 1.
const SYSTEMD: &str = "/run/systemd/system";
/// Names of control groups that containers are in, where no pod tells it.
const CONTAINERS: [&str; 6] =
    ["cri-containerd-", "crio-", "docker-", "libpod-", "nerdctl-", "machine-systemd"];
/// Kubelets without systemd.
const KUBELETS: [&str; 4] = ["kubelet", "k3s-agent", "k3s-server", "k0s"];

/// One thing after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// First, since it would start containers again.
    Kubelet,
    Containers,
    /// With systemd.
    Services,
    /// Without.
    Processes,
    /// Loaded again: nobody else is left who could have loaded another.
    Image,
    Memory,
    Sync,
}

impl Step {
    fn all(systemd: bool) -> [Self; 6] {
        let others = if systemd { Self::Services } else { Self::Processes };
        [Self::Kubelet, Self::Containers, others, Self::Image, Self::Memory, Self::Sync]
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Kubelet => "settle: kubelet",
            Self::Containers => "settle: containers",
            Self::Services => "settle: services",
            Self::Processes => "settle: processes",
            Self::Image => "settle: image",
            Self::Memory => "settle: memory",
            Self::Sync => "settle: sync",
        }
    }
}

/// What thaw starts again, in the order in which it was stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stopped {
    boot_id: String,
    units: Vec<Vec<String>>,
}

struct Settling<'a> {
    host: &'a LinuxHost,
    systemd: bool,
    spared: Spared,
    stopped: Stopped,
}

impl LinuxHost {
    /// See [`crate::Host::settle`].
    pub(super) fn settle_all(
        &self,
        stop: &[String],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), HostError> {
        let systemd = self.root.exists(SYSTEMD);
        let holders = self.handed_over(stop)?;
        let table = Table::read(&self.root).map_err(|error| io_error("see what runs", &error))?;
        let mut spared = Spared::of(&table, self.own_pid, &holders, &self.options.spare);
        if systemd {
            spared = spared.with_needs(&*self.calls)?;
        }
        let boot_id = self.read_boot_id()?;
        // What an attempt before this one could not start again is still to be started.
        let owed = self.store.read::<Stopped>(KEY)?.filter(|stopped| stopped.boot_id == boot_id);
        let stopped = owed.unwrap_or(Stopped { boot_id, units: Vec::new() });
        let mut settling = Settling { host: self, systemd, spared, stopped };
        for step in Step::all(systemd) {
            if !go_on() {
                return Err(HostError::Cancelled);
            }
            self.phase(step.as_str());
            settling.take(step, go_on)?;
        }
        self.phase("settled");
        Ok(())
    }

    /// See [`crate::Host::thaw`].
    pub(super) fn thaw_all(&self) -> Result<(), HostError> {
        // Nobody waits for a disk any more, and what every connection takes would stay locked for as long as this process lives.
        if self.locked.swap(false, Ordering::SeqCst)
            && let Err(error) = self.calls.unlock_memory()
        {
            tell(&format!("the keeper's memory stays locked: {error}"));
        }
        let boot_id = self.read_boot_id()?;
        let stopped = self.store.read::<Stopped>(KEY)?;
        let Some(mut stopped) = stopped.filter(|stopped| stopped.boot_id == boot_id) else { return Ok(()) };
        self.phase("thaw");
        let (before, mut wrong) = (stopped.clone(), Vec::new());
        // All of them, whatever becomes of one: without its kubelet a node is nobody's.
        for units in stopped.units.iter_mut().rev() {
            let failed = services::start(&*self.calls, units);
            wrong.extend(failed.iter().map(|(unit, error)| format!("{unit}: {error}")));
            units.retain(|unit| failed.iter().any(|(left, _)| left == unit));
        }
        if wrong.is_empty() {
            return self.store.write::<Stopped>(KEY, None);
        }
        stopped.units.retain(|units| !units.is_empty());
        if stopped != before {
            self.store.write(KEY, Some(&stopped))?;
        }
        Err(io_error("start again what Settling had stopped", &wrong.join("; ")))
    }
}

impl Settling<'_> {
    fn take(&mut self, step: Step, go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        match step {
            Step::Kubelet => self.kubelet(go_on),
            Step::Containers => self.containers(go_on),
            Step::Services => self.services(go_on),
            Step::Processes => self.processes(go_on),
            Step::Image => self.image(go_on),
            Step::Memory => {
                let locked = self.host.calls.lock_memory();
                self.host.locked.store(true, Ordering::SeqCst);
                locked.map_err(|error| io_error("lock the keeper's memory (run it as root)", &error))
            }
            Step::Sync => self.sync(),
        }
    }

    fn kubelet(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        if self.systemd {
            let units = services::kubelets(&*self.host.calls, &self.spared)?;
            return self.stop(&units, go_on);
        }
        self.end(go_on, |process| KUBELETS.contains(&process.name.as_str()), |_, _| false, |_, _| true)
    }

    fn containers(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        // Asked is the first process of each, if it has one: what that started ends with it.
        let asked = |all: &[Process], process: &Process| {
            process.first || !all.iter().any(|other| other.first && other.cgroup == process.cgroup)
        };
        self.end(go_on, is_contained, Spared::contained, asked)
    }

    fn services(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        let all = services::others(&*self.host.calls, &self.spared)?;
        all.iter().try_for_each(|units| self.stop(units, go_on))
    }

    fn processes(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        self.end(go_on, |_| true, Spared::process, |_, _| true)
    }

    fn image(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        match self.host.staged_target()? {
            Some(target) => self.host.load_target(&target, &mut |_, _| go_on()),
            None => Err(HostError::WrongMoment {
                operation: "settle",
                why: "no image of ours is loaded any more; stage it again".into(),
            }),
        }
    }

    fn sync(&self) -> Result<(), HostError> {
        let host = self.host;
        let filesystems = host.filesystems()?;
        let Filesystems { local, remote } = &filesystems;
        let unsynced = |why: String| io_error("sync before the jump", &why);
        host.calls.sync_all(host.options.grace * 2).map_err(|error| unsynced(error.to_string()))?;
        super::freeze::sync(&*host.calls, &host.root, remote).map_err(unsynced)?;
        super::freeze::sync(&*host.calls, &host.root, local).map_err(unsynced)
    }

    /// Stops units; what is stopped is on disk first.
    fn stop(&mut self, units: &[String], go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        if units.is_empty() {
            return Ok(());
        }
        self.stopped.units.push(units.to_owned());
        self.host.store.write(KEY, Some(&self.stopped))?;
        services::stop(&*self.host.calls, units, self.host.options.grace, go_on)
    }

    fn end(
        &self,
        go_on: &mut dyn FnMut() -> bool,
        goes: impl Fn(&Process) -> bool,
        spared: impl Fn(&Spared, &Process) -> bool,
        asked: impl Fn(&[Process], &Process) -> bool,
    ) -> Result<(), HostError> {
        let host = self.host;
        // Anew each time: those that ended may have started others.
        let table = Table::read(&host.root).map_err(|error| io_error("see what runs", &error))?;
        let found = table.iter().filter(|process| goes(process) && !spared(&self.spared, process));
        let found: Vec<Process> = found.cloned().collect();
        let asked = |process: &Process| asked(&found, process);
        end::end(&*host.calls, &host.root, &found, asked, host.options.grace, go_on)
    }
}

/// For the machine's log.
fn tell(what: &str) {
    eprintln!("liveupdate-keeper: settle: {what}");
}

fn is_contained(process: &Process) -> bool {
    let group = process.cgroup.rsplit('/').next().unwrap_or_default();
    matches!(Owner::of(&process.cgroup), Owner::Pod(_))
        || CONTAINERS.iter().any(|beginning| group.starts_with(beginning))
}
