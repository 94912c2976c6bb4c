//! The CPU's counter as it is read: what holders stamp their messages with, and what measures a jump. Whether it goes on
//! evenly is for the gate `ClockSource` to say.

// RDTSC has no safe form.
#![allow(unsafe_code, reason = "reading the CPU's counter")]

use std::time::{Duration, Instant};

/// Ticks of the CPU's counter now; none on a CPU that has none that anybody may read.
#[cfg(target_arch = "x86_64")]
pub fn now() -> Option<u64> {
    // SAFETY: every x86_64 CPU has RDTSC, and Linux lets everybody use it unless a process asked it not to.
    Some(unsafe { std::arch::x86_64::_rdtsc() })
}

/// Ticks of the CPU's counter now; none on a CPU that has none that anybody may read.
#[cfg(not(target_arch = "x86_64"))]
pub fn now() -> Option<u64> {
    None
}

/// Ticks as nanoseconds at a frequency in kHz; saturates.
pub fn nanoseconds(ticks: u64, khz: u64) -> u64 {
    let nanos = u128::from(ticks) * 1_000_000 / u128::from(khz.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// The counter's frequency in kHz, measured over that time, which this waits for.
pub fn khz(over: Duration) -> Option<u64> {
    let (from, began) = (now()?, Instant::now());
    std::thread::sleep(over);
    let (to, took) = (now()?, began.elapsed());
    let khz = u128::from(to.checked_sub(from)?) * 1_000_000 / took.as_nanos().max(1);
    u64::try_from(khz).ok().filter(|khz| *khz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds_without_overflow() {
        assert_eq!(nanoseconds(3_000_000, 3_000_000), 1_000_000);
        assert_eq!(nanoseconds(u64::MAX, 1_000_000), u64::MAX);
        assert_eq!(nanoseconds(7, 0), 7_000_000);
    }
}
