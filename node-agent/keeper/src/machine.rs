//! Which machine agent and keeper run on, as their command lines name it: the same words for both, since both
//! have to read the same.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use liveupdate_host::linux::fallback::BOOT;
use liveupdate_host::linux::machine::{LinuxHost, Options, Role};
use liveupdate_host::simulated::World;
use liveupdate_host::{Host, HostError};

/// The part of a command line that names the machine.
#[derive(Args, Clone, Debug)]
pub struct MachineArguments {
    /// The machine: `linux`, `linux:ROOT` where its files are seen under ROOT (`/proc/1/root`, `/host`), or
    /// `simulated:DIR`, a folder with a world.json.
    #[arg(long = "host", value_name = "MACHINE", value_parser = machine)]
    machine: Machine,
    /// Folder of the records, on a disk that outlives a power cut; as all folders here under ROOT.
    #[arg(long, default_value = "/var/lib/liveupdate", value_name = "DIR")]
    state: String,
    /// Folder of what is told on this boot alone.
    #[arg(long, default_value = "/run/liveupdate", value_name = "DIR")]
    run: String,
    /// Folder of the bundles.
    #[arg(long, default_value = "/var/lib/liveupdate/bundles", value_name = "DIR")]
    bundles: String,
    /// Folder with the public keys of those who may sign bundles (NAME.pub).
    #[arg(long, default_value = "/etc/liveupdate/signers", value_name = "DIR")]
    signers: String,
    /// Folder of the EFI system partition, where an updated and verified kernel is made systemd-boot's default;
    /// may be given several times, and the first that has loader/loader.conf counts. `none`: what a power cut
    /// starts is left to somebody else.
    #[arg(long, value_name = "DIR", default_values = BOOT)]
    boot: Vec<String>,
    /// Seconds that bystanders have to end by themselves.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    grace: u64,
    /// A unit or process that Settling leaves alone, by name; a star at its end stands for anything. May be
    /// given several times.
    #[arg(long, value_name = "NAME")]
    spare: Vec<String>,
}

#[derive(Clone, Debug)]
enum Machine {
    Simulated(PathBuf),
    Linux(Options),
}

fn machine(text: &str) -> Result<Machine, String> {
    if let Some(options) = Options::named(text) {
        return Ok(Machine::Linux(options));
    }
    match text.split_once(':') {
        Some(("simulated", folder)) if !folder.is_empty() => Ok(Machine::Simulated(folder.into())),
        _ => Err("want linux, linux:ROOT or simulated:DIR".to_owned()),
    }
}

impl MachineArguments {
    /// The machine, if it is a real one.
    pub fn linux(&self) -> Option<Options> {
        match &self.machine {
            Machine::Linux(options) => Some(self.completed(options)),
            Machine::Simulated(_) => None,
        }
    }

    fn completed(&self, options: &Options) -> Options {
        Options {
            root: options.root.clone(),
            state: self.state.clone(),
            run: self.run.clone(),
            bundles: self.bundles.clone(),
            grace: Duration::from_secs(self.grace),
            spare: self.spare.clone(),
            signers: self.signers.clone(),
            boot: self.boot.iter().filter(|folder| *folder != "none").cloned().collect(),
        }
    }

    /// Opens the machine.
    ///
    /// # Errors
    /// It is not there, or its records cannot be read.
    pub fn open(&self, role: Role) -> Result<Arc<dyn Host>, HostError> {
        match &self.machine {
            Machine::Simulated(folder) => Ok(Arc::new(World::open(folder)?.host()?)),
            Machine::Linux(options) => Ok(Arc::new(LinuxHost::open(self.completed(options), role)?)),
        }
    }
}
