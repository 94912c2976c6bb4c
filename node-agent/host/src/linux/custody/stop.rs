//! Devices that nobody comes for any more: taken from their driver, which stops and resets them.
//!
//! The driver frees no memory that a device may write to: a session with such a device ends only after that.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use liveupdate_node_core::evidence::Phase;
use liveupdate_proto::causes::chain;

use super::index::Entry;
use super::log::report;
use super::sessions;
use crate::linux::driver;
use crate::linux::root::Root;

/// For all devices of a session to be stopped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const TICK: Duration = Duration::from_millis(20);

/// Ends a holder's session, with whatever of it still runs; what went wrong is told.
pub(super) fn end(root: &Root, holder: &str, session: &dyn sessions::Arrived, entry: Option<&Entry>) {
    let addresses: Vec<&str> = entry.into_iter().flat_map(Entry::devices).collect();
    for address in &addresses {
        if matches!(driver::told(root, address).evidence.state, Some(Phase::Incoming | Phase::Retrieved)) {
            take_from_its_driver(root, address);
        }
    }
    let began = Instant::now();
    while let Err(error) = session.finish() {
        if addresses.is_empty() || began.elapsed() > PATIENCE {
            // What it holds stays taken until the next reboot, if the kernel does not end it then.
            report(&format!("the session of {holder} ends by being closed: {}", chain(&error)));
            return;
        }
        thread::sleep(TICK);
    }
}

/// In a thread of its own: the kernel waits there until the device's file is closed, which the session may have.
fn take_from_its_driver(root: &Root, address: &str) {
    let path = root.path(&format!("/sys/bus/pci/devices/{address}/driver/unbind"));
    let named = address.to_owned();
    let unbind = move || {
        if let Err(error) = fs::write(&path, &named) {
            report(&format!("{named} cannot be taken from its driver: {error}"));
        }
    };
    if let Err(error) = thread::Builder::new().name("unbind".into()).spawn(unbind) {
        report(&format!("{address} cannot be taken from its driver: {error}"));
    }
}
