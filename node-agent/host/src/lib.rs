//! What agent and keeper need from a machine.
//!
//! [`Host`] is the only way in which they reach one, so that the shipped code runs over a simulated machine
//! ([`simulated`]) as over a real one. It is synchronous: callers with a runtime use a blocking thread.
//! Every operation may fail, may take long, and may be the last thing that this process does.

pub mod bundle;
pub mod error;
pub mod image;
mod judge;
pub mod linux;
pub mod simulated;
pub mod types;

pub use error::{HostError, JumpRefused};
pub use judge::judge;
pub use types::{
    Custody, Device, Facts, Gate, Held, Holder, JumpIntent, Jumped, Quiesced, ReclaimedDevice,
    ReclaimedHolder, Resumed, Target,
};

use std::time::Duration;

use liveupdate_node_core::verdict::Signer;

/// A machine that can be live-updated.
///
/// Reading changes nothing. What changes something is idempotent: it may be called again after a crash.
pub trait Host: Send + Sync {
    /// Boot id of the running kernel, as `/proc/sys/kernel/random/boot_id` has it.
    fn boot_id(&self) -> Result<String, HostError>;
    /// Boot id of the kernel that jumped into this one; none when this one was not jumped into. Where the machine does not
    /// show by whom it was started, the first boot after a jump counts as its.
    fn boot_id_before(&self) -> Result<Option<String>, HostError>;
    /// What `uname -r` says.
    fn release(&self) -> Result<String, HostError>;
    /// Digest (`sha256:…`) of the bundle that runs; none when that is not known.
    fn bundle_digest(&self) -> Result<Option<String>, HostError>;
    /// Nothing of this machine is real.
    fn simulated(&self) -> bool;

    /// Time since this boot. Starts at zero after a jump.
    fn monotonic(&self) -> Result<Duration, HostError>;
    /// The CPU's invariant counter in nanoseconds; goes on over a kexec. None when there is no such counter:
    /// blackouts are unmeasured then.
    fn counter(&self) -> Result<Option<u64>, HostError>;
    /// Milliseconds since 1970 by the wall clock: for people alone.
    fn wall(&self) -> Result<i64, HostError>;

    /// 32 hex digits that nobody can guess.
    fn random(&self) -> Result<String, HostError>;

    /// PCI devices that could be held by somebody.
    fn devices(&self) -> Result<Vec<Device>, HostError>;
    /// Processes that hold devices or memory to preserve.
    fn holders(&self) -> Result<Vec<Holder>, HostError>;
    /// Who holds what now, by the same names as [`Host::devices`] and [`Host::holders`] have. Costs little, since it is asked
    /// while guests stand still. What cannot be looked at is an error, and not held by nobody. The keeper's alone.
    fn held(&self) -> Result<Held, HostError>;
    /// Reads every gate now: node, device and holder scope, and the target's with a target.
    fn gates(&self, target: Option<&Target>) -> Result<Vec<Gate>, HostError>;

    /// The image that is loaded and would run after a jump.
    fn staged(&self) -> Result<Option<Target>, HostError>;
    /// `TargetTrusted` by the platform's signers alone: whether one of them vouches for the target's bundle.
    fn signed_for(&self, target: &Target, signers: &[Signer]) -> Result<Gate, HostError>;
    /// Whether the target's bundle is under the bundle root, or was fetched before.
    fn has_bundle(&self, target: &Target) -> Result<bool, HostError>;
    /// Takes the target's bundle in from a registry: by the digest of its artifact, if somebody trusted signed it.
    /// Nothing is loaded. `progress` as in [`Host::stage`]; after an error nothing of it stays. Idempotent.
    fn receive(
        &self,
        target: &Target,
        from: &mut dyn bundle::Delivery,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<(), HostError>;
    /// Copies, verifies and loads a bundle while guests run. `progress` is told bytes done and in all; when
    /// it answers false, the staging ends with [`HostError::Cancelled`]. Nothing half done stays loaded.
    fn stage(&self, target: &Target, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<(), HostError>;
    /// Unloads the image, if one is loaded.
    fn unstage(&self) -> Result<(), HostError>;

    /// Takes what belongs to these devices (addresses) and their holders into custody while guests run.
    /// `go_on` is asked between two files; when it answers false, it ends with [`HostError::Cancelled`].
    /// All or nothing: after an error nothing is preserved.
    fn preserve(
        &self,
        attempt: &str,
        devices: &[String],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), HostError>;
    /// What is in custody before a jump.
    fn preserved(&self) -> Result<Option<Custody>, HostError>;
    /// Gives up custody before a jump; holders keep all that they had.
    fn unpreserve(&self) -> Result<(), HostError>;
    /// Ends bystanders in order and syncs. Holders of `stop` (device addresses) are ended too, where nobody who is handed over
    /// would end with them; whether they have is for [`Host::held`] to say. `go_on` as in [`Host::preserve`]; after an error,
    /// [`Host::thaw`] is still needed.
    fn settle(&self, stop: &[String], go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError>;
    /// Undoes [`Host::settle`]; does nothing when there is nothing to undo. After an error all that can be undone is, and
    /// the rest is tried when it is called again.
    fn thaw(&self) -> Result<(), HostError>;
    /// Stops every holder in custody. `deadline` is for all together. The answer has one entry for each
    /// holder, also for those that were late or voted no; the caller decides.
    fn quiesce(&self, attempt: &str, deadline: Duration) -> Result<Vec<Quiesced>, HostError>;
    /// Lets every holder in custody go on, before a jump. Idempotent. One entry for each holder.
    fn resume(&self, cause: &str) -> Result<Vec<Resumed>, HostError>;
    /// Jumps into the loaded image. On a real machine success never returns; in a simulation it does, and
    /// every later call of this process fails with [`HostError::PoweredOff`].
    fn jump(&self, intent: &JumpIntent) -> Result<Jumped, JumpRefused>;

    /// The nonce of the attempt that came through the jump with what is in custody; none when nothing did.
    fn returned_nonce(&self) -> Result<Option<String>, HostError>;
    /// Something that came through a jump is neither given back nor given up, also where nobody can say what. It would end
    /// with this kernel: until then nothing may begin that leads to another jump.
    fn keeps(&self) -> Result<bool, HostError>;
    /// After a jump: how far each holder and device is on its way back. Grants what can be granted.
    fn reclaim(&self) -> Result<(Vec<ReclaimedHolder>, Vec<ReclaimedDevice>), HostError>;
    /// Ends custody after a jump, when every holder has resumed. Refuses while one may still come.
    fn finish(&self) -> Result<(), HostError>;
    /// Gives up what is in custody though its holder may still come: by an operator's word alone.
    fn release_custody(&self) -> Result<(), HostError>;

    /// A verified target is made what starts from cold here ([`Host::persist`]). False: this machine is set up
    /// so that somebody else sees to that.
    fn persists(&self) -> bool;
    /// Makes the target's kernel what starts after a power cut, and tells which boot entry that is. Idempotent.
    /// `go_on` as in [`Host::preserve`]. After an error the machine starts what it would have before.
    fn persist(&self, target: &Target, go_on: &mut dyn FnMut() -> bool) -> Result<String, HostError>;

    /// Whether what is on this machine is `install-keeper`'s, so that [`Host::uninstall`] may take it away.
    fn may_uninstall(&self) -> Result<(), HostError>;
    /// Takes away what `install-keeper` has put on this machine, but for its records and bundles: unit and program.
    /// Whoever calls ends afterwards, and nothing starts it again.
    fn uninstall(&self) -> Result<(), HostError>;

    /// Reads what [`Host::store`] wrote under this key; none when nothing was. Keys are `[a-z0-9-]+`.
    fn load(&self, key: &str) -> Result<Option<Vec<u8>>, HostError>;
    /// Writes atomically and durably: when it returns, the bytes are found after a jump or a power cut, and
    /// after a crash within, either the old or the new ones are.
    fn store(&self, key: &str, bytes: &[u8]) -> Result<(), HostError>;
}
