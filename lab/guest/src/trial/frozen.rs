//! What a frozen device refuses: it stays so for a second when another's holder is in the middle of a call.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use liveupdate_host::linux::kexec;
use liveupdate_host::linux::vfio::Device;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::calls::Late;
use super::sessions::refused;
use super::{machine, saw};

/// For what another thread does.
const PATIENCE: Duration = Duration::from_secs(20);
/// PCI_COMMAND.
const COMMAND: u8 = 4;

/// A call of the last device's holder waits for its memory: the jump is refused, and meanwhile the others are frozen.
pub(super) fn while_a_call_is_late(devices: &[Device]) -> Result<(), String> {
    let [.., frozen, last] = devices else { return Err("too few devices".into()) };
    let late = Late::begin(last)?;
    thread::scope(|scope| {
        let watcher = scope.spawn(|| refuses(frozen));
        let jump = refused("the jump in the middle of a call", kexec::jump(), Errno::BUSY);
        let watched = watcher.join().map_err(|_| "the thread that watches has panicked".to_owned())?;
        jump.and(watched)
    })?;
    drop(late);
    devices.iter().try_for_each(|device| machine::is(device.address(), "preserved"))?;
    saw(1, "jumps refused in the middle of a call");
    saw(3, "calls refused on a frozen device");
    Ok(())
}

fn refuses(device: &Device) -> Result<(), String> {
    let event = eventfd(0, EventfdFlags::CLOEXEC).map_err(|errno| format!("no eventfd: {errno}"))?;
    let began = Instant::now();
    while machine::state(device.address())? != "frozen" {
        if began.elapsed() > PATIENCE {
            return Err(format!("{} was never frozen", device.address()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    refused("a reset of a frozen device", device.reset(), Errno::BUSY)?;
    refused("SET_IRQS on a frozen device", device.arm(&[event.as_fd()]), Errno::BUSY)?;
    refused("a write to a frozen device's COMMAND", device.write_config16(COMMAND, 0), Errno::BUSY)
}
