//! What is remembered of boots: from which kernel to which, and what was loaded on which.
//!
//! ```text
//!  jump():    from = this boot id, target, what is brought to rest   ── fsync ── reboot(2)
//!  start:     another boot id, started by kexec                      ── arrived = this boot id
//!  from then: boot_id() == arrived: came from `from`, runs `target` if the release is the target's
//!  later:     boot_id() != arrived: says nothing about this boot
//! ```

use liveupdate_node_core::Target;
use serde::{Deserialize, Serialize};

use super::filesystems::Mounted;
use super::store::Store;
use crate::HostError;
use crate::linux::root::Root;

/// Key of the record.
pub(super) const JUMP: &str = "jump";
/// Tells by whom this kernel was started; x86 alone has it.
const LOADER: &str = "/proc/sys/kernel/bootloader_type";
/// As kexec_file_load(2) writes it into the boot parameters.
const KEXEC: u32 = 0xd;

/// The three words of a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TargetRecord {
    release: String,
    bundle: String,
    digest: String,
}

impl From<&Target> for TargetRecord {
    fn from(target: &Target) -> Self {
        let Target { release, bundle, digest } = target.clone();
        Self { release, bundle, digest }
    }
}

impl From<TargetRecord> for Target {
    fn from(record: TargetRecord) -> Self {
        let TargetRecord { release, bundle, digest } = record;
        Self { release, bundle, digest }
    }
}

/// The last jump that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct JumpRecord {
    /// Boot id of the kernel that jumps.
    pub(super) from: String,
    pub(super) attempt: String,
    pub(super) target: TargetRecord,
    /// File systems that are brought to rest: a keeper that finds itself on the same boot lets them go on.
    pub(super) at_rest: Vec<Mounted>,
    /// Boot id of the first kernel after it, when that was started by a kexec.
    pub(super) arrived: Option<String>,
    /// The first kernel after it was started in another way, or the jump was refused: this record is over.
    pub(super) over: bool,
}

impl JumpRecord {
    /// Takes note of the boot that runs now. True: something changed.
    pub(super) fn note(&mut self, boot_id: &str, by_kexec: Option<bool>) -> bool {
        if self.over || self.arrived.is_some() || self.from == boot_id {
            return false;
        }
        match by_kexec {
            Some(false) => self.over = true,
            // Where the kernel does not tell, the release still has to be the target's.
            Some(true) | None => self.arrived = Some(boot_id.to_owned()),
        }
        true
    }

    /// It led to this boot. Also before the keeper has taken note of it: the agent may be up first.
    pub(super) fn led_to(&self, boot_id: &str, by_kexec: Option<bool>) -> bool {
        let mut seen = self.clone();
        seen.note(boot_id, by_kexec);
        !seen.over && seen.arrived.as_deref() == Some(boot_id)
    }
}

/// Whether the running kernel was started by another one; none where that does not show.
pub(super) fn by_kexec(root: &Root) -> Option<bool> {
    let loader: u32 = root.number(LOADER).ok()?;
    Some(loader >> 4 == KEXEC)
}

pub(super) fn last(store: &Store) -> Result<Option<JumpRecord>, HostError> {
    store.read(JUMP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> JumpRecord {
        let target = Target { release: "7.3.5-lu2".into(), bundle: "b".into(), digest: "d".into() };
        JumpRecord {
            from: "one".into(),
            attempt: "a".into(),
            target: (&target).into(),
            at_rest: Vec::new(),
            arrived: None,
            over: false,
        }
    }

    #[test]
    fn a_jump_leads_to_the_first_boot_after_it_and_to_no_other() {
        let mut jump = record();
        assert!(!jump.note("one", Some(true)) && !jump.led_to("one", Some(true)), "it has not left yet");
        assert!(jump.led_to("two", Some(true)) && !jump.led_to("two", Some(false)), "before it is noted");
        assert!(jump.note("two", Some(true)) && jump.led_to("two", Some(true)));
        assert!(
            !jump.note("three", Some(true)) && !jump.led_to("three", Some(true)),
            "a later kexec was not ours"
        );
    }

    #[test]
    fn invariant_6_a_boot_that_was_no_kexec_was_not_jumped_to() {
        let mut jump = record();
        assert!(jump.note("two", Some(false)));
        assert!(!jump.led_to("two", Some(false)), "firmware started it: a power cut");
        jump.note("three", Some(true));
        assert!(!jump.led_to("three", Some(true)));
    }
}
