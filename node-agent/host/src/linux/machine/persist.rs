//! What starts from cold: the target, once the controller has it as updated.
//!
//! What became of the last try is on record, so that the gate `FallbackBoot` tells it for as long as that kernel
//! runs: nobody else hears of it, since the controller has its outcome by then.

use liveupdate_node_core::Target;
use serde::{Deserialize, Serialize};

use super::LinuxHost;
use crate::HostError;
use crate::bundle::boot::{Persist, persist};
use crate::linux::fallback::Fallback;

/// Key of the record.
const KEY: &str = "persisted";

/// The last try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    /// Of the bundle that was to be made the default.
    digest: String,
    release: String,
    /// The boot entry that was made for it; none: it was not made the default.
    entry: Option<String>,
    /// Why not.
    failed: Option<String>,
}

impl LinuxHost {
    /// See [`crate::Host::persist`].
    pub(super) fn persist_target(
        &self,
        target: &Target,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<String, HostError> {
        self.phase("persist");
        let done = self.make_default(target, go_on);
        let failed = done.as_ref().err().map(ToString::to_string);
        match &failed {
            None => self.phase("persisted"),
            Some(why) => eprintln!("liveupdate: {} is not what a power cut starts: {why}", target.release),
        }
        let entry = done.as_ref().ok().cloned();
        let record = Record { digest: target.digest.clone(), release: target.release.clone(), entry, failed };
        self.store.write(KEY, Some(&record))?;
        done
    }

    fn make_default(&self, target: &Target, go_on: &mut dyn FnMut() -> bool) -> Result<String, HostError> {
        if self.arrived_digest()?.as_ref() != Some(&target.digest) {
            let why = format!("bundle {} does not run", target.bundle);
            return Err(HostError::WrongMoment { operation: "persist", why });
        }
        let bundle = self.bundles.find(target)?;
        let command_line = &bundle.manifest().command_line;
        let wanted = Persist { boot: &self.options.boot, bundle: &bundle, command_line };
        Ok(persist(&self.root, wanted, &mut |_, _| go_on())?.entry)
    }

    /// Digest of the bundle that the boot loader started, where it was started from an entry of ours.
    pub(super) fn selected_digest(&self) -> Result<Option<String>, HostError> {
        let Some(selected) = Fallback::selected(&self.root) else { return Ok(None) };
        let record = self.store.read::<Record>(KEY)?;
        let ours = record.filter(|record| record.entry.as_ref() == Some(&selected));
        let release = self.read_release()?;
        Ok(ours.filter(|record| record.release == release).map(|record| record.digest))
    }

    /// What happens when the next kernel does not come up.
    pub(super) fn fallback(&self) -> Fallback {
        let mut fallback = Fallback::read(&self.root, &self.options.boot);
        fallback.not_the_running = self.not_persisted();
        fallback
    }

    /// Why what starts from cold is not the kernel that runs, as far as that is known.
    fn not_persisted(&self) -> Option<String> {
        let running = self.arrived_digest().ok()??;
        let record = self.store.read::<Record>(KEY).ok()??;
        record.failed.filter(|_| record.digest == running)
    }
}
