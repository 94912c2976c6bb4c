//! The CPU's counter: whether it goes on evenly, over frequencies, sleep and a kexec.

use super::root::{ReadError, Root};

/// Where the kernel tells which clock it uses.
pub const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// Which it could use.
pub const AVAILABLE: &str = "/sys/devices/system/clocksource/clocksource0/available_clocksource";
/// Flags of each CPU.
pub const CPUS: &str = "/proc/cpuinfo";

/// What is known of the counter.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Flags that every CPU has.
    pub flags: Result<Vec<String>, ReadError>,
    /// The clock that the kernel uses.
    pub current: Result<String, ReadError>,
    /// Clocks that it could use.
    pub available: Result<Vec<String>, ReadError>,
}

impl Clock {
    /// Reads it.
    pub fn read(root: &Root) -> Self {
        Self {
            flags: root.text(CPUS).and_then(|text| common_flags(&text)),
            current: root.line(CURRENT),
            available: root.line(AVAILABLE).map(|line| line.split_whitespace().map(str::to_owned).collect()),
        }
    }
}

fn common_flags(text: &str) -> Result<Vec<String>, ReadError> {
    let mut common: Option<Vec<String>> = None;
    for line in text.lines().filter(|line| line.starts_with("flags")) {
        let flags: Vec<String> = line
            .split_once(':')
            .map_or("", |(_, flags)| flags)
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        common = Some(match common {
            None => flags,
            Some(known) => known.into_iter().filter(|flag| flags.contains(flag)).collect(),
        });
    }
    common.ok_or_else(|| ReadError::malformed(CPUS, text, "a list of CPUs with flags"))
}
