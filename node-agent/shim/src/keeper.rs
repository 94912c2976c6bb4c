//! Starting the keeper before the real init, where the bundle has one.

use std::ffi::CStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use liveupdate_host::bundle::shim;
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::log::Log;

/// What the keeper needs, and where. Real inits find them mounted and leave them so.
const MOUNTS: [(&str, &str); 4] =
    [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys"), ("tmpfs", "/run")];

pub(crate) fn start(log: &Log) {
    if !Path::new(shim::KEEPER).exists() {
        return;
    }
    for (kind, place) in MOUNTS {
        if let Err(error) = mount(kind, place) {
            log.say(&format!("cannot mount {kind} on {place}: {error}"));
        }
    }
    let arguments = fs::read_to_string(shim::KEEPER_ARGUMENTS).unwrap_or_default();
    let output = || log.file().map_or_else(Stdio::null, Stdio::from);
    let started = Command::new(shim::KEEPER)
        // systemd spares what begins so when it leaves the initrd.
        .arg0("@liveupdate-keeper")
        .args(arguments.lines())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output())
        .stderr(output())
        .spawn();
    match started {
        // It stays our child, and the real init's, which has our place then.
        Ok(child) => log.say(&format!("started the keeper, process {}", child.id())),
        Err(error) => log.say(&format!("cannot start the keeper: {error}; the real init has to")),
    }
}

fn mount(kind: &str, place: &str) -> Result<(), std::io::Error> {
    fs::create_dir_all(place)?;
    match rustix::mount::mount(kind, place, kind, MountFlags::empty(), None::<&CStr>) {
        // The kernel mounted it itself.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
