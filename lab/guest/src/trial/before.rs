//! The first kernel: the module comes and goes, devices are bound, used, preserved, given up, frozen, thawed; then the jump.

use std::cell::Cell;
use std::fs::File;
use std::os::fd::AsFd;

use liveupdate_host::linux::kexec::{self, CommandLine};
use liveupdate_host::linux::luo::{Orchestrator, OutgoingSession};
use liveupdate_host::linux::vfio::Device;
use liveupdate_proto::causes::chain;
use rustix::io::Errno;

use super::machine::{self, DRIVER};
use super::sessions::{self, Home, refused};
use super::{Next, Trial, faults, frozen, leaks, leaving, refusals, saw, say};

/// Module parameters, as it is loaded with them one after the other.
const LOADS: [&str; 5] = ["", "enable=0", "enable=1", "enable=1", "enable=1"];

pub(super) fn run(trial: &Trial, next: &Next) -> Result<(), String> {
    faults::prepare()?;
    comes_and_goes(trial)?;
    let first = trial.devices.first().ok_or("no devices")?;
    opt_in_off(trial, first)?;
    machine::loaded(&trial.module, "enable=1")?;
    machine::unbind(first)?;
    binds(first)?;
    trial.all().try_for_each(|address| machine::take(address))?;
    comes_and_goes_with_devices(trial)?;

    let home = Home::new()?;
    let device = home.open(first)?;
    let orchestrator = sessions::orchestrator()?;
    refusals::of_preserve(trial, &home, &orchestrator, &device)?;
    preserves(&orchestrator, &device)?;
    drop(device);
    trial.plain.iter().try_for_each(|address| preserves(&orchestrator, &home.open(address)?))?;

    let mut devices = Vec::new();
    // What is to refuse the jump is the last one.
    for address in trial.plain.iter().chain(&trial.devices) {
        let device = home.open(address)?;
        sessions::let_master(&device)?;
        devices.push(device);
    }
    let held = devices.iter().map(|device| sessions::preserve(&orchestrator, device));
    let held: Vec<OutgoingSession> = held.collect::<Result<_, _>>()?;
    drop(orchestrator);
    refused("unloading with devices preserved", machine::unload(), Errno::AGAIN)?;
    load(next)?;
    refusals::of_freeze(&devices)?;
    frozen::while_a_call_is_late(&devices)?;
    trial.deep.iter().try_for_each(|address| leaving::keeps_from_jumping(&home, address, &devices))?;
    // The only one that nobody has open.
    trial.deep.iter().try_for_each(|address| opens(&home, address))?;
    leaks::run()?;
    jump(held)
}

/// The module alone.
fn comes_and_goes(trial: &Trial) -> Result<(), String> {
    for parameters in LOADS {
        machine::loaded(&trial.module, parameters)?;
        machine::unloaded()?;
    }
    saw(LOADS.len() as u32, "loads and unloads");
    refused("a parameter that is none", machine::load(&trial.module, "enable=perhaps"), Errno::INVAL)?;
    saw(1, "parameters refused");
    let load =
        || machine::load(&trial.module, "enable=1").map_err(|errno| format!("finit_module failed: {errno}"));
    faults::sweep("finit_module", load, |loaded| match loaded {
        Some(()) => machine::unloaded(),
        None => refused("unloading what was not loaded", machine::unload(), Errno::NOENT),
    })?;
    machine::unloaded()
}

/// With the opt-in off it serves devices, and hands none over.
fn opt_in_off(trial: &Trial, address: &str) -> Result<(), String> {
    machine::loaded(&trial.module, "enable=0")?;
    machine::take(address)?;
    let home = Home::new()?;
    let device = home.open(address)?;
    let session = sessions::create(&sessions::orchestrator()?, address)?;
    refused("PRESERVE_FD, opt-in off", session.preserve(sessions::TOKEN, &device), Errno::NOENT)?;
    machine::is(address, "idle")?;
    drop((session, device));
    machine::unbind(address)?;
    machine::unloaded()?;
    saw(1, "files refused with the opt-in off");
    Ok(())
}

fn binds(address: &str) -> Result<(), String> {
    let bind = || machine::bind(address, DRIVER);
    let undo = |bound: Option<()>| match (bound, machine::driver(address)) {
        (Some(()), Some(_)) => machine::unbind(address),
        (None, None) => Ok(()),
        (bound, driver) => Err(format!("bound {bound:?}, but its driver is {driver:?}")),
    };
    faults::sweep("binding", bind, undo)?;
    machine::unbind(address)
}

/// Takes a device into use, with everything that that may lack.
fn opens(home: &Home, address: &str) -> Result<(), String> {
    let undo = |device: Option<Device>| {
        drop(device);
        machine::is(address, "idle")
    };
    faults::sweep("open, BIND_IOMMUFD and ATTACH", || home.open(address), undo).map(drop)
}

/// With devices bound to it that nobody has open.
fn comes_and_goes_with_devices(trial: &Trial) -> Result<(), String> {
    for _ in 0..3 {
        machine::unloaded()?;
        machine::loaded(&trial.module, "enable=1")?;
        for address in trial.all() {
            machine::is(address, "idle")?;
        }
    }
    saw(3, "loads and unloads with devices bound");
    Ok(())
}

/// Preserves a device and gives it up, with everything that both may lack.
pub(super) fn preserves(orchestrator: &Orchestrator, device: &Device) -> Result<(), String> {
    let idle = |session: Option<OutgoingSession>| {
        drop(session);
        machine::is(device.address(), "idle")
    };
    let preserve = || sessions::preserve(orchestrator, device);
    let session = faults::sweep("PRESERVE_FD", preserve, idle)?;
    machine::is(device.address(), "preserved")?;

    let held = Cell::new(Some(session));
    let close = || {
        drop(held.take());
        Ok(())
    };
    faults::sweep("close of the session", close, |_| {
        machine::is(device.address(), "idle")?;
        held.set(Some(preserve()?));
        Ok(())
    })?;
    machine::is(device.address(), "idle")?;
    faults::starve("PRESERVE_FD", preserve, idle)
}

pub(super) fn load(next: &Next) -> Result<(), String> {
    let open = |path: &std::path::Path| {
        File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))
    };
    let (kernel, initrd) = (open(&next.kernel)?, open(&next.initrd)?);
    let line = CommandLine::new(&next.command_line).map_err(|error| chain(&error))?;
    kexec::load(&kernel, Some(initrd.as_fd()), &line).map_err(|error| chain(&error))
}

/// Jumps, with one request more refused each time until it does. The sessions have to be open for that.
pub(super) fn jump(held: Vec<OutgoingSession>) -> Result<(), String> {
    rustix::fs::sync();
    say("jumps");
    let jump = || {
        kexec::jump().map(drop).map_err(|error| {
            // Counted here: nobody is left to count when it went through.
            saw(1, "faults in reboot(KEXEC): refused");
            chain(&error)
        })
    };
    let outcome = faults::sweep("reboot(KEXEC)", jump, |_| Ok(()));
    drop(held);
    outcome
}
