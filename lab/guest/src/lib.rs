//! What the lab and a guest's first process say to each other.
//!
//! ```text
//!  lab ── Request, one JSON line each ──► virtio-serial port [`PORT`] ──► liveupdate-lab-init
//!      ◄── Message, one JSON line each ──
//! ```
//! The guest says [`Message::Hello`] whenever a kernel has come up: at boot, and again after each jump. What
//! was asked before and not answered never will be.

pub mod probe;
pub mod trial;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The virtio-serial port's name.
pub const PORT: &str = "dev.liveupdate.lab";
/// The first line of the first process on the console begins so.
pub const UP: &str = "lab-init: up on ";
/// What a guest says on the console right before it jumps without any of the product.
pub const BARE: &str = "lab-init: jumps by itself";
/// An initrd with this file comes up to its first process, and never further.
pub const HANGS: &str = "/lab/hangs";
/// Kernel modules that the first process loads, in order, on the command line: `PATH[:PARAMETER]`, separated by commas;
/// `{release}` in a path stands for the running kernel's.
pub const MODULES_PARAMETER: &str = "liveupdate_lab.modules";
/// PCI devices that the first process gives to drivers once modules are loaded, on the command line: `ADDRESS@DRIVER`,
/// separated by commas.
pub const BIND_PARAMETER: &str = "liveupdate_lab.bind";
/// A network card and its address, which the first process gives it, on the command line: `eth0=10.0.2.15/24`. For kernels
/// that have no card yet when they would do so by `ip=`.
pub const NETWORK_PARAMETER: &str = "liveupdate_lab.network";
/// The ext4 disk that the first process mounts at [`DATA`], on the command line.
pub const DATA_PARAMETER: &str = "liveupdate_lab.data";
/// What is here outlives a jump.
pub const DATA: &str = "/var/lib";
/// The services that every kernel of the guest starts, a JSON list of [`Service`]; written by [`Action::Serve`].
pub const SERVICES: &str = "/var/lib/lab/services.json";
/// Every service runs in the control group `<this>/<name>.service`, as systemd has it.
pub const SLICE: &str = "/sys/fs/cgroup/system.slice";

/// What a bystander writes down, each with the boot id.
pub mod bystander {
    /// It runs.
    pub const UP: &str = "up";
    /// It is asked to end.
    pub const ASKED: &str = "asked";
    /// It has done what its grace is for.
    pub const ENDED: &str = "ended";
}

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
    /// Tell what runs, read at this moment: what a kubelet reads of its machine.
    Kernel,
    /// Write a file, with its folders, so that it outlives a power cut.
    Write {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What.
        contents: String,
    },
    /// Write the services down for the kernels to come, and start those that do not run yet.
    Serve {
        /// All of them, in the order of starting.
        services: Vec<Service>,
    },
    /// Do something to a service.
    Order {
        /// Its name.
        service: String,
        /// What.
        order: Order,
    },
    /// Sync and turn the machine off. There is no answer.
    PowerOff,
}

/// A program that every kernel of the guest starts, and starts again when it fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Another that comes first with every kernel: this one waits until it is ready or has ended, as with `After=`.
    pub after: Option<String>,
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Variables on top of the first process's.
    pub env: BTreeMap<String, String>,
    /// How willingly the kernel ends it when memory is short, −1000 to 1000.
    pub oom_score: i16,
    /// Bytes that its control group may have, as `memory.max` takes them; none: nobody accounts for memory.
    pub memory_max: Option<String>,
    /// Standard input of its first start. It is written down nowhere: a secret of the lab's.
    pub input: String,
}

impl Service {
    /// A program without arguments that is like all others.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>) -> Service {
        let (after, args, env) = Default::default();
        let (oom_score, memory_max, input) = Default::default();
        Service { name: name.into(), after, program: program.into(), args, env, oom_score, memory_max, input }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Service {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}

/// What can be done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Kill it (SIGKILL); it is started again at once, as after a crash.
    Kill,
    /// As [`Order::Kill`]; and the files that it had stored are lost, as with a service manager that keeps none.
    Forget,
    /// Kill it, and start it no more until [`Order::Start`].
    Stop,
    /// Start it, unless it runs.
    Start,
    /// Stop it in its tracks (SIGSTOP).
    Freeze,
    /// Let it go on (SIGCONT).
    Thaw,
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
    /// The answer to [`Action::Kernel`].
    Kernel {
        /// The request's.
        id: u64,
        /// As `uname -r` has it.
        release: String,
        /// As `/proc/sys/kernel/random/boot_id` has it.
        boot_id: String,
    },
    /// What was asked is done: [`Action::Write`], [`Action::Serve`], [`Action::Order`].
    Done {
        /// The request's.
        id: u64,
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
