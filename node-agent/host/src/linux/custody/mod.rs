//! Custody on a real machine: the handover socket, the sessions of the orchestrator, and the index that goes
//! through the jump with them.
//!
//! ```text
//!  holders ── holders.sock ──► Custodian ── one session each, and our own with the index ──► /dev/liveupdate
//!                                  │
//!                                  └─► holders.json, for readers that have no custody (the agent)
//! ```
//! Its owner is the keeper's host, whose operations of the same names it carries out ([`crate::Host`]).

mod options;
pub mod published;

pub use options::{Options, PUBLISHED, SOCKET};

use std::time::Duration;

use crate::{Custody, Holder, HostError, JumpIntent, Quiesced, ReclaimedDevice, ReclaimedHolder, Resumed};

/// Keeps what holders hand over. One for each machine; dropping it before a jump gives everything back.
#[derive(Debug)]
pub struct Custodian {
    options: Options,
}

impl Custodian {
    /// Takes up what came through a jump, if anything did, and begins to listen to holders.
    ///
    /// # Errors
    /// Another keeper listens there, the socket cannot be made, or what came through the jump is not readable.
    pub fn start(options: Options) -> Result<Self, HostError> {
        Ok(Self { options })
    }

    /// Holders that have declared themselves.
    ///
    /// # Errors
    /// None yet.
    pub fn holders(&self) -> Result<Vec<Holder>, HostError> {
        Ok(published::read(&self.options.published, &self.options.boot_id)?
            .into_iter()
            .map(Into::into)
            .collect())
    }

    /// As [`crate::Host::preserve`]: the holders of these devices, and all that have declared memory and no device.
    ///
    /// # Errors
    /// After any of them nothing is preserved.
    pub fn preserve(
        &self,
        _attempt: &str,
        _devices: &[String],
        _go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), HostError> {
        Err(not_yet("preserve"))
    }

    /// As [`crate::Host::preserved`].
    ///
    /// # Errors
    /// None yet.
    pub fn preserved(&self) -> Result<Option<Custody>, HostError> {
        Ok(None)
    }

    /// As [`crate::Host::unpreserve`].
    ///
    /// # Errors
    /// After a jump: what came through it is not ours to give up.
    pub fn unpreserve(&self) -> Result<(), HostError> {
        Ok(())
    }

    /// As [`crate::Host::quiesce`]. Counters are in nanoseconds, by [`Custodian::counter_khz`].
    ///
    /// # Errors
    /// The attempt has no custody here.
    pub fn quiesce(&self, _attempt: &str, _deadline: Duration) -> Result<Vec<Quiesced>, HostError> {
        Err(not_yet("quiesce"))
    }

    /// As [`crate::Host::resume`].
    ///
    /// # Errors
    /// None yet.
    pub fn resume(&self, _cause: &str) -> Result<Vec<Resumed>, HostError> {
        Ok(Vec::new())
    }

    /// The last thing before the file systems are frozen and `reboot(2)` is called: the nonce and the stamp go into
    /// the index, and holders are told that they run no more. `ticks` is the invariant counter now.
    ///
    /// # Errors
    /// Something is not in custody that should be; nobody was told anything.
    pub fn commit(&self, _intent: &JumpIntent, _ticks: Option<u64>) -> Result<(), HostError> {
        Ok(())
    }

    /// The kernel refused the jump: custody can be undone again, and holders resumed.
    pub fn refused(&self) {}

    /// Frequency of the counter as it was on the kernel that jumped: stamps of both kernels are made nanoseconds by
    /// this one, because two kernels need not measure the same. Otherwise this kernel's.
    pub fn counter_khz(&self) -> Option<u64> {
        self.options.counter_khz
    }

    /// As [`crate::Host::returned_nonce`].
    ///
    /// # Errors
    /// None yet.
    pub fn returned_nonce(&self) -> Result<Option<String>, HostError> {
        Ok(None)
    }

    /// Boot id of the kernel that jumped into this one, by the index.
    pub fn boot_id_before(&self) -> Option<String> {
        None
    }

    /// The counter (ticks) at which the former kernel's keeper committed, by the index.
    pub fn committed_at(&self) -> Option<u64> {
        None
    }

    /// As [`crate::Host::reclaim`].
    ///
    /// # Errors
    /// None yet.
    pub fn reclaim(&self) -> Result<(Vec<ReclaimedHolder>, Vec<ReclaimedDevice>), HostError> {
        Ok((Vec::new(), Vec::new()))
    }

    /// As [`crate::Host::finish`].
    ///
    /// # Errors
    /// A holder may still come.
    pub fn finish(&self) -> Result<(), HostError> {
        Ok(())
    }

    /// As [`crate::Host::release_custody`].
    ///
    /// # Errors
    /// None yet.
    pub fn release_custody(&self) -> Result<(), HostError> {
        Ok(())
    }
}

fn not_yet(operation: &'static str) -> HostError {
    HostError::WrongMoment { operation, why: "custody of real files is not built yet".into() }
}
