//! The witness: what QEMU saw of the devices, whatever the guest says of them.
//!
//! ```text
//!  QEMU ── trace with this machine's stamps ──► <guest>.trace ──► [`Event`]s ──► [`Sight`] of one device
//! ```
//! An outcome that it contradicts fails the test. That commands were completed late proves nothing: QEMU keeps
//! what it could not write and writes it when it can.

mod sight;
mod trace;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{Error, Result};

pub use sight::{Sight, Watched, Work};
pub use trace::{Event, What, parse};

/// The trace of one guest.
#[derive(Clone, Debug)]
pub struct Witness {
    path: PathBuf,
}

impl Witness {
    /// Of a guest of that name whose files are in this folder.
    pub fn of(folder: &Path, guest: &str) -> Witness {
        Witness { path: folder.join(format!("{guest}.trace")) }
    }

    /// What QEMU has to be told; also of virtio devices, if one of them is passed through.
    pub fn arguments(&self, virtio: bool) -> Vec<OsString> {
        let mut args: Vec<OsString> =
            vec!["-D".into(), self.path.clone().into(), "-msg".into(), "timestamp=on".into()];
        let further = trace::VIRTIO_EVENTS.into_iter().filter(|_| virtio);
        for event in trace::EVENTS.into_iter().chain(further) {
            args.extend(["-trace".into(), event.into()]);
        }
        args
    }

    /// All that was seen so far.
    ///
    /// # Errors
    /// When the trace cannot be read.
    pub fn events(&self) -> Result<Vec<Event>> {
        let bytes = fs::read(&self.path).map_err(Error::file("read", &self.path))?;
        Ok(parse(&String::from_utf8_lossy(&bytes)))
    }

    /// What was seen of a device between two moments; see [`Sight::of`].
    ///
    /// # Errors
    /// As [`Witness::events`].
    pub fn sight(&self, device: Watched<'_>, from: SystemTime, to: SystemTime) -> Result<Sight> {
        Ok(Sight::of(&self.events()?, device, from, to))
    }
}
