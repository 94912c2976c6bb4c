//! The jump that everything else is compared with: an image is loaded, and jumped into. Nothing of the product
//! has a part in it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;

use liveupdate_host::linux::kexec::{self, CommandLine};
use liveupdate_lab_guest::BARE;
use liveupdate_proto::causes::chain;

use crate::boot::stamp;

/// What becomes of files that were written and not synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// They are synced: the disk is used by the next kernel, too.
    Synced,
    /// Nobody sees to them: what the product's own sync is there for can be seen.
    Left,
}

/// Loads a kernel, says so on the console, and jumps. All that takes its time comes before it says so, as with
/// `kexec -l` and a later `kexec -e`.
pub(crate) fn jump(kernel: &str, initrd: &str, command_line: &str, written: Written) -> Result<(), String> {
    let open = |path: &str| File::open(path).map_err(|error| format!("cannot open {path}: {error}"));
    let (kernel, initrd) = (open(kernel)?, open(initrd)?);
    let line = CommandLine::new(command_line).map_err(|error| chain(&error))?;
    kexec::load(&kernel, Some(initrd.as_fd()), &line).map_err(|error| chain(&error))?;
    if written == Written::Synced {
        rustix::fs::sync();
    }
    let mut console = OpenOptions::new()
        .write(true)
        .open("/dev/console")
        .map_err(|error| format!("cannot open the console: {error}"))?;
    writeln!(console, "{BARE} {}", stamp())
        .map_err(|error| format!("cannot write to the console: {error}"))?;
    match kexec::jump().map_err(|error| chain(&error))? {}
}
