//! The trait, operation by operation.

use std::time::{Duration, SystemTime};

use liveupdate_node_core::verdict::Signer;
use rustix::rand::GetRandomFlags;

use super::store::io_error;
use super::{LinuxHost, Role};
use crate::bundle::Delivery;
use crate::linux::custody::Custodian;
use crate::linux::ticks;
use crate::{
    Custody, Device, Gate, Held, Holder, Host, HostError, JumpIntent, JumpRefused, Jumped, Quiesced,
    ReclaimedDevice, ReclaimedHolder, Resumed, Target,
};

impl LinuxHost {
    /// What only the keeper's host does.
    fn keeping(&self, operation: &'static str) -> Result<&Custodian, HostError> {
        self.custody.as_ref().ok_or_else(|| HostError::WrongMoment {
            operation,
            why: "this process is not the keeper, which has custody".into(),
        })
    }
}

impl Host for LinuxHost {
    fn boot_id(&self) -> Result<String, HostError> {
        self.read_boot_id()
    }

    fn boot_id_before(&self) -> Result<Option<String>, HostError> {
        let by_index = self.custody.as_ref().and_then(Custodian::boot_id_before);
        Ok(match by_index {
            Some(before) => Some(before),
            None => self.arrived_by()?.map(|jump| jump.from),
        })
    }

    fn release(&self) -> Result<String, HostError> {
        self.read_release()
    }

    fn bundle_digest(&self) -> Result<Option<String>, HostError> {
        self.running_digest()
    }

    fn simulated(&self) -> bool {
        false
    }

    fn monotonic(&self) -> Result<Duration, HostError> {
        Ok(self.calls.clock())
    }

    fn counter(&self) -> Result<Option<u64>, HostError> {
        let khz = self.custody.as_ref().and_then(Custodian::counter_khz);
        let counter = self.counter.and_then(|counter| Some((counter.ticks()?, khz.unwrap_or(counter.khz()))));
        Ok(counter.map(|(ticks, khz)| ticks::nanoseconds(ticks, khz)))
    }

    fn wall(&self) -> Result<i64, HostError> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn random(&self) -> Result<String, HostError> {
        let mut bytes = [0_u8; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            let more = rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty());
            filled += more.map_err(|error| io_error("draw a random number", &error))?;
        }
        Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
    }

    fn devices(&self) -> Result<Vec<Device>, HostError> {
        self.read_devices()
    }

    fn holders(&self) -> Result<Vec<Holder>, HostError> {
        self.read_holders()
    }

    fn held(&self) -> Result<Held, HostError> {
        self.read_held(self.keeping("held")?)
    }

    fn gates(&self, target: Option<&Target>) -> Result<Vec<Gate>, HostError> {
        self.read_gates(target)
    }

    fn staged(&self) -> Result<Option<Target>, HostError> {
        self.staged_target()
    }

    fn signed_for(&self, target: &Target, signers: &[Signer]) -> Result<Gate, HostError> {
        self.bundles.signed_for(target, signers)
    }

    fn has_bundle(&self, target: &Target) -> Result<bool, HostError> {
        self.bundles.has(target)
    }

    fn receive(
        &self,
        target: &Target,
        from: &mut dyn Delivery,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), HostError> {
        let loaded = self.staged_target()?.map(|loaded| loaded.digest);
        self.bundles.receive(target, &[self.running_digest()?, loaded], from, progress)
    }

    fn stage(&self, target: &Target, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<(), HostError> {
        self.load_target(target, progress)
    }

    fn unstage(&self) -> Result<(), HostError> {
        self.unload_target()
    }

    fn preserve(
        &self,
        attempt: &str,
        devices: &[String],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), HostError> {
        self.phase("preserve");
        self.keeping("preserve")?.preserve(attempt, devices, go_on)
    }

    fn preserved(&self) -> Result<Option<Custody>, HostError> {
        self.keeping("preserved")?.preserved()
    }

    fn unpreserve(&self) -> Result<(), HostError> {
        self.keeping("unpreserve")?.unpreserve()
    }

    fn settle(&self, stop: &[String], go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        self.keeping("settle")?;
        self.settle_all(stop, go_on)
    }

    fn thaw(&self) -> Result<(), HostError> {
        self.keeping("thaw")?;
        self.thaw_all()
    }

    fn quiesce(&self, attempt: &str, deadline: Duration) -> Result<Vec<Quiesced>, HostError> {
        self.phase("quiesce");
        let answers = self.keeping("quiesce")?.quiesce(attempt, deadline);
        self.phase("quiesced");
        answers
    }

    fn resume(&self, cause: &str) -> Result<Vec<Resumed>, HostError> {
        self.phase("resume");
        self.keeping("resume")?.resume(cause)
    }

    fn jump(&self, intent: &JumpIntent) -> Result<Jumped, JumpRefused> {
        if self.role != Role::Keeper {
            return Err(JumpRefused { why: "this process is not the keeper, which alone jumps".into() });
        }
        match self.jump_now(intent)? {}
    }

    fn returned_nonce(&self) -> Result<Option<String>, HostError> {
        self.custody.as_ref().map_or(Ok(None), Custodian::returned_nonce)
    }

    fn keeps(&self) -> Result<bool, HostError> {
        Ok(self.custody.as_ref().is_some_and(Custodian::keeps))
    }

    fn reclaim(&self) -> Result<(Vec<ReclaimedHolder>, Vec<ReclaimedDevice>), HostError> {
        self.keeping("reclaim")?.reclaim()
    }

    fn finish(&self) -> Result<(), HostError> {
        self.keeping("finish")?.finish()
    }

    fn release_custody(&self) -> Result<(), HostError> {
        self.keeping("release")?.release_custody()
    }

    fn persists(&self) -> bool {
        !self.options.boot.is_empty()
    }

    fn persist(&self, target: &Target, go_on: &mut dyn FnMut() -> bool) -> Result<String, HostError> {
        self.keeping("persist")?;
        self.persist_target(target, go_on)
    }

    fn may_uninstall(&self) -> Result<(), HostError> {
        crate::linux::installation::is_ours(&self.root)
    }

    fn uninstall(&self) -> Result<(), HostError> {
        self.may_uninstall()?;
        // Before the unit: while that is there, the rest can be tried again.
        crate::linux::signers::put(&self.root, &self.options.signers, &[])?;
        crate::linux::installation::remove(&self.root, &*self.calls)
    }

    fn load(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.store.load(key)
    }

    fn store(&self, key: &str, bytes: &[u8]) -> Result<(), HostError> {
        self.store.store(key, bytes)
    }
}
