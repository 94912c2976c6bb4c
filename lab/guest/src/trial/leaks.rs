//! Memory that nobody points to any more, by the kernel's own search.

use std::fs;
use std::time::Duration;

use super::{saw, say};

const DETECTOR: &str = "/sys/kernel/debug/kmemleak";
/// Each finding begins so.
const FINDING: &str = "unreferenced object";
/// Frames of the driver have its module's name.
const OURS: &str = "vfio_pci_liveupdate";
/// And those of one that was unloaded meanwhile have no name at all: where modules are, addresses begin so.
const NAMELESS: &str = " 0xffffffff";
/// What is younger than five seconds is not looked at.
const PAUSE: Duration = Duration::from_secs(7);
const SCANS: u32 = 2;

/// Searches, and fails on what the driver lost.
pub(super) fn run() -> Result<(), String> {
    let failed = |error: std::io::Error| {
        format!("cannot use {DETECTOR}, which switches itself off when it lacks memory: {error}")
    };
    for _ in 0..SCANS {
        std::thread::sleep(PAUSE);
        fs::write(DETECTOR, "scan").map_err(failed)?;
    }
    let text = fs::read_to_string(DETECTOR).map_err(failed)?;
    let (ours, others) = findings(&text);
    if !others.is_empty() {
        say(&format!("{} objects were lost by others", others.len()));
    }
    if ours.is_empty() {
        saw(SCANS, "searches for lost memory");
        return Ok(());
    }
    Err(format!("the driver lost {} objects:\n{}", ours.len(), ours.join("\n")))
}

/// Findings with the driver in their backtrace, and without.
fn findings(text: &str) -> (Vec<String>, Vec<String>) {
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with(FINDING) {
            all.push(String::new());
        }
        if let Some(last) = all.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    all.into_iter().partition(|finding| finding.contains(OURS) || finding.contains(NAMELESS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_lost_is_told_from_what_others_did() {
        let text = "unreferenced object 0xffff888003a5c000 (size 64):\n  comm \"init\", pid 70, jiffies 4294890000\n  \
                    backtrace (crc 1):\n    __kmalloc_noprof+0x10/0x20\n    lu_preserve+0x1b0/0x400 [vfio_pci_liveupdate]\n\
                    unreferenced object 0xffff888003a5d000 (size 64):\n  backtrace (crc 2):\n    kobject_set_name_vargs+0x10/0x20\n\
                    unreferenced object 0xffff888003a5e000 (size 64):\n  backtrace (crc 3):\n    0xffffffffa00021b0\n";
        let (ours, others) = findings(text);
        assert_eq!((ours.len(), others.len()), (2, 1));
        assert!(ours[0].contains("lu_preserve") && others[0].contains("kobject"));
        assert_eq!(findings(""), (Vec::new(), Vec::new()));
    }
}
