//! The devices of this holder, each with a thread that works it as a vCPU would.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use liveupdate_holder::messages::{Check, Object, ObjectKind};
use liveupdate_host::linux::vfio::{Device, Map};
use liveupdate_proto::causes::chain;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::copies::Copied;
use crate::driver::{Driver, Faults, Found};
use crate::memory::Memory;
use crate::misbehaviour::BadStop;
use crate::nvme::{self, Drive, Use};
use crate::opened::{Bound, Identity};
use crate::tell;
use crate::virtio::{self, Nic};

/// Looks by itself so often, whether or not a vector was signalled.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// While it stands.
const MOMENT: Duration = Duration::from_millis(1);

type Shared = Arc<Mutex<dyn Driver>>;

/// All of them.
#[derive(Debug)]
pub(crate) struct Devices {
    name: String,
    all: Vec<Shared>,
    /// Of those that came back.
    checks: Vec<Check>,
}

impl Devices {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), all: Vec::new(), checks: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Opens those that it does not have yet, each with its part of the memory. Once it has come back, it has what came
    /// with it: what was lost cannot be had by its own node.
    pub(crate) fn open(&mut self, addresses: &[String], memory: &Memory, used: Use) -> Result<(), String> {
        if !self.checks.is_empty() {
            return Ok(());
        }
        for (place, address) in addresses.iter().enumerate().skip(self.all.len()) {
            let part = memory.part(place as u64).map_err(|error| error.to_string())?;
            let opened = open(address, Arc::new(part), used);
            let driver = opened.map_err(|error| format!("device {address}: {error}"))?;
            let said = {
                let mut driver = lock(&driver);
                [driver.description(), driver.go_on()].concat()
            };
            self.say(address, &said);
            self.work(driver);
        }
        Ok(())
    }

    /// Their files, in the order of their tokens.
    pub(crate) fn declare(&self, first: u64) -> std::io::Result<(Vec<Object>, Vec<OwnedFd>)> {
        let all = self.all.iter().zip(first..).map(|(drive, token)| {
            let drive = lock(drive);
            let kind = ObjectKind::VfioDevice.into();
            Ok((Object { kind, token, label: drive.address().into() }, drive.file()?))
        });
        all.collect()
    }

    /// All stand, within a time that they share; the second one as wrongly as is wanted. True: none does DMA.
    pub(crate) fn stand(&self, drains: Option<Duration>, bad: Option<BadStop>) -> Result<bool, String> {
        let (begun, mut quiet) = (Instant::now(), true);
        self.all.iter().for_each(|drive| lock(drive).halt());
        for (number, drive) in self.all.iter().enumerate() {
            let bad = bad.filter(|_| number == 1);
            let mut drive = lock(drive);
            let left = drains.map(|patience| patience.saturating_sub(begun.elapsed()));
            let stood = drive.stand(left, bad);
            match stood {
                Ok(stood) => quiet &= stood,
                Err(error) => {
                    drop(drive);
                    // Refused in time, and not after all that is slow has come: nobody needs to know what was lost of what
                    // never stood.
                    self.relatch(Faults::default());
                    self.go_on();
                    return Err(error);
                }
            }
            let interrupts = if bad == Some(BadStop::Interrupts) { "on" } else { "off" };
            let (done, waiting) = drive.progress();
            self.say(
                drive.address(),
                &[format!("stands done={done} waiting={waiting} interrupts={interrupts}")],
            );
        }
        Ok(quiet)
    }

    /// All go on on this kernel.
    pub(crate) fn go_on_here(&self, faults: Faults) -> Vec<Check> {
        // All first: for each of them every millisecond without interrupts counts.
        let mut checks = self.relatch(faults);
        checks.extend(self.settle());
        self.go_on();
        checks
    }

    /// Interrupts of all that stand are on again.
    fn relatch(&self, faults: Faults) -> Vec<Check> {
        let mut checks = Vec::new();
        for drive in &self.all {
            let (mut drive, mut found) = (lock(drive), Found::default());
            if drive.stands() {
                drive.relatch(faults, &mut found);
                self.told(drive.address(), &found);
                checks.extend(found.checks);
            }
        }
        checks
    }

    /// What was on its way when they stood has come, or is asked again.
    fn settle(&self) -> Vec<Check> {
        let mut checks = Vec::new();
        for drive in &self.all {
            let (mut drive, mut found) = (lock(drive), Found::default());
            drive.settle(&mut found);
            self.told(drive.address(), &found);
            checks.extend(found.checks);
        }
        checks
    }

    /// All that stand work again.
    pub(crate) fn go_on(&self) {
        for drive in &self.all {
            let mut drive = lock(drive);
            if drive.stands() {
                let said = drive.go_on();
                self.say(drive.address(), &said);
            }
        }
    }

    /// Takes one back that came through a jump. Asked again it says what it said.
    pub(crate) fn back(
        &mut self,
        address: &str,
        file: Result<OwnedFd, String>,
        memory: &Memory,
        faults: Faults,
    ) -> Result<(), String> {
        if self.all.iter().any(|drive| lock(drive).address() == address) {
            return Ok(());
        }
        let file = match file {
            Ok(file) => file,
            Err(error) => {
                // It is lost for good; the memory is not.
                let mut found = Found::default();
                found.check("device", address, false, error);
                self.told(address, &found);
                self.checks.extend(found.checks);
                return Ok(());
            }
        };
        let (driver, found) = back(&self.name, address, file, memory, faults)
            .map_err(|error| format!("device {address}: {error}"))?;
        self.told(address, &found);
        self.checks.extend(found.checks);
        self.work(driver);
        Ok(())
    }

    /// What was found of all that came back.
    pub(crate) fn checks(&mut self) -> Vec<Check> {
        self.checks.extend(self.settle());
        self.checks.clone()
    }

    fn told(&self, address: &str, found: &Found) {
        self.say(address, &found.said);
        let checks = found.checks.iter().map(|check| {
            let what = check.name.split(' ').next().unwrap_or_default();
            format!("{what} passed={} {}", check.passed, check.detail)
        });
        self.say(address, &checks.collect::<Vec<_>>());
    }

    fn say(&self, address: &str, said: &[String]) {
        for what in said {
            tell(&self.name, &format!("device {address} {what}"));
        }
    }

    fn work(&mut self, drive: Shared) {
        let (events, address) = {
            let drive = lock(&drive);
            (drive.events(), drive.address().to_owned())
        };
        self.all.push(Arc::clone(&drive));
        let name = self.name.clone();
        thread::spawn(move || {
            loop {
                let waits = events.iter().map(|event| PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN));
                let mut waits: Vec<PollFd<'_>> = waits.collect();
                let _ = poll(&mut waits, Some(&LOOK));
                let mut drive = lock(&drive);
                if drive.stands() {
                    // What is signalled now is for whoever kicks.
                    drop(drive);
                    thread::sleep(MOMENT);
                    continue;
                }
                drive.signalled();
                let mut said = drive.turn();
                said.extend(drive.summary());
                drop(drive);
                for what in said {
                    tell(&name, &format!("device {address} {what}"));
                }
            }
        });
    }
}

/// A device that nobody uses, by the driver for what it is.
fn open(address: &str, part: Arc<Map>, used: Use) -> Result<Shared, String> {
    let device = Device::open(address).map_err(|error| chain(&error))?;
    let bound = Bound::of(device, part)?;
    match bound.identity()? {
        Identity { class: nvme::CLASS, .. } => Ok(Arc::new(Mutex::new(Drive::open(bound, used)?))),
        Identity { vendor: virtio::VENDOR, device: virtio::NIC, .. } => {
            Ok(Arc::new(Mutex::new(Nic::open(bound)?)))
        }
        Identity { vendor, device, class } => Err(format!(
            "{vendor:04x}:{device:04x} of class {class:04x} is neither an NVMe controller nor a virtio NIC of version 1 \
             ({:04x}:{:04x}): there is no driver for it here; pass one of those",
            virtio::VENDOR,
            virtio::NIC
        )),
    }
}

/// One that came through a jump, by the driver whose state is in its part of the memory.
fn back(
    name: &str,
    address: &str,
    file: OwnedFd,
    memory: &Memory,
    faults: Faults,
) -> Result<(Shared, Found), String> {
    let bound = |part: Map| {
        let device = Device::from_file(file, address).map_err(|error| chain(&error))?;
        let bound = Bound::of(device, Arc::new(part))?;
        // At once: what the device did before was done with nobody there, and who watches it parts its way here.
        tell(name, &format!("device {address} is bound again"));
        Ok::<Bound, String>(bound)
    };
    for part in memory.parts().map_err(|error| error.to_string())? {
        if let Some(state) = nvme::State::load(&part).filter(|state| state.address == address) {
            let (drive, found) = Drive::back(bound(part)?, state, faults)?;
            return Ok((Arc::new(Mutex::new(drive)), found));
        }
        if let Some(state) = virtio::State::load(&part).filter(|state| state.address == address) {
            let (nic, found) = Nic::back(bound(part)?, state, faults)?;
            return Ok((Arc::new(Mutex::new(nic)), found));
        }
    }
    Err("no part of the memory is its own".into())
}

fn lock(driver: &Mutex<dyn Driver>) -> MutexGuard<'_, dyn Driver + 'static> {
    driver.lock().unwrap_or_else(PoisonError::into_inner)
}
