//! `liveupdate-init`: what `rdinit=` names in the kernel that a node is updated to. A static program in an archive
//! behind the initrd ([`liveupdate_host::bundle::shim`] says what is in it).
//!
//! ```text
//!  kernel ─► liveupdate-init ─► stamp ─► drivers ─► keeper, if there is one ─► the real init, in its place
//!                                                                                (liveupdate.init=, else /init)
//! ```
//! Drivers come first: `/dev/liveupdate` takes over what came through the jump when it is first opened, and what
//! has no driver by then is lost. Nothing that goes wrong here keeps the machine from coming up: it is told in the
//! kernel's log, and the next thing is done. Only without a real init there is no way on; then the kernel panics,
//! and its `panic=` brings the machine back to its default entry.

mod keeper;
mod log;
mod modules;

use std::convert::Infallible;
use std::ffi::CStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use liveupdate_host::bundle::shim;
use liveupdate_host::linux::ticks;
use rustix::mount::{MountFlags, UnmountFlags};

use log::Log;

fn main() -> ExitCode {
    // Before anything else: the first instruction of the next kernel's userspace that is ours.
    let ticks = ticks::now();
    if std::process::id() != 1 {
        eprintln!(
            "liveupdate-init is the first program of a kernel (rdinit={}), and does nothing else",
            shim::INIT
        );
        return ExitCode::from(2);
    }
    let log = Log::open();
    match ticks {
        Some(ticks) => log.say(&format!("first instruction at counter {ticks}")),
        None => log.say("first instruction; this machine has no counter"),
    }
    let line = command_line().unwrap_or_else(|error| {
        log.say(&format!("the command line cannot be read: {error}"));
        String::new()
    });
    modules::load(&log, &line);
    keeper::start(&log);
    let Err(error) = real_init(&line);
    log.say(&format!("{error}; there is no way on"));
    ExitCode::FAILURE
}

/// Becomes the real init, with the arguments and variables that the kernel gave.
fn real_init(command_line: &str) -> Result<Infallible, String> {
    let init = shim::real_init(command_line);
    let error = Command::new(&init).arg0(&init).args(std::env::args_os().skip(1)).exec();
    Err(format!("cannot run {init}: {error}"))
}

/// Reads it from a `/proc` of a moment: the real init finds its mount points empty, as without us.
fn command_line() -> Result<String, std::io::Error> {
    rustix::mount::mount("proc", shim::PROC, "proc", MountFlags::empty(), None::<&CStr>)?;
    let line = fs::read_to_string(format!("{}/cmdline", shim::PROC));
    rustix::mount::unmount(shim::PROC, UnmountFlags::DETACH)?;
    line
}
