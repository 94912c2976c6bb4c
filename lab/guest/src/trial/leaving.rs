//! Devices that are taken from the driver while somebody has them, and a neighbour that is closed.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use liveupdate_host::linux::kexec;
use liveupdate_host::linux::luo::IncomingSession;
use liveupdate_host::linux::vfio::Device;
use liveupdate_proto::causes::chain;
use rustix::io::Errno;

use super::machine::{self, BUS_MASTER, DRIVER};
use super::sessions::{Home, refused};
use super::{calls, saw};

/// For what another thread does.
const PATIENCE: Duration = Duration::from_secs(20);
/// From what sysfs shows of it until the driver knows.
const SOON: Duration = Duration::from_millis(500);
/// PCI_COMMAND, and its bit Memory Space.
const COMMAND: u8 = 4;
const MEMORY: u16 = 2;

/// Begins to take a device from its driver, which waits until its last file is closed.
fn begin(address: &str) -> Result<JoinHandle<Result<(), String>>, String> {
    let unbinding = {
        let address = address.to_owned();
        thread::spawn(move || machine::unbind(&address))
    };
    let began = Instant::now();
    // What the driver says of it goes first.
    while machine::all(address).is_ok() {
        if began.elapsed() > PATIENCE {
            return Err(format!("unbinding {address} does not begin"));
        }
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(SOON);
    if unbinding.is_finished() {
        return Err(format!("{address} was unbound while it was open"));
    }
    Ok(unbinding)
}

fn end(address: &str, unbinding: JoinHandle<Result<(), String>>) -> Result<(), String> {
    unbinding.join().map_err(|_| "the thread that unbinds has panicked".to_owned())??;
    machine::bind(address, DRIVER)?;
    machine::is(address, "idle")
}

/// A device that nobody hands over is being unbound: the shutdown would wait for it for ever.
pub(super) fn keeps_from_jumping(home: &Home, address: &str, preserved: &[Device]) -> Result<(), String> {
    let device = home.open(address)?;
    let unbinding = begin(address)?;
    refused("the jump while a device is being unbound", kexec::jump(), Errno::BUSY)?;
    preserved.iter().try_for_each(|device| machine::is(device.address(), "preserved"))?;
    drop(device);
    end(address, unbinding)?;
    saw(1, "jumps refused while a device was being unbound");
    Ok(())
}

/// Unbound while its holder is back at it, and let go by that: it is stopped, and nobody starts it again.
pub(super) fn in_use(
    home: &Home,
    address: &str,
    session: &IncomingSession,
    device: Device,
) -> Result<(), String> {
    device.bind(&home.iommufd).map_err(|error| chain(&error))?;
    device.attach(&home.space).map_err(|error| chain(&error))?;
    machine::is(address, "attached")?;
    let unbinding = begin(address)?;
    calls::detach(&device)?;
    let started = device.write_config16(COMMAND, MEMORY | BUS_MASTER);
    refused("starting a device that was given up", started, Errno::BUSY)?;
    if machine::command(address)? & BUS_MASTER != 0 {
        return Err(format!("{address} masters the bus, given up by its holder"));
    }
    session.finish().map_err(|error| chain(&error))?;
    drop(device);
    end(address, unbinding)?;
    saw(1, "devices given up while they were in use");
    Ok(())
}

/// The last that is open of those that can only be reset together is closed, while another waits for its holder.
pub(super) fn beside(home: &Home, waits: &str, neighbour: &str) -> Result<(), String> {
    machine::is(waits, "incoming")?;
    machine::take(neighbour)?;
    let device = home.open(neighbour)?;
    refused("a hot reset beside a device that waits", calls::hot_reset(&device)?, Errno::BUSY)?;
    drop(device);
    machine::is(waits, "incoming")?;
    match machine::resets(waits)? {
        0 => saw(1, "devices that waited while a neighbour was closed"),
        resets => return Err(format!("{waits} was reset {resets} times when {neighbour} was closed")),
    }
    Ok(())
}
