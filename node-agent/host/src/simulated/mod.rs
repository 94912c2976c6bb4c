//! A machine that is simulated: one [`World`] each, in memory or in a folder.
//!
//! A world is what a machine is for everything that runs on it. Processes reach it through
//! [`World::host`], which belongs to the boot in which it was made: after a jump it fails with
//! [`crate::HostError::PoweredOff`], as a process that is no more. Who runs the machine (a task of the lab, or
//! a supervisor of real processes) waits for the jump and calls [`World::boot`]:
//!
//! ```text
//!            jump, power_cut
//!   On(boot n) ───────────► Off ──boot──► On(boot n+1)
//!                            └─ comes_back == false: stays so until power_cut
//! ```
//!
//! In a folder: `world.json` (a [`WorldSpec`], which a person or test writes, also while the machine runs),
//! `state.json` (the simulation's), `store/` (what the machine's processes keep), `lock`.

mod answers;
mod facts;
mod gates;
mod host;
mod spec;
mod state;
mod store;

pub use facts::{Config, DeviceState, Dma, FactsSpec, Interrupts, Reset};
pub use host::SimulatedHost;
pub use spec::{
    Answer, BundleSpec, DeviceSpec, Durations, Fault, GateSpec, HolderSpec, Level, Pace, WorldSpec,
};

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use state::Power;
use store::Store;

use crate::HostError;

/// One simulated machine. Clones are the same machine.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    listeners: Mutex<Vec<Listener>>,
}

type Listener = Box<dyn Fn(PowerEvent) + Send + Sync>;

/// The machine went off: every process of it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerEvent {
    /// To wait before [`World::boot`]; zero when durations are not waited for.
    pub takes: Duration,
    /// False: nothing comes up.
    pub comes_back: bool,
}

/// What runs, as a kubelet would read it from `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Boot id.
    pub boot_id: String,
    /// `uname -r`.
    pub release: String,
}

impl World {
    /// A machine in memory.
    pub fn in_memory(spec: WorldSpec) -> Self {
        Self::over(Store::memory(spec))
    }

    /// A machine in a folder that has a `world.json`.
    ///
    /// # Errors
    /// The folder or its files cannot be read.
    pub fn open(folder: &Path) -> Result<Self, HostError> {
        Ok(Self::over(Store::folder(folder)?))
    }

    /// Writes `world.json` into a folder without one, and opens it.
    ///
    /// # Errors
    /// There is one already, or the folder cannot be written.
    pub fn create(folder: &Path, spec: &WorldSpec) -> Result<Self, HostError> {
        store::create(folder, spec)?;
        Self::open(folder)
    }

    fn over(store: Store) -> Self {
        Self { inner: Arc::new(Inner { store, listeners: Mutex::new(Vec::new()) }) }
    }

    /// The machine for a process of the present boot; one that starts while it is off is dead at once.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn host(&self) -> Result<SimulatedHost, HostError> {
        let boot = self.inner.store.with(|machine| Ok(machine.state.boot))?;
        Ok(SimulatedHost::new(self.clone(), boot))
    }

    /// What runs; none while the machine is off.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn running(&self) -> Result<Option<Running>, HostError> {
        self.inner.store.with(|machine| {
            let state = &machine.state;
            let running = || Running { boot_id: state.boot_id.clone(), release: state.release.clone() };
            Ok((state.power == Power::On).then(running))
        })
    }

    /// The attempts whose jump was made, the first one first, since the world was made. Nothing on the
    /// machine can read or change it: it is for whoever looks on.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn jumps(&self) -> Result<Vec<String>, HostError> {
        self.inner.store.with(|machine| Ok(machine.state.jumps.clone()))
    }

    /// Holders that were stopped and do not go on. Who is stopped is known by the machine's counter alone.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn standing(&self) -> Result<Vec<String>, HostError> {
        self.inner.store.with(|machine| {
            let state = &machine.state;
            let holders = state.to_go_on().filter(|_| state.power == Power::On).flat_map(|c| &c.holders);
            let standing = holders.filter(|(_, stopped)| stopped.is_some());
            Ok(standing.map(|(name, _)| name.clone()).collect())
        })
    }

    /// Whether the machine is off, and how it comes back.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn power(&self) -> Result<Option<PowerEvent>, HostError> {
        self.inner.store.with(|machine| Ok(power_event(machine)))
    }

    /// Tells a listener of every jump and power cut that is made through this world or its clones. Jumps by
    /// other processes are seen with [`World::power`] alone. Called in the thread that jumped.
    pub fn on_power_event(&self, listener: impl Fn(PowerEvent) + Send + Sync + 'static) {
        let mut listeners = self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(listener));
    }

    /// Waits until the machine is off; none when it still runs after `timeout`.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn wait_for_power_event(&self, timeout: Duration) -> Result<Option<PowerEvent>, HostError> {
        let started = Instant::now();
        loop {
            let event = self.power()?;
            if event.is_some() || started.elapsed() >= timeout {
                return Ok(event);
            }
            std::thread::sleep(Duration::from_millis(2).min(timeout));
        }
    }

    /// Brings up what was jumped into. The caller has waited for [`PowerEvent::takes`].
    ///
    /// # Errors
    /// [`HostError::WrongMoment`]: the machine is on, or never comes back.
    pub fn boot(&self) -> Result<Running, HostError> {
        self.inner.store.with(|machine| {
            let next = match &machine.state.power {
                Power::Off(Some(next)) => next.clone(),
                Power::On => return Err(wrong("boot", "the machine is on")),
                Power::Off(None) => return Err(wrong("boot", "the machine does not come back")),
            };
            machine.boot(next);
            Ok(Running { boot_id: machine.state.boot_id.clone(), release: machine.state.release.clone() })
        })
    }

    /// Cuts the power: everything in memory is lost; [`World::boot`] brings up the first kernel.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn power_cut(&self) -> Result<(), HostError> {
        self.transition(|machine| {
            machine.power_cut();
            Ok(())
        })
    }

    /// Changes what the machine is: its faults, gates, bundles, durations. What was already read or loaded
    /// from it stays.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn change(&self, edit: impl FnOnce(&mut WorldSpec)) -> Result<(), HostError> {
        self.inner.store.with(|machine| {
            edit(&mut machine.spec);
            Ok(())
        })
    }

    /// What the machine is.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn spec(&self) -> Result<WorldSpec, HostError> {
        self.inner.store.with(|machine| Ok(machine.spec.clone()))
    }

    /// Puts the machine's clocks forward, but for the wall clock.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn advance(&self, by: Duration) -> Result<(), HostError> {
        self.inner.store.with(|machine| {
            machine.skip(u64::try_from(by.as_millis()).unwrap_or(u64::MAX));
            Ok(())
        })
    }

    /// An operation after which the machine may be off; listeners are told then, outside of the lock.
    fn transition<T>(
        &self,
        operation: impl FnOnce(&mut state::Machine) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let (result, event) = self.inner.store.with(|machine| {
            let result = operation(machine)?;
            Ok((result, power_event(machine)))
        })?;
        if let Some(event) = event {
            let listeners = self.inner.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            for listener in listeners.iter() {
                listener(event);
            }
        }
        Ok(result)
    }
}

fn power_event(machine: &state::Machine) -> Option<PowerEvent> {
    let Power::Off(next) = &machine.state.power else { return None };
    let real = machine.spec.pace == Pace::Real;
    let takes = next.as_ref().filter(|_| real).map_or(0, |next| next.takes_ms);
    Some(PowerEvent { takes: Duration::from_millis(takes), comes_back: next.is_some() })
}

fn wrong(operation: &'static str, why: impl Into<String>) -> HostError {
    HostError::WrongMoment { operation, why: why.into() }
}
