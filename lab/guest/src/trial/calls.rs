//! What safe Rust cannot call, or the product has no use for: a program of its own does it (`lab/driver/calls.c`).

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use liveupdate_host::linux::vfio::Device;
use rustix::io::Errno;

use super::CALLS;

/// Whether a call was refused, and with which word.
type Outcome = Result<(), Errno>;

fn on(device: &Device, words: &[&str]) -> Result<Command, String> {
    let file = device.file().map_err(|error| format!("the device's file cannot be had twice: {error}"))?;
    let mut command = Command::new(CALLS);
    command.args(words).stdin(file);
    Ok(command)
}

fn ended(device: &Device, words: &[&str]) -> Result<Output, String> {
    on(device, words)?.output().map_err(|error| format!("cannot run {CALLS}: {error}"))
}

/// It exits with the call's errno.
fn outcome(device: &Device, word: &str) -> Result<Outcome, String> {
    let ended = ended(device, &[word])?;
    match ended.status.code() {
        Some(0) => Ok(Ok(())),
        Some(errno) if ended.stderr.is_empty() => Ok(Err(Errno::from_raw_os_error(errno))),
        _ => Err(format!("{CALLS} {word}: {}", String::from_utf8_lossy(&ended.stderr))),
    }
}

/// Calls with addresses at which nothing is: each has to be refused. `control` is where Device Control is.
pub(super) fn of_nowhere(device: &Device, control: u8) -> Result<(), String> {
    let ended = ended(device, &["nowhere", &control.to_string()])?;
    if ended.status.success() {
        Ok(())
    } else {
        Err(format!("{CALLS} nowhere: {}", String::from_utf8_lossy(&ended.stderr)))
    }
}

/// A reset of all that can only be reset together with a device.
pub(super) fn hot_reset(device: &Device) -> Result<Outcome, String> {
    outcome(device, "hot-reset")
}

/// Takes a device off its address space.
pub(super) fn detach(device: &Device) -> Result<(), String> {
    outcome(device, "detach")?.map_err(|errno| format!("{} cannot be detached: {errno}", device.address()))
}

/// A write to a device's configuration space that waits for its memory, until this ends.
pub(super) struct Late(Child);

impl Late {
    pub(super) fn begin(device: &Device) -> Result<Late, String> {
        let child = on(device, &["late"])?.stdout(Stdio::piped()).spawn();
        let mut late = Late(child.map_err(|error| format!("cannot run {CALLS}: {error}"))?);
        let mut said = String::new();
        if let Some(says) = late.0.stdout.take() {
            BufReader::new(says).read_line(&mut said).map_err(|error| format!("{CALLS} late: {error}"))?;
        }
        if said.trim_end() == "late" { Ok(late) } else { Err(format!("{CALLS} late said {said:?}")) }
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        // Gone by itself, it has been late for nothing: whoever began it sees that.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
