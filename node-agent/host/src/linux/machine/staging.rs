//! Which image is loaded: by the kernel's word and by our own record, never by one of them alone.
//!
//! ```text
//!  nothing ─ record "begun" ─ kexec_file_load ─ record "loaded" ─► staged ─ unload ─ record none ─► nothing
//! ```
//! A record counts on the boot that it was written on and while something is loaded. A crash in between leaves
//! "begun": nothing that can be jumped into, and nothing that belongs to somebody else.

use std::time::Duration;

use liveupdate_node_core::Target;
use serde::{Deserialize, Serialize};

use super::LinuxHost;
use super::boot::TargetRecord;
use super::store::io_error;
use crate::HostError;
use crate::bundle::shim::with_parameter;
use crate::linux::boot_parameters::BootParameters;
use crate::linux::driver::{Driver, ENABLE, MODULE};
use crate::linux::gates::Loaded;
use crate::linux::kexec::{self, CommandLine, KexecError};

const KEY: &str = "staged";
/// For a disk to tell of a record. Holders may stand still meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    boot_id: String,
    target: TargetRecord,
    loaded: bool,
}

impl LinuxHost {
    /// Our record of this boot, as long as something is loaded.
    fn record(&self, limit: Duration) -> Result<Option<Record>, HostError> {
        let record = self.store.read_within::<Record>(KEY, limit)?;
        let boot_id = self.read_boot_id()?;
        Ok(record.filter(|record| record.boot_id == boot_id))
    }

    fn is_loaded(&self) -> Result<bool, HostError> {
        match kexec::loaded(self.root.folder()) {
            // A kernel without kexec has nothing loaded.
            Err(KexecError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(false)
            }
            Err(error) => Err(told("see what is loaded", &error)),
            Ok(loaded) => Ok(loaded),
        }
    }

    /// See [`crate::Host::staged`].
    pub(super) fn staged_target(&self) -> Result<Option<Target>, HostError> {
        self.staged_within(PATIENCE)
    }

    /// The same for who has no more time than that.
    pub(super) fn staged_within(&self, limit: Duration) -> Result<Option<Target>, HostError> {
        let record = self.record(limit)?.filter(|record| record.loaded);
        Ok(if self.is_loaded()? { record.map(|record| record.target.into()) } else { None })
    }

    /// Whose what is loaded is, for the gate `KexecAllowed`.
    pub(super) fn whose(&self) -> Result<Loaded, HostError> {
        let ours = self.is_loaded()? && self.record(PATIENCE)?.is_some();
        Ok(if ours { Loaded::Ours } else { Loaded::NothingOfOurs })
    }

    /// See [`crate::Host::stage`].
    pub(super) fn load_target(
        &self,
        target: &Target,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), HostError> {
        if self.is_loaded()? && self.record(PATIENCE)?.is_none() {
            let why =
                "a kernel is loaded that was not loaded by us; find out by whom, and unload it (kexec -u)";
            return Err(HostError::WrongMoment { operation: "stage", why: why.into() });
        }
        let mut total = 0;
        let (running, release) = (self.running_digest()?, self.read_release()?);
        let bundle = self.bundles.open(target, running.as_deref(), &release, &mut |done, all| {
            total = all;
            progress(done, all)
        })?;
        let line = opt_in_carried(&bundle.command_line, Driver::read(&self.root).is_enabled());
        let line = CommandLine::new(&line).map_err(|error| told("load the image", &error))?;
        if !progress(total, total) {
            return Err(HostError::Cancelled);
        }
        let mut record = Record { boot_id: self.read_boot_id()?, target: target.into(), loaded: false };
        self.store.write(KEY, Some(&record))?;
        let initrd = bundle.initrd.as_ref().map(std::os::fd::AsFd::as_fd);
        let loaded = self.calls.load(std::os::fd::AsFd::as_fd(&bundle.image), initrd, &line);
        if let Err(error) = loaded {
            // What was loaded before is not the target, so that it is of no use.
            let error = told("load the image", &error);
            return Err(match self.unload_target() {
                Ok(()) => error,
                Err(left) => HostError::Io { what: error.to_string(), why: format!("and then: {left}") },
            });
        }
        if !self.is_loaded()? {
            return Err(io_error("load the image", &"the kernel took it and says that nothing is loaded"));
        }
        record.loaded = true;
        self.store.write(KEY, Some(&record))
    }

    /// See [`crate::Host::unstage`]. What others loaded stays.
    pub(super) fn unload_target(&self) -> Result<(), HostError> {
        if self.record(PATIENCE)?.is_none() {
            return Ok(());
        }
        if self.is_loaded()? {
            self.calls.unload().map_err(|error| told("unload the image", &error))?;
        }
        self.store.write::<Record>(KEY, None)
    }
}

/// The driver's opt-in goes with the jump: who let it hand devices over on this kernel wants them back on the next. A
/// command line that says something of it already is left as it is, and what is written to the disk never has it.
fn opt_in_carried(command_line: &str, enabled: bool) -> String {
    let parameter = format!("{MODULE}.{ENABLE}");
    if !enabled || BootParameters::parse(command_line).last(&parameter).is_some() {
        return command_line.to_owned();
    }
    with_parameter(command_line, &format!("{parameter}=1"))
}

fn told(what: &str, error: &KexecError) -> HostError {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    io_error(what, &format!("{error}{cause}"))
}

#[cfg(test)]
mod tests {
    use super::opt_in_carried;

    #[test]
    fn the_opt_in_goes_along_unless_the_command_line_speaks_of_it() {
        assert_eq!(opt_in_carried("quiet", true), "quiet vfio_pci_liveupdate.enable=1");
        assert_eq!(opt_in_carried("quiet", false), "quiet");
        assert_eq!(opt_in_carried("a -- b", true), "a vfio_pci_liveupdate.enable=1 -- b");
        assert_eq!(opt_in_carried("a --", true), "a vfio_pci_liveupdate.enable=1 --");
        let off = "vfio-pci-liveupdate.enable=0 quiet";
        assert_eq!(opt_in_carried(off, true), off);
    }
}
