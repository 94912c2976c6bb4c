//! What the driver has to refuse, and with which word.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use liveupdate_host::linux::kexec;
use liveupdate_host::linux::luo::{IncomingSession, Orchestrator, Token};
use liveupdate_host::linux::vfio::Device;
use liveupdate_proto::causes::chain;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::calls;
use super::machine;
use super::sessions::{self, Home, TOKEN, refused};
use super::{Trial, saw};

/// Capabilities: power management and PCI Express.
const POWER: u8 = 0x01;
const EXPRESS: u8 = 0x10;
/// Power management's control register, and D3hot in it.
const POWER_CONTROL: u8 = 4;
const D3HOT: u16 = 3;
/// PCI Express's device control register, and the bit that resets the function.
const DEVICE_CONTROL: u8 = 8;
const RESET: u16 = 1 << 15;
/// Jumps that are refused while others use the devices.
const JUMPS: u32 = 10;

/// In the first kernel, before anything is preserved.
pub(super) fn of_preserve(
    trial: &Trial,
    home: &Home,
    orchestrator: &Orchestrator,
    device: &Device,
) -> Result<(), String> {
    let session = sessions::create(orchestrator, "others")?;
    let no_device = std::io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    refused("PRESERVE_FD of a pipe", session.preserve(TOKEN, &no_device.0), Errno::NOENT)?;
    let unused = trial.devices.get(1).ok_or("one device alone")?;
    let unbound = Device::open(unused).map_err(|error| chain(&error))?;
    refused("PRESERVE_FD, no iommufd", session.preserve(TOKEN, &unbound), Errno::NOENT)?;
    if let Some(deep) = &trial.deep {
        let deep = home.open(deep)?;
        refused("PRESERVE_FD below too many bridges", session.preserve(TOKEN, &deep), Errno::OPNOTSUPP)?;
    }
    let held = sessions::preserve(orchestrator, device)?;
    refused("PRESERVE_FD for the second time", session.preserve(TOKEN, device), Errno::BUSY)?;
    machine::is(device.address(), "preserved")?;
    drop(held);
    machine::is(device.address(), "idle")?;
    saw(3 + u32::from(trial.deep.is_some()), "files that PRESERVE_FD refuses");
    Ok(())
}

/// With all preserved and a kernel loaded. The last device is what refuses: those before it are thawed.
pub(super) fn of_freeze(devices: &[Device]) -> Result<(), String> {
    let last = devices.last().ok_or("no devices")?;
    let commands = || -> Result<Vec<u16>, String> {
        devices.iter().map(|device| machine::command(device.address())).collect()
    };
    let before = commands()?;
    let thawed = || {
        devices.iter().try_for_each(|device| machine::is(device.address(), "preserved"))?;
        let after = commands()?;
        if after == before {
            Ok(())
        } else {
            Err(format!("COMMAND was {before:x?}, thawed it is {after:x?}"))
        }
    };
    armed(last, || {
        refused("the jump with interrupts on", kexec::jump(), Errno::BUSY)?;
        thawed()
    })?;
    let power = capability(last, POWER)? + POWER_CONTROL;
    let awake = last.read_config16(power).map_err(|error| chain(&error))?;
    last.write_config16(power, awake | D3HOT).map_err(|error| chain(&error))?;
    refused("the jump with a device asleep", kexec::jump(), Errno::INVAL)?;
    last.write_config16(power, awake).map_err(|error| chain(&error))?;
    saw(2, "jumps refused by a device");

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                devices.iter().for_each(|device| use_it(device, awake, power));
            }
        });
        let outcome = armed(last, || {
            (0..JUMPS).try_for_each(|_| refused("the jump with interrupts on", kexec::jump(), Errno::BUSY))
        });
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    devices.iter().try_for_each(sessions::let_master)?;
    devices.iter().try_for_each(|device| machine::is(device.address(), "preserved"))?;
    saw(JUMPS, "jumps refused while devices were reset, written to and looked at");
    Ok(())
}

/// What frozen devices refuse and others do. The moment decides: neither is wrong here.
fn use_it(device: &Device, awake: u16, power: u8) {
    let _ = device.reset();
    let _ = device.write_config16(power, awake);
    let _ = machine::state(device.address());
}

/// Does something while its first interrupt is on.
pub(super) fn armed(device: &Device, during: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| format!("no eventfd: {errno}"))?;
    device.arm(&[event.as_fd()]).map_err(|error| chain(&error))?;
    let outcome = during();
    device.disarm().map_err(|error| chain(&error))?;
    outcome
}

/// In the next kernel, of a device that waits.
pub(super) fn of_incoming(address: &str, session: &IncomingSession) -> Result<(), String> {
    machine::is(address, "incoming")?;
    refused("a plain open of a device that waits", Device::open(address), Errno::BUSY)?;
    refused("FINISH before anybody asked", session.finish(), Errno::BUSY)?;
    refused("RETRIEVE_FD of nothing", session.retrieve(Token(TOKEN.0 + 1)), Errno::NOENT)?;
    saw(3, "calls refused on a device that waits");
    Ok(())
}

/// And of one that is in use again, but not finished.
pub(super) fn of_attached(orchestrator: &Orchestrator, device: &Device) -> Result<(), String> {
    machine::is(device.address(), "attached")?;
    if device.can_be_reset().map_err(|error| chain(&error))? {
        return Err("it offers a reset before it is finished".into());
    }
    refused("a reset before FINISH", device.reset(), Errno::BUSY)?;
    let control = capability(device, EXPRESS)? + DEVICE_CONTROL;
    let value = device.read_config16(control).map_err(|error| chain(&error))?;
    refused("a reset by register", device.write_config16(control, value | RESET), Errno::BUSY)?;
    let power = capability(device, POWER)? + POWER_CONTROL;
    refused("D3 before FINISH", device.write_config16(power, D3HOT), Errno::BUSY)?;
    refused("a hot reset before FINISH", calls::hot_reset(device)?, Errno::BUSY)?;
    refused("a plain open before FINISH", Device::open(device.address()), Errno::BUSY)?;
    let session = sessions::create(orchestrator, device.address())?;
    refused("PRESERVE_FD before FINISH", session.preserve(TOKEN, device), Errno::BUSY)?;
    armed(device, || Ok(()))?;
    machine::is(device.address(), "attached")?;
    saw(7, "calls refused on a device before FINISH");
    of_nowhere(device, control)
}

/// And of addresses at which nothing is: they change nothing.
fn of_nowhere(device: &Device, control: u8) -> Result<(), String> {
    let before = machine::all(device.address())?;
    calls::of_nowhere(device, control)?;
    let after = machine::all(device.address())?;
    if after != before {
        return Err(format!("calls with addresses of nothing made {after:?} of {before:?}"));
    }
    saw(4, "calls refused whose memory could not be read");
    Ok(())
}

/// Where a capability is.
fn capability(device: &Device, id: u8) -> Result<u8, String> {
    let found = device.capability(id).map_err(|error| chain(&error))?;
    found.ok_or_else(|| format!("{} has no capability {id:#x}", device.address()))
}
