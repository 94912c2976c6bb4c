//! Ending processes with grace.

use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::super::calls::{Calls, Ending};
use super::table::{Process, is_alive};
use crate::HostError;
use crate::linux::root::Root;

/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_millis(20);
/// For the kernel to take down a process that was killed.
const KILLED: Duration = Duration::from_secs(10);

/// Ends processes: asks those for which `asked` holds, waits for all of them for `grace`, then ends what is
/// left by force. `go_on` is asked while it waits.
pub(super) fn end(
    calls: &dyn Calls,
    root: &Root,
    processes: &[Process],
    asked: impl Fn(&Process) -> bool,
    grace: Duration,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), HostError> {
    for process in processes.iter().filter(|process| asked(process)) {
        signal(calls, root, process, Ending::Asked)?;
    }
    if wait(root, processes, grace, go_on)?.is_empty() {
        return Ok(());
    }
    for process in processes {
        signal(calls, root, process, Ending::Forced)?;
    }
    match wait(root, processes, KILLED, go_on)?.first() {
        None => Ok(()),
        Some(process) => Err(HostError::Io {
            what: format!("end process {} ({})", process.pid, process.name),
            why: "it was killed and is still there; see what it waits for (/proc/PID/stack)".into(),
        }),
    }
}

fn signal(calls: &dyn Calls, root: &Root, process: &Process, how: Ending) -> Result<(), HostError> {
    if !is_alive(root, process) {
        return Ok(());
    }
    match calls.end(process.pid, how) {
        // It ended by itself.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(()),
        Err(error) => Err(HostError::Io {
            what: format!("end process {} ({})", process.pid, process.name),
            why: error.to_string(),
        }),
        Ok(()) => Ok(()),
    }
}

/// Those that are still there after the time; none as soon as there are none.
fn wait<'a>(
    root: &Root,
    processes: &'a [Process],
    limit: Duration,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Vec<&'a Process>, HostError> {
    let began = Instant::now();
    loop {
        let left: Vec<&Process> = processes.iter().filter(|process| is_alive(root, process)).collect();
        if left.is_empty() || began.elapsed() >= limit {
            return Ok(left);
        }
        if !go_on() {
            return Err(HostError::Cancelled);
        }
        std::thread::sleep(LOOK);
    }
}
