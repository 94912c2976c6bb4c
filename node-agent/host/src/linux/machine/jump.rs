//! The jump: what is written, told and brought to rest before `reboot(2)`, and how it is taken back when the
//! kernel refuses.
//!
//! ```text
//!  checked ─► recorded (fsync) ─► custody committed ─► all at rest, the journal's own last ─► reboot(KEXEC)
//!                  ▲                     ▲                          ▲                             │
//!                  └─────────────────────┴──────────────────────────┴───── refused, in reverse ◄──┘
//! ```
//! Any of it may take long, and holders stand still: before each the intent's limit is looked at, and what is left of it
//! is all that a disk is given.

use std::convert::Infallible;

use liveupdate_proto::causes::chain;

use super::LinuxHost;
use super::boot::{self, JUMP, JumpRecord};
use super::filesystems::Filesystems;
use super::freeze::{self, BACK, Limit};
use super::staging::PATIENCE;
use super::store::io_error;
use crate::linux::custody::Custodian;
use crate::{HostError, JumpIntent, JumpRefused, Target};

impl LinuxHost {
    /// Jumps. Comes back only when it is refused, and everything goes on as before then.
    pub(super) fn jump_now(&self, intent: &JumpIntent) -> Result<Infallible, JumpRefused> {
        let limit = Limit::new(&*self.calls, intent.until);
        self.check(intent, &limit)?;
        let filesystems = self.filesystems()?;
        let mut record = JumpRecord {
            from: self.read_boot_id()?,
            attempt: intent.attempt.clone(),
            target: (&intent.target).into(),
            at_rest: filesystems.local.clone(),
            arrived: None,
            over: false,
        };
        let recorded = limit.left("it was recorded").and_then(|left| {
            let written = self.store.write_within(JUMP, Some(&record), left);
            written.map_err(|error| error.to_string())
        });
        self.phase("commit");
        let mut why = match recorded.and_then(|()| self.tell(intent, &limit)) {
            Ok(()) => self.leave(&filesystems, &limit),
            Err(why) => why,
        };
        self.phase("refused");
        self.handover_refused();
        if let Some(custody) = &self.custody {
            // Before anything is written: the journal's own file system may be what does not come to rest, so that nobody can
            // write there, and guests would wait for it. What comes of it is asked again by whoever wanted the jump.
            let _ = custody.resume("the jump was refused");
        }
        record.over = true;
        if let Err(error) = self.store.write_within(JUMP, Some(&record), BACK) {
            why = format!("{why}; and then: {error}");
        }
        Err(JumpRefused { why })
    }

    /// Read again at the last moment: what has changed since the short list.
    fn check(&self, intent: &JumpIntent, limit: &Limit<'_>) -> Result<(), JumpRefused> {
        let refused = |why: &str| Err(JumpRefused { why: why.to_owned() });
        if self.custody.as_ref().is_some_and(Custodian::keeps) {
            return refused(
                "what came through the last jump is neither given back nor given up, and would end with this kernel",
            );
        }
        // Where nothing is left that is told next.
        let left = limit.left("it was seen what is loaded").unwrap_or(PATIENCE);
        match self.staged_within(left.min(PATIENCE))? {
            Some(staged) if staged == intent.target => Ok(()),
            Some(_) => refused("another image is loaded than the target's"),
            None => refused("the target's image is not loaded"),
        }
    }

    /// From here on holders wait for the jump, or to hear that there is none.
    fn tell(&self, intent: &JumpIntent, limit: &Limit<'_>) -> Result<(), String> {
        limit.left("holders were told of it")?;
        self.commit(intent).map_err(|error| error.to_string())
    }

    /// The last that is done here; why it came back.
    fn leave(&self, filesystems: &Filesystems, limit: &Limit<'_>) -> String {
        self.phase("rest");
        let at_rest = match freeze::bring_to_rest(&*self.calls, &self.root, filesystems, limit) {
            Ok(at_rest) => at_rest,
            Err(why) => return why,
        };
        let stand = self.all_stand().map_err(|gone| gone.to_string());
        let may = stand.and_then(|()| limit.left("the kernel was asked to jump"));
        let Err(mut why) = may.and_then(|_| self.calls.reboot().map_err(|refused| chain(&refused)));
        for wrong in at_rest.go_on() {
            why = format!("{why}; {wrong}");
        }
        why
    }

    pub(super) fn filesystems(&self) -> Result<Filesystems, HostError> {
        Filesystems::read(&self.root, &self.options.state)
            .map_err(|error| io_error("see what is mounted", &error))
    }

    /// Lets go on what a keeper left at rest that died in a jump.
    pub(super) fn let_go_on(&self) -> Result<(), HostError> {
        let Some(mut record) = boot::last(&self.store)? else { return Ok(()) };
        if record.from == self.read_boot_id()? && !record.over {
            freeze::release(&*self.calls, &self.root, &record.at_rest)
                .map_err(|error| io_error("let file systems go on that were at rest", &error))?;
            record.over = true;
            return self.store.write(JUMP, Some(&record));
        }
        Ok(())
    }

    /// Takes note of the boot that runs, if a jump led to it.
    pub(super) fn note_boot(&self) -> Result<(), HostError> {
        let Some(mut record) = boot::last(&self.store)? else { return Ok(()) };
        if record.note(&self.read_boot_id()?, boot::by_kexec(&self.root)) {
            self.store.write(JUMP, Some(&record))?;
        }
        Ok(())
    }

    /// The jump that led to this boot.
    pub(super) fn arrived_by(&self) -> Result<Option<JumpRecord>, HostError> {
        let boot_id = self.read_boot_id()?;
        let by_kexec = boot::by_kexec(&self.root);
        Ok(boot::last(&self.store)?.filter(|record| record.led_to(&boot_id, by_kexec)))
    }

    /// Digest of the bundle that runs: jumped to, or started from cold as the default that we made.
    pub(super) fn running_digest(&self) -> Result<Option<String>, HostError> {
        match (self.arrived_digest()?, boot::by_kexec(&self.root)) {
            (None, Some(false)) => self.selected_digest(),
            (arrived, _) => Ok(arrived),
        }
    }

    /// Digest of the bundle of the jump that led here, if the kernel is that target's.
    pub(super) fn arrived_digest(&self) -> Result<Option<String>, HostError> {
        let Some(jump) = self.arrived_by()? else { return Ok(None) };
        let target = Target::from(jump.target);
        Ok((target.release == self.read_release()?).then_some(target.digest))
    }
}
