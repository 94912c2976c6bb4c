//! Custody on a real machine: the handover socket, the sessions of the orchestrator, and the index that goes
//! through the jump with them.
//!
//! ```text
//!  holders ── holders.sock ──► Custodian ── one session each, and our own with the index ──► /dev/liveupdate
//!                                  │
//!                                  └─► holders.json, for readers that have no custody (the agent)
//! ```
//! Its owner is the keeper's host, whose operations of the same names it carries out ([`crate::Host`]).

mod arrived;
mod declared;
mod give;
pub mod index;
mod index_file;
mod leave;
mod log;
mod options;
mod order;
mod peer;
mod places;
pub mod published;
mod seen;
mod server;
pub mod sessions;
mod stand;
mod state;
mod stop;
mod store;
mod talk;

pub use options::Options;
pub use sessions::OWN as SESSION;
pub use store::FdStore;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::{Custody, Holder, HostError, JumpIntent, Quiesced, ReclaimedDevice, ReclaimedHolder, Resumed};
use arrived::{Arrived, Found};
use server::Server;
use sessions::{Kernel, Orchestrate};
use state::{Shared, State};

/// Keeps what holders hand over. One for each machine; dropping it before a jump gives everything back.
pub struct Custodian {
    // Before what it serves: it ends first.
    _server: Server,
    shared: Arc<Shared>,
}

impl fmt::Debug for Custodian {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custodian").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl Drop for Custodian {
    fn drop(&mut self) {
        // Connections have threads that may last a moment longer; what is kept ends now, as it does with the process.
        let mut state = self.shared.lock();
        let (leaving, arrived, unread) = (state.leaving.take(), state.arrived.take(), state.unread.take());
        drop(state);
        if let Some(leaving) = leaving {
            leaving.give_back();
        }
        drop((arrived, unread));
    }
}

impl Custodian {
    /// Takes up what came through a jump, if anything did, and begins to listen to holders. Once in a process: it takes
    /// over the files that the service manager kept.
    ///
    /// # Errors
    /// Another keeper listens there, the socket cannot be made, or the kernel does not say now whether something came
    /// through a jump: then nobody was told that nothing did, and it can be started again.
    pub fn start(options: Options) -> Result<Self, HostError> {
        let (store, kept) = FdStore::of_environment();
        let kernel = Arc::new(Kernel::at(options.device.clone()));
        Self::start_over(options, kernel, store, kept)
    }

    /// The same over any orchestrator, with a store of files and what was found in it.
    ///
    /// # Errors
    /// As [`Custodian::start`].
    pub fn start_over(
        options: Options,
        orchestrator: Arc<dyn Orchestrate>,
        store: FdStore,
        kept: BTreeMap<String, OwnedFd>,
    ) -> Result<Self, HostError> {
        let record = options.published.with_file_name("arrived.json");
        let found = Arrived::find(&*orchestrator, &store, kept, &record, &options.boot_id)?;
        let (arrived, unread) = match found {
            Found::Nothing => (None, None),
            Found::Arrived(arrived) => (Some(*arrived), None),
            Found::Unread(unread) => (None, Some(unread)),
        };
        let ledger = arrived.as_ref().map(Arrived::ledger).transpose();
        let ledger = ledger.map_err(|why| HostError::Malformed { what: "the index".into(), why })?;
        let counter_khz = arrived.as_ref().and_then(|arrived| arrived.index.counter_khz);
        let own_khz = options.counter_khz;
        let ledger = ledger.unwrap_or_default();
        let state = State { ledger, arrived, unread, counter_khz, own_khz, ..State::default() };
        let shared = Arc::new(Shared::new(options, orchestrator, store, state));
        shared.publish(&shared.lock());
        let server = Server::start(&shared)?;
        Ok(Self { _server: server, shared })
    }

    /// Holders that have declared themselves.
    ///
    /// # Errors
    /// None.
    pub fn holders(&self) -> Result<Vec<Holder>, HostError> {
        let state = self.shared.lock();
        let holders = state.connected.iter().filter_map(|(name, connected)| {
            let declared = connected.declared.as_ref()?;
            Some(Holder {
                name: name.clone(),
                aware: true,
                minimum: declared.minimum,
                refuses: declared.refuses,
                memory_bytes: declared.memory_bytes(),
            })
        });
        Ok(holders.collect())
    }

    /// Living holders that have declared themselves, each with the addresses of its devices.
    pub fn declared(&self) -> Vec<(String, Vec<String>)> {
        let state = self.shared.lock();
        // Whoever has just ended holds nothing any more, though its connection's end was not heard yet.
        let living = state.connected.iter().filter(|(_, connected)| connected.peer.alive());
        let declared = living.filter_map(|(name, connected)| {
            let devices = connected.declared.as_ref()?.devices().map(str::to_owned);
            Some((name.clone(), devices.collect()))
        });
        declared.collect()
    }

    /// Who is in custody before a jump: its process, while that lives, and the path of its control group. Also who has gone
    /// from its connection since: its guest may run on.
    pub fn handed_over(&self) -> Vec<(Option<u32>, String)> {
        let state = self.shared.lock();
        let peers = state.leaving.iter().flat_map(|leaving| &leaving.parts).map(|part| &part.peer);
        peers.map(|peer| (peer.alive().then_some(peer.pid), peer.cgroup.clone())).collect()
    }

    /// As [`crate::Host::preserve`]: the holders of these devices, and all that have declared memory and no device.
    ///
    /// # Errors
    /// After any of them nothing is preserved.
    pub fn preserve(
        &self,
        attempt: &str,
        devices: &[String],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), HostError> {
        self.shared.preserve(attempt, devices, go_on)
    }

    /// As [`crate::Host::preserved`]; none also when one of its holders has gone.
    ///
    /// # Errors
    /// None.
    pub fn preserved(&self) -> Result<Option<Custody>, HostError> {
        Ok(self.shared.preserved())
    }

    /// As [`crate::Host::unpreserve`]. What came through a jump is not touched.
    ///
    /// # Errors
    /// The jump may happen at any moment.
    pub fn unpreserve(&self) -> Result<(), HostError> {
        self.shared.unpreserve()
    }

    /// As [`crate::Host::quiesce`]. Counters are in nanoseconds, by [`Custodian::counter_khz`].
    ///
    /// # Errors
    /// The attempt has no custody here.
    pub fn quiesce(&self, attempt: &str, deadline: Duration) -> Result<Vec<Quiesced>, HostError> {
        self.shared.quiesce(attempt, deadline)
    }

    /// As [`crate::Host::resume`]. Where another keeper took custody, whoever has declared itself since goes on.
    ///
    /// # Errors
    /// None.
    pub fn resume(&self, cause: &str) -> Result<Vec<Resumed>, HostError> {
        Ok(self.shared.resume(cause))
    }

    /// The last thing before the file systems are frozen and `reboot(2)` is called: the nonce and the stamp go into
    /// the index, and holders are told that they run no more. `ticks` is the invariant counter now.
    ///
    /// # Errors
    /// A holder does not stand still, or the index cannot be written; nobody was told anything.
    pub fn commit(&self, intent: &JumpIntent, ticks: Option<u64>) -> Result<(), HostError> {
        self.shared.commit(intent, ticks)
    }

    /// Whether everybody who was told so by [`Custodian::commit`] still stands. Asked right before `reboot(2)`.
    ///
    /// # Errors
    /// The connection of one has ended: its guest may run again, and must not be jumped with.
    pub fn all_stand(&self) -> Result<(), HostError> {
        self.shared.all_stand()
    }

    /// The kernel refused the jump: custody can be undone again, and holders resumed.
    pub fn refused(&self) {
        if let Err(error) = self.shared.refused() {
            log::report(&error.to_string());
        }
    }

    /// Frequency of the counter as it was on the kernel that jumped: stamps of both kernels are made nanoseconds by
    /// this one, because two kernels need not measure the same. Otherwise this kernel's.
    pub fn counter_khz(&self) -> Option<u64> {
        let state = self.shared.lock();
        state.counter_khz.or(state.own_khz)
    }

    /// This kernel's counter was measured: that takes longer than holders can be left waiting.
    pub fn measured(&self, khz: Option<u64>) {
        self.shared.lock().own_khz = khz;
    }

    /// As [`crate::Host::keeps`].
    pub fn keeps(&self) -> bool {
        let state = self.shared.lock();
        state.unread.is_some() || state.arrived.as_ref().is_some_and(Arrived::is_kept)
    }

    /// As [`crate::Host::returned_nonce`].
    ///
    /// # Errors
    /// None: what cannot be read did not come.
    pub fn returned_nonce(&self) -> Result<Option<String>, HostError> {
        Ok(self.shared.lock().arrived.as_ref().and_then(|arrived| arrived.index.nonce.clone()))
    }

    /// Boot id of the kernel that jumped into this one, by the index.
    pub fn boot_id_before(&self) -> Option<String> {
        self.shared.lock().arrived.as_ref().map(|arrived| arrived.index.boot_id.clone())
    }

    /// The counter (ticks) at which the former kernel's keeper committed, by the index.
    pub fn committed_at(&self) -> Option<u64> {
        self.shared.lock().arrived.as_ref()?.index.committed
    }

    /// As [`crate::Host::reclaim`]. Granting goes on by itself, whenever a successor asks.
    ///
    /// # Errors
    /// None.
    pub fn reclaim(&self) -> Result<(Vec<ReclaimedHolder>, Vec<ReclaimedDevice>), HostError> {
        Ok(self.shared.reclaim())
    }

    /// As [`crate::Host::finish`].
    ///
    /// # Errors
    /// A holder may still come, or the kernel refuses.
    pub fn finish(&self) -> Result<(), HostError> {
        self.shared.finish()
    }

    /// As [`crate::Host::release_custody`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn release_custody(&self) -> Result<(), HostError> {
        self.shared.release()
    }
}
