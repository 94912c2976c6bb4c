use liveupdate_node_core::gate::{Gate, GateId};

use super::Findings;
use crate::linux::clock::{AVAILABLE, CPUS, CURRENT, Clock};

const NEEDED: [&str; 2] = ["constant_tsc", "nonstop_tsc"];

/// The counter runs evenly on every CPU, and the kernel has not given it up. Without it the blackout is
/// unmeasured, and nothing else.
pub fn clock_source(clock: &Clock) -> Gate {
    let mut found = Findings::of(GateId::ClockSource, "");
    match &clock.flags {
        Ok(flags) => {
            let has = |wanted: &&str| flags.iter().any(|flag| flag == *wanted);
            let missing: Vec<&str> = NEEDED.iter().copied().filter(|flag| !has(flag)).collect();
            if missing.is_empty() {
                found.good(format!("{CPUS}: {} on every CPU", NEEDED.join(" ")));
            } else {
                found.bad(
                    format!("{CPUS}: no {} on every CPU", missing.join(", no ")),
                    "none: the blackout stays unmeasured on this CPU; a guest has to be given an invariant counter",
                );
            }
        }
        Err(error) => found.unknown(error.to_string(), "mount /proc"),
    }
    // A counter that jumped once is dropped from the list for good.
    match &clock.available {
        Ok(available) if available.iter().any(|name| name == "tsc") => {
            let current = clock.current.as_deref().unwrap_or("unknown");
            found.good(format!("{AVAILABLE}: has tsc; {CURRENT}: {current}"));
        }
        Ok(available) => found.bad(
            format!(
                "{AVAILABLE}: {}, without tsc: the kernel does not trust the counter",
                available.join(" ")
            ),
            "look for \"Marking TSC unstable\" in the kernel log",
        ),
        Err(error) => found.unknown(error.to_string(), "mount /sys"),
    }
    found.gate()
}
