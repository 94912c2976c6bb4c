//! What the kernel has counted of a process.

use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Result};

/// Clock ticks per second in `/proc/PID/stat`: 100 on every Linux for user space.
const TICKS: u64 = 100;

/// CPU time of a process so far, user and system.
///
/// # Errors
/// When the process is gone.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    // The second field is the program's name in parentheses and may hold blanks.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Ok(Duration::from_millis((ticks(11) + ticks(12)) * 1000 / TICKS))
}

/// The most memory that a process has had resident, in KiB.
///
/// # Errors
/// When the process is gone.
pub(super) fn peak_resident_kib(pid: u32) -> Result<u64> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_some_time() {
        let pid = std::process::id();
        assert!(peak_resident_kib(pid).unwrap() > 1000);
        let before = cpu(pid).unwrap();
        let mut sum = 0u64;
        while cpu(pid).unwrap() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu(pid).unwrap() > before);
    }
}
