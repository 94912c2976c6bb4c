//! The driver on trial: each of its ways and wrong ways, with each memory request on them refused once.
//! `liveupdate-lab-init trial JSON` does one step. What it did it says in the kernel's log, where that stands among what
//! the watchers say ([`SAYS`]).
//!
//! ```text
//!  Before: load, bind, open, preserve, unpreserve, freeze, thaw ── jump ──► After: retrieve, bind, finish, give up
//!  ── jump ──► Off: nothing is taken where the opt-in is off ──► Leaks: what nobody points to any more
//! ```

mod after;
mod before;
mod calls;
mod defect;
mod faults;
mod frozen;
mod leaks;
mod leaving;
mod machine;
mod off;
mod pool;
mod refusals;
mod sessions;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Lines of the kernel's log that are ours have this in them.
pub const SAYS: &str = "trial: ";
/// And those that count: so much was tried of a thing, and was as it should be.
pub const SAW: &str = "trial: saw ";

/// A step, and what it is done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trial {
    /// What to do.
    pub step: Step,
    /// The driver's module.
    pub module: PathBuf,
    /// PCI addresses of the devices, all alike; at least [`LEAST`].
    pub devices: Vec<String>,
    /// One with more bridges above it than can be handed over.
    pub deep: Option<String>,
    /// One of conventional PCI: no MSI-X, no power management, none of what PCI Express adds.
    pub plain: Option<String>,
    /// Another in the same slot, which is not handed over: neither can be reset without the other.
    pub beside: Option<String>,
}

impl Trial {
    /// All devices of the driver.
    fn all(&self) -> impl Iterator<Item = &String> {
        self.devices.iter().chain(&self.deep).chain(&self.plain).chain(&self.beside)
    }
}

/// A program that the trial needs for what it cannot call by itself (`lab/driver/calls.c`).
pub const CALLS: &str = "/bin/calls";

/// Devices that a trial needs: one for each wrong way in the next kernel, and some for the right one.
pub const LEAST: usize = 8;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// In the first kernel, up to the jump; it does not return when all is well.
    Before(Next),
    /// In the next one.
    After,
    /// Then: hands one device over once more, into a kernel that is not to take it.
    Again(Next),
    /// In that one.
    Off,
    /// Whether memory was lost, of what ran since the kernel came up.
    Leaks,
    /// Loads the module with this defect (`lab/driver/defects.patch`) and goes where it is.
    Defect(String),
    /// Loads it with one that keeps devices from being frozen, and tries to jump.
    NoFreeze(String, Next),
}

/// What is jumped into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// A bzImage.
    pub kernel: PathBuf,
    /// Its initrd.
    pub initrd: PathBuf,
    /// Its command line.
    pub command_line: String,
}

/// Does a step.
///
/// # Errors
/// Says what was not as it should be.
pub fn run(trial: &Trial) -> Result<(), String> {
    if trial.devices.len() < LEAST {
        return Err(format!("{} devices are too few, {LEAST} are needed", trial.devices.len()));
    }
    match &trial.step {
        Step::Before(next) => before::run(trial, next),
        Step::After => after::run(trial),
        Step::Again(next) => off::again(trial, next),
        Step::Off => off::run(trial),
        Step::Leaks => leaks::run(),
        Step::Defect(name) => defect::run(trial, name),
        Step::NoFreeze(name, next) => defect::no_freeze(trial, name, next),
    }
}

/// Gives one device to a session, past all gates, and lets both go.
///
/// # Errors
/// Says what was refused, and with which error.
pub fn preserve(address: &str) -> Result<(), String> {
    let home = sessions::Home::new()?;
    let device = home.open(address)?;
    sessions::preserve(&sessions::orchestrator()?, &device).map(drop)
}

/// Says a line in the kernel's log. Where that cannot be written, nobody hears why either.
fn say(text: &str) {
    let log = OpenOptions::new().write(true).open("/dev/kmsg");
    let _ = log.and_then(|mut log| log.write_all(format!("{SAYS}{text}\n").as_bytes()));
}

/// Says that something was tried so many times and was as it should be.
fn saw(count: u32, what: &str) {
    say(&format!("saw {count} {what}"));
}
