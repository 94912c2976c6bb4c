//! A kernel in which the opt-in is off: what was handed over is left where it is.

use liveupdate_proto::causes::chain;
use rustix::io::Errno;

use super::machine::{self, BUS_MASTER};
use super::sessions::{self, Home, TOKEN, refused};
use super::{Next, Trial, before, faults, saw};

/// Hands the first device over, and jumps.
pub(super) fn again(trial: &Trial, next: &Next) -> Result<(), String> {
    let first = trial.devices.first().ok_or("no devices")?;
    let device = Home::new()?.open(first)?;
    sessions::let_master(&device)?;
    let session = sessions::preserve(&sessions::orchestrator()?, &device)?;
    before::load(next)?;
    before::jump(vec![session])
}

/// Does not take it.
pub(super) fn run(trial: &Trial) -> Result<(), String> {
    faults::prepare()?;
    let first = trial.devices.first().ok_or("no devices")?;
    machine::loaded(&trial.module, "enable=0")?;
    let session = sessions::retrieve(&sessions::orchestrator()?, first)?;
    refused("RETRIEVE_FD, opt-in off", session.retrieve(TOKEN), Errno::PERM)?;
    refused("unloading before FINISH", machine::unload(), Errno::AGAIN)?;
    // With an IOMMU it was stopped before the jump.
    if machine::command(first)? & BUS_MASTER != 0 {
        refused("FINISH of a device that runs", session.finish(), Errno::BUSY)?;
        machine::stop(first)?;
    }
    session.finish().map_err(|error| chain(&error))?;
    drop(session);
    machine::unloaded()?;
    machine::loaded(&trial.module, "enable=1")?;
    machine::take(first)?;
    machine::is(first, "idle")?;
    saw(1, "devices refused with the opt-in off");
    Ok(())
}
