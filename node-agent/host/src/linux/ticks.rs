//! The CPU's counter as it is read: what holders stamp their messages with.

// RDTSC has no safe form.
#![allow(unsafe_code, reason = "reading the CPU's counter")]

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
