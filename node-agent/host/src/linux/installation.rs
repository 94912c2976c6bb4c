//! Where the keeper lies on a machine that `liveupdate-agent install-keeper` has put it on, and how it is taken away
//! again. The installer writes these files, the keeper removes them: it is on the host already, with all rights that
//! it takes, and knows best whether it is idle. The agent needs none of that.

use std::fs;
use std::io;

use super::machine::Calls;
use super::root::Root;
use crate::HostError;

/// The unit's name.
pub const UNIT: &str = "liveupdate-keeper.service";
/// The unit's file, the machine's administrator's place.
pub const UNIT_FILE: &str = "/etc/systemd/system/liveupdate-keeper.service";
/// Where packages of a distribution, and what is gone with the boot, have units.
pub const OTHER_UNIT_FILES: [&str; 3] = [
    "/run/systemd/system/liveupdate-keeper.service",
    "/usr/lib/systemd/system/liveupdate-keeper.service",
    "/lib/systemd/system/liveupdate-keeper.service",
];
/// The program. On the disk that has the records, which is there before the keeper starts; `/usr` may be read-only.
pub const PROGRAM_FILE: &str = "/var/lib/liveupdate/bin/liveupdate-keeper";
/// First line of a unit that the installer wrote. Another one is somebody else's, and left alone.
pub const MARK: &str =
    "# Written by liveupdate-agent install-keeper, which also writes it anew: a change is lost.";
/// The folder is there when systemd is process 1.
pub const SYSTEMD: &str = "/run/systemd/system";

/// Whether the unit is the installer's.
///
/// # Errors
/// It is not, or cannot be read.
pub(super) fn is_ours(root: &Root) -> Result<(), HostError> {
    let text = match root.text(UNIT_FILE) {
        Ok(text) => text,
        Err(error) if error.is_absent() => {
            let why = format!("{UNIT_FILE} is not there: the keeper came in another way; remove it that way");
            return Err(HostError::WrongMoment { operation: "uninstall", why });
        }
        Err(error) => return Err(failed("read the keeper's unit", &error)),
    };
    if text.lines().next() != Some(MARK) {
        let why = format!("{UNIT_FILE} was not written by install-keeper; remove it as it came");
        return Err(HostError::WrongMoment { operation: "uninstall", why });
    }
    Ok(())
}

/// Takes unit and program away. The process itself goes on until it ends by itself: nothing starts it again then.
/// May be called again after an error.
///
/// # Errors
/// The unit is not the installer's, or the machine refuses.
pub(super) fn remove(root: &Root, calls: &dyn Calls) -> Result<(), HostError> {
    is_ours(root)?;
    systemctl(calls, &["disable", "--", UNIT])?;
    // The unit last: while it is there, the rest can be tried again.
    for path in [PROGRAM_FILE, UNIT_FILE] {
        match fs::remove_file(root.path(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&format!("remove {path}"), &error));
            }
            _ => {}
        }
    }
    systemctl(calls, &["daemon-reload"])
}

fn systemctl(calls: &dyn Calls, arguments: &[&str]) -> Result<(), HostError> {
    let what = format!("systemctl {}", arguments.join(" "));
    let said = calls.systemctl(arguments).map_err(|error| failed(&what, &error))?;
    if said.well { Ok(()) } else { Err(failed(&what, &said.complaint)) }
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> HostError {
    HostError::Io { what: what.to_owned(), why: why.to_string() }
}
