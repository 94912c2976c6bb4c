//! A driver with a known defect: the watchers have to see it.

use super::machine;
use super::sessions::{self, Home};
use super::{Trial, before, faults, say};

/// Loads it, and goes where the defect is: preserving a device and giving it up.
pub(super) fn run(trial: &Trial, name: &str) -> Result<(), String> {
    faults::prepare()?;
    let first = trial.devices.first().ok_or("no devices")?;
    // Of another defect before this one.
    let _ = machine::unload();
    machine::loaded(&trial.module, &format!("enable=1 defect={name}"))?;
    machine::take(first)?;
    let device = Home::new()?.open(first)?;
    before::preserves(&sessions::orchestrator()?, &device)?;
    say(&format!("went where defect {name} is"));
    Ok(())
}
