//! A real Linux machine as agent and keeper have it: [`LinuxHost`].
//!
//! ```text
//!            gates ── readers ── /proc, /sys under the root
//!  Host ──►  staging ─────────── kexec_file_load, a record bound to the boot
//!            settle ──────────── systemd or signals, sync
//!            jump ────────────── record, custody, rest, reboot(2)
//!            store ───────────── records under the state folder
//! ```
//! What only reads goes through [`crate::linux::root`]; what changes the machine goes through [`Calls`], so that tests
//! see what is done and in which order. Agent and keeper have a host each: the keeper's has custody, and jumps.

mod boot;
mod bundle;
mod calls;
mod counter;
mod custody_safe;
mod devices;
mod filesystems;
mod freeze;
mod gates;
mod holder_gates;
mod host;
mod images;
mod jump;
mod persist;
mod record;
mod returns;
mod settle;
mod shelter;
mod staging;
mod store;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::{Gate, GateId};

pub use calls::{Calls, Ending, Kernel, Said};
pub use record::fuzz_one as fuzz_record;
pub use shelter::shelter;

use crate::linux::custody::published::{self, Published};
use crate::linux::custody::{self, Custodian};
use crate::linux::fallback;
use crate::linux::kubelet::Kubelet;
use crate::linux::root::Root;
use crate::linux::ticks;
use crate::{HostError, JumpIntent};
use counter::Counter;
use custody_safe::KeeperRecord;
use images::Images;
use store::{Store, io_error};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where things are on a machine, and how it is treated. Paths are the machine's, without the root folder.
#[derive(Clone, Debug)]
pub struct Options {
    /// The machine's files.
    pub root: Root,
    /// Folder of the records, on a disk that outlives a power cut.
    pub state: String,
    /// Folder of what is told on this boot alone, root's; the keeper's own socket is there.
    pub run: String,
    /// Folder of the bundles.
    pub bundles: String,
    /// How long bystanders have to end.
    pub grace: Duration,
    /// Units and processes that Settling does not end, by name; a star stands for any ending.
    pub spare: Vec<String>,
    /// Folder with the public keys of those who may sign bundles.
    pub signers: String,
    /// Folders where the EFI system partition may be mounted. None: what starts from cold is somebody else's to say.
    pub boot: Vec<String>,
}

impl Options {
    /// A machine under a root folder, with the usual places.
    pub fn at(root: Root) -> Self {
        Self {
            root,
            state: "/var/lib/liveupdate".into(),
            run: "/run/liveupdate".into(),
            bundles: "/var/lib/liveupdate/bundles".into(),
            grace: Duration::from_secs(30),
            spare: Vec::new(),
            signers: "/etc/liveupdate/signers".into(),
            boot: fallback::BOOT.map(str::to_owned).into(),
        }
    }

    /// Where holders find the keeper: in a folder of its own, which their pods can mount without what else is told.
    pub fn holders_socket(&self) -> String {
        format!("{}/holders/holders.sock", self.run)
    }

    /// As a command line names the machine: `linux`, or `linux:ROOT` where its files are elsewhere. None:
    /// that is no Linux machine.
    pub fn named(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "linux" => Some(Self::at(Root::machine())),
            Some(("linux", folder)) if !folder.is_empty() => Some(Self::at(Root::at(folder))),
            _ => None,
        }
    }
}

/// Whose host it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads, and stages.
    Agent,
    /// Has custody, and jumps.
    Keeper,
}

/// A real machine.
pub struct LinuxHost {
    options: Options,
    root: Root,
    role: Role,
    calls: Arc<dyn Calls>,
    store: Store,
    bundles: bundle::Bundles,
    images: Arc<Images>,
    counter: Option<Counter>,
    kubelet: Kubelet,
    custody: Option<Custodian>,
    own_pid: u32,
    /// This process's memory stays where it is, also what it takes from now on.
    locked: AtomicBool,
    /// The phase that was told last.
    told: Mutex<String>,
}

impl LinuxHost {
    /// Opens this machine. The keeper's takes up what came through a jump.
    ///
    /// # Errors
    /// Its records cannot be read, or custody cannot be taken up.
    pub fn open(options: Options, role: Role) -> Result<Self, HostError> {
        Self::with_calls(options, role, Arc::new(Kernel))
    }

    /// As [`LinuxHost::open`], with other calls than the kernel's own.
    ///
    /// # Errors
    /// As [`LinuxHost::open`].
    pub fn with_calls(options: Options, role: Role, calls: Arc<dyn Calls>) -> Result<Self, HostError> {
        let root = options.root.clone();
        let store = Store::open(root.path(&options.state))?;
        let images = Arc::new(Images::default());
        let kubelet = Kubelet::of(&root);
        let bundles = bundle::Bundles::new(&root, &options.bundles, &options.signers, Arc::clone(&images));
        let mut host = Self {
            options,
            root,
            role,
            calls,
            store,
            bundles,
            images,
            counter: None,
            kubelet,
            custody: None,
            own_pid: std::process::id(),
            locked: AtomicBool::new(false),
            told: Mutex::default(),
        };
        if role == Role::Keeper {
            // First of all: what a keeper left at rest that died in a jump would let nothing be written.
            host.let_go_on()?;
            // Holders stand still until they are heard: what takes its time comes after.
            host.take_office()?;
            match host.note_boot() {
                // What came through the jump is given back all the same.
                Err(error @ HostError::Io { .. }) => {
                    eprintln!("liveupdate: it is not noted that this boot was jumped to: {error}");
                }
                noted => noted?,
            }
        }
        host.counter = Counter::find(&host.root, &host.store, role == Role::Keeper);
        if let Some(custody) = &host.custody {
            custody.measured(host.counter.map(Counter::khz));
        }
        Ok(host)
    }

    /// Makes itself known, and takes custody.
    fn take_office(&mut self) -> Result<(), HostError> {
        let run = self.root.path(&self.options.run);
        let socket = self.root.path(&self.options.holders_socket());
        for folder in [Some(run.as_path()), socket.parent()].into_iter().flatten() {
            let made = make_for_root(folder);
            made.map_err(|error| io_error(format!("make {}", folder.display()), &error))?;
        }
        let boot_id = self.read_boot_id()?;
        let record = KeeperRecord {
            boot_id: boot_id.clone(),
            pid: self.own_pid,
            // systemd tells how many it keeps.
            files_kept: std::env::var("FDSTORE")
                .is_ok_and(|many| many.parse::<u32>().is_ok_and(|many| many > 0)),
        };
        let path = self.keeper_path();
        let text = serde_json::to_vec(&record).map_err(io::Error::from);
        let written = text.and_then(|text| fs::write(&path, text));
        written.map_err(|error| io_error(format!("write {}", path.display()), &error))?;
        let options = custody::Options {
            socket,
            published: run.join("holders.json"),
            device: self.root.path(crate::linux::kho::LIVEUPDATE),
            root: self.root.clone(),
            boot_id,
            // Measured afterwards.
            counter_khz: None,
        };
        // From here on holders are heard: what a jump carried is given back from now.
        self.phase("custody");
        self.custody = Some(Custodian::start(options)?);
        Ok(())
    }

    fn keeper_path(&self) -> PathBuf {
        self.root.path(&self.options.run).join("keeper.json")
    }

    /// The keeper of this boot, as it made itself known.
    fn read_keeper(&self) -> Option<KeeperRecord> {
        let text = fs::read(self.keeper_path()).ok()?;
        let record: KeeperRecord = serde_json::from_slice(&text).ok()?;
        (self.read_boot_id().ok()? == record.boot_id).then_some(record)
    }

    /// Its process; 0 when there is none.
    fn keeper_pid(&self) -> u32 {
        self.read_keeper().map_or(0, |keeper| keeper.pid)
    }

    /// Holders that declared themselves, as the keeper tells of them: agent and keeper read the same.
    fn known(&self) -> Result<Vec<Published>, HostError> {
        let path = self.root.path(&self.options.run).join("holders.json");
        published::read(&path, &self.read_boot_id()?)
    }

    fn read_boot_id(&self) -> Result<String, HostError> {
        self.root.line(BOOT_ID).map_err(|error| io_error("read the boot id", &error))
    }

    fn read_release(&self) -> Result<String, HostError> {
        let release = self.root.line("/proc/sys/kernel/osrelease");
        release.map_err(|error| io_error("read the release", &error))
    }

    /// Custody's last part before the jump.
    fn commit(&self, intent: &JumpIntent) -> Result<(), HostError> {
        let ticks = self.counter.and_then(Counter::ticks);
        self.custody.as_ref().map_or(Ok(()), |custody| custody.commit(intent, ticks))
    }

    /// Nobody who is in custody may run again.
    fn all_stand(&self) -> Result<(), HostError> {
        self.custody.as_ref().map_or(Ok(()), Custodian::all_stand)
    }

    fn handover_refused(&self) {
        if let Some(custody) = &self.custody {
            custody.refused();
        }
    }

    /// Tells that something begins, with the clock of this boot and the counter that spans a jump: blackouts are split by these lines. What is
    /// tried again and again is told once.
    fn phase(&self, name: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == name {
            return;
        }
        name.clone_into(&mut told);
        let now = self.calls.clock();
        let ticks = ticks::now().map_or_else(String::new, |ticks| format!(" ticks={ticks}"));
        let line = format!("liveupdate: [{:5}.{:06}{ticks}] {name}\n", now.as_secs(), now.subsec_micros());
        // In one piece, which others that write there cannot part.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// A folder that nobody but root looks into. The kubelet makes it open to all where a pod mounts it before there is a keeper.
fn make_for_root(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// A gate of the node or the target.
fn gate(id: GateId, result: GateResult, evidence: impl Into<String>, remedy: &str) -> Gate {
    Gate { id, subject: String::new(), result, evidence: evidence.into(), remedy: remedy.into() }
}
