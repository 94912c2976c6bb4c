//! A driver with a known defect: the watchers have to see it, or a jump has to be refused.

use liveupdate_host::linux::kexec;
use liveupdate_host::linux::vfio::Device;
use rustix::io::Errno;

use super::sessions::{self, Home, refused};
use super::{Next, Trial, before, faults, machine, saw, say};

/// Devices that all refuse.
const SEVERAL: usize = 2;

/// Loads it, and goes where the defect is: preserving a device and giving it up.
pub(super) fn run(trial: &Trial, name: &str) -> Result<(), String> {
    faults::prepare()?;
    let first = trial.devices.first().ok_or("no devices")?;
    loaded(trial, name)?;
    machine::take(first)?;
    let device = Home::new()?.open(first)?;
    before::preserves(&sessions::orchestrator()?, &device)?;
    say(&format!("went where defect {name} is"));
    Ok(())
}

fn loaded(trial: &Trial, name: &str) -> Result<(), String> {
    // Of another defect before this one.
    let _ = machine::unload();
    machine::loaded(&trial.module, &format!("enable=1 defect={name}"))
}

/// Loads it, and jumps with devices that do not come to rest, or cannot be masked.
pub(super) fn no_freeze(trial: &Trial, name: &str, next: &Next) -> Result<(), String> {
    let errno = match name {
        "restless" => Errno::TIMEDOUT,
        "unmaskable" => Errno::IO,
        other => return Err(format!("{other:?} keeps nothing from being frozen")),
    };
    loaded(trial, name)?;
    let home = Home::new()?;
    let orchestrator = sessions::orchestrator()?;
    let mut devices: Vec<Device> = Vec::new();
    for address in trial.devices.iter().take(SEVERAL) {
        machine::take(address)?;
        let device = home.open(address)?;
        sessions::let_master(&device)?;
        devices.push(device);
    }
    let held = devices.iter().map(|device| sessions::preserve(&orchestrator, device));
    let held = held.collect::<Result<Vec<_>, _>>()?;
    before::load(next)?;
    let all =
        || devices.iter().map(|device| machine::config(device.address())).collect::<Result<Vec<_>, _>>();
    let before = all()?;
    refused(&format!("the jump with {name} devices"), kexec::jump(), errno)?;
    devices.iter().try_for_each(|device| machine::is(device.address(), "preserved"))?;
    let after = all()?;
    if after != before {
        return Err(format!("thawed, a {name} device's configuration is {after:x?} and was {before:x?}"));
    }
    drop(held);
    saw(1, "jumps refused by devices that could not be frozen");
    Ok(())
}
