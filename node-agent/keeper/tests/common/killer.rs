//! A machine on which the keeper is killed at its n-th call, before or after that call had its effect; and one whose
//! disk fails or hangs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use liveupdate_host::bundle::Delivery;
use liveupdate_host::{
    Custody, Device, Gate, Held, Holder, Host, HostError, JumpIntent, JumpRefused, Jumped, Quiesced,
    ReclaimedDevice, ReclaimedHolder, Resumed, Target,
};
use liveupdate_node_core::verdict::Signer;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

pub(crate) struct Killer {
    host: Arc<dyn Host>,
    left: AtomicUsize,
    when: When,
    /// How often the disk can still be written to.
    writes: AtomicUsize,
    disk_failed: AtomicBool,
    /// How often it is still known what is loaded.
    tells_staged: AtomicUsize,
    /// The others hang for as long as this is true, instead of failing.
    hangs: Mutex<bool>,
    mended: Condvar,
}

impl Killer {
    pub(crate) fn at(host: Arc<dyn Host>, call: usize, when: When) -> Self {
        let (left, writes) = (AtomicUsize::new(call + 1), AtomicUsize::new(usize::MAX));
        let (disk_failed, hangs, mended) = (AtomicBool::new(false), Mutex::new(false), Condvar::new());
        let tells_staged = AtomicUsize::new(usize::MAX);
        Self { host, left, when, writes, disk_failed, tells_staged, hangs, mended }
    }

    /// One that never kills.
    pub(crate) fn never(host: Arc<dyn Host>) -> Self {
        Self::at(host, usize::MAX - 1, When::Before)
    }

    /// From that write on its disk fails. `usize::MAX`: it does not.
    pub(crate) fn disk_fails_after(&self, writes: usize) {
        self.writes.store(writes, Ordering::SeqCst);
    }

    /// From that write on its disk hangs, until [`Killer::disk_mends`].
    pub(crate) fn disk_hangs_after(&self, writes: usize) {
        *self.hangs.lock().unwrap() = true;
        self.disk_fails_after(writes);
    }

    /// What hung is written.
    pub(crate) fn disk_mends(&self) {
        self.disk_fails_after(usize::MAX);
        *self.hangs.lock().unwrap() = false;
        self.mended.notify_all();
    }

    /// What is loaded is told that many times, and then it is an error.
    pub(crate) fn tells_staged(&self, times: usize) {
        self.tells_staged.store(times, Ordering::SeqCst);
    }

    /// Its disk failed already.
    pub(crate) fn disk_failed(&self) -> bool {
        self.disk_failed.load(Ordering::SeqCst)
    }

    /// The calls so far did not reach the one at which it kills.
    pub(crate) fn survived(&self) -> bool {
        self.left.load(Ordering::SeqCst) > 0
    }

    fn call<T, E: From<HostError>>(&self, call: impl FnOnce(&dyn Host) -> Result<T, E>) -> Result<T, E> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match (left, self.when) {
            (Err(_), _) | (Ok(1), When::Before) => Err(HostError::PoweredOff.into()),
            (Ok(1), When::After) => call(&*self.host).and(Err(HostError::PoweredOff.into())),
            _ => call(&*self.host),
        }
    }
}

impl Host for Killer {
    fn boot_id(&self) -> Result<String, HostError> {
        self.call(|h| h.boot_id())
    }
    fn boot_id_before(&self) -> Result<Option<String>, HostError> {
        self.call(|h| h.boot_id_before())
    }
    fn release(&self) -> Result<String, HostError> {
        self.call(|h| h.release())
    }
    fn bundle_digest(&self) -> Result<Option<String>, HostError> {
        self.call(|h| h.bundle_digest())
    }
    fn simulated(&self) -> bool {
        true
    }
    fn monotonic(&self) -> Result<Duration, HostError> {
        self.call(|h| h.monotonic())
    }
    fn counter(&self) -> Result<Option<u64>, HostError> {
        self.call(|h| h.counter())
    }
    fn wall(&self) -> Result<i64, HostError> {
        self.call(|h| h.wall())
    }
    fn random(&self) -> Result<String, HostError> {
        self.call(|h| h.random())
    }
    fn devices(&self) -> Result<Vec<Device>, HostError> {
        self.call(|h| h.devices())
    }
    fn holders(&self) -> Result<Vec<Holder>, HostError> {
        self.call(|h| h.holders())
    }
    fn held(&self) -> Result<Held, HostError> {
        self.call(|h| h.held())
    }
    fn gates(&self, target: Option<&Target>) -> Result<Vec<Gate>, HostError> {
        self.call(|h| h.gates(target))
    }
    fn staged(&self) -> Result<Option<Target>, HostError> {
        let less = |times: usize| if times == usize::MAX { Some(times) } else { times.checked_sub(1) };
        if self.tells_staged.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
            return Err(HostError::Io { what: "read the record staged".into(), why: "it hangs".into() });
        }
        self.call(|h| h.staged())
    }
    fn signed_for(&self, target: &Target, signers: &[Signer]) -> Result<Gate, HostError> {
        self.call(|h| h.signed_for(target, signers))
    }
    fn has_bundle(&self, target: &Target) -> Result<bool, HostError> {
        self.call(|h| h.has_bundle(target))
    }
    fn receive(
        &self,
        target: &Target,
        from: &mut dyn Delivery,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), HostError> {
        self.call(|h| h.receive(target, from, progress))
    }
    fn stage(&self, target: &Target, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<(), HostError> {
        self.call(|h| h.stage(target, progress))
    }
    fn unstage(&self) -> Result<(), HostError> {
        self.call(|h| h.unstage())
    }
    fn preserve(
        &self,
        attempt: &str,
        devices: &[String],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), HostError> {
        self.call(|h| h.preserve(attempt, devices, go_on))
    }
    fn preserved(&self) -> Result<Option<Custody>, HostError> {
        self.call(|h| h.preserved())
    }
    fn unpreserve(&self) -> Result<(), HostError> {
        self.call(|h| h.unpreserve())
    }
    fn settle(&self, stop: &[String], go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        self.call(|h| h.settle(stop, go_on))
    }
    fn thaw(&self) -> Result<(), HostError> {
        self.call(|h| h.thaw())
    }
    fn quiesce(&self, attempt: &str, deadline: Duration) -> Result<Vec<Quiesced>, HostError> {
        self.call(|h| h.quiesce(attempt, deadline))
    }
    fn resume(&self, cause: &str) -> Result<Vec<Resumed>, HostError> {
        self.call(|h| h.resume(cause))
    }
    fn jump(&self, intent: &JumpIntent) -> Result<Jumped, JumpRefused> {
        self.call(|h| h.jump(intent))
    }
    fn returned_nonce(&self) -> Result<Option<String>, HostError> {
        self.call(|h| h.returned_nonce())
    }
    fn keeps(&self) -> Result<bool, HostError> {
        self.call(|h| h.keeps())
    }
    fn reclaim(&self) -> Result<(Vec<ReclaimedHolder>, Vec<ReclaimedDevice>), HostError> {
        self.call(|h| h.reclaim())
    }
    fn finish(&self) -> Result<(), HostError> {
        self.call(|h| h.finish())
    }
    fn release_custody(&self) -> Result<(), HostError> {
        self.call(|h| h.release_custody())
    }
    fn persists(&self) -> bool {
        self.host.persists()
    }
    fn persist(&self, target: &Target, go_on: &mut dyn FnMut() -> bool) -> Result<String, HostError> {
        self.call(|h| h.persist(target, go_on))
    }
    fn may_uninstall(&self) -> Result<(), HostError> {
        self.host.may_uninstall()
    }
    fn uninstall(&self) -> Result<(), HostError> {
        self.host.uninstall()
    }

    fn load(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.call(|h| h.load(key))
    }
    fn store(&self, key: &str, bytes: &[u8]) -> Result<(), HostError> {
        let less = |writes: usize| if writes == usize::MAX { Some(writes) } else { writes.checked_sub(1) };
        if self.writes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
            self.disk_failed.store(true, Ordering::SeqCst);
            let hangs = self.hangs.lock().unwrap();
            if *hangs {
                drop(self.mended.wait_while(hangs, |hangs| *hangs).unwrap());
                return self.call(|h| h.store(key, bytes));
            }
            drop(hangs);
            let why = "Read-only file system (os error 30)".into();
            return Err(HostError::Io { what: format!("write {key}"), why });
        }
        self.call(|h| h.store(key, bytes))
    }
}
