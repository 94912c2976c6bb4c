//! What the lab and a guest's first process say to each other.
//!
//! ```text
//!  lab ── Request, one JSON line each ──► virtio-serial port [`PORT`] ──► liveupdate-lab-init
//!      ◄── Message, one JSON line each ──
//! ```
//! The guest says [`Message::Hello`] whenever a kernel has come up: at boot, and again after each jump. What
//! was asked before and not answered never will be.

pub mod probe;

use serde::{Deserialize, Serialize};

/// The virtio-serial port's name.
pub const PORT: &str = "dev.liveupdate.lab";
/// The first line of the first process on the console begins so.
pub const UP: &str = "lab-init: up on ";
/// Kernel modules that the first process loads, in order: paths separated by commas, on the command line.
pub const MODULES_PARAMETER: &str = "liveupdate_lab.modules";

/// What the lab wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the lab, given back with the answer.
    pub id: u64,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Run a program to its end and tell its output.
    Run {
        /// Its path, or a name to be found on `PATH`.
        program: String,
        /// Its arguments.
        args: Vec<String>,
    },
    /// Start a program that stays. Its output goes to the console.
    Start {
        /// Its path, or a name to be found on `PATH`.
        program: String,
        /// Its arguments.
        args: Vec<String>,
    },
    /// Sync and turn the machine off. There is no answer.
    PowerOff,
}

/// What the guest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Message {
    /// A kernel came up.
    Hello {
        /// As `uname -r` has it.
        release: String,
        /// As `/proc/sys/kernel/random/boot_id` has it.
        boot_id: String,
    },
    /// The end of [`Action::Run`].
    Ended {
        /// The request's.
        id: u64,
        /// How.
        outcome: Outcome,
    },
    /// [`Action::Start`] did.
    Started {
        /// The request's.
        id: u64,
        /// The program's process id.
        pid: u32,
    },
    /// The program could not be run at all.
    Failed {
        /// The request's; 0 when the request could not be read.
        id: u64,
        /// Why.
        reason: String,
    },
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}
