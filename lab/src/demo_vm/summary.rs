//! What was seen, for a person; and whether that is all that was promised.

use std::fmt::Write;
use std::time::Duration;

use liveupdate_crds::node::DeviceStatus;

use crate::vm::phases::Phases;
use crate::vm::witness::Sight;
use crate::vm::{Boot, HoldReport};

/// What was seen of one device.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) address: String,
    /// The node's word.
    pub(super) found: Option<DeviceStatus>,
    /// The witness's, from Quiesce to Resumed.
    pub(super) sight: Option<Sight>,
}

/// What was seen of one guest.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) before: Boot,
    pub(super) after: Boot,
    /// What its holder's memory was made with.
    pub(super) seed: u64,
    /// What the holder said of its stop and return.
    pub(super) held: HoldReport,
    pub(super) phases: Phases,
    /// The node's own word for its blackout.
    pub(super) told: String,
    pub(super) devices: Vec<Device>,
}

/// The table, one guest each line, and the phases below.
pub(super) fn table(all: &[Seen]) -> String {
    let mut text = String::new();
    let mut line = |words: [&str; 7]| {
        let [name, before, after, stopped, resumed, blackout, told] = words;
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{name:<6} {before:<12} {after:<12} {stopped:>11} {resumed:>10} {blackout:>9}  {told}"
        );
    };
    line(["NODE", "RELEASE", "NOW", "STOPPED AT", "GOES ON", "BLACKOUT", "BY THE NODE'S OWN COUNTER"]);
    for seen in all {
        line([
            &seen.name,
            &seen.before.release,
            &seen.after.release,
            &number(seen.held.quiesced),
            &number(seen.held.resumed),
            &milliseconds(seen.phases.whole),
            if seen.told.is_empty() {
                "unmeasured: the emulated CPU has no invariant counter"
            } else {
                &seen.told
            },
        ]);
    }
    text.push_str(
        "\nThe blackout by phases, by this machine's stamps of the guests' console lines (emulated: slow)\n",
    );
    let mut row = |name: &str, each: Vec<String>| {
        let each: String = each.iter().map(|word| format!("{word:>10}")).collect();
        let _ = writeln!(text, "  {name:<26} {each}");
    };
    row("", all.iter().map(|seen| seen.name.clone()).collect());
    let names = all.first().map(|seen| seen.phases.each.as_slice()).unwrap_or_default();
    for (index, (name, _)) in names.iter().enumerate() {
        let took = |seen: &Seen| milliseconds(seen.phases.each.get(index).and_then(|(_, took)| *took));
        row(name, all.iter().map(took).collect());
    }
    devices(&mut text, all);
    text
}

fn devices(text: &mut String, all: &[Seen]) {
    text.push_str(
        "\nDevices, by their nodes' word, and by QEMU's own trace from the holder's stop to its going on\n",
    );
    for seen in all {
        for device in &seen.devices {
            let word = |of: fn(&DeviceStatus) -> &Option<String>| {
                device.found.as_ref().and_then(|found| of(found).clone()).unwrap_or_else(|| "not told".into())
            };
            let witness = device.sight.as_ref().map_or_else(
                || "nothing was seen".to_owned(),
                |sight| {
                    format!(
                        "{} commands done, {} resets, bus mastering cleared {} times",
                        sight.completions.len(),
                        sight.resets,
                        sight.cleared.len()
                    )
                },
            );
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "  {:<6} {}  {}  {}\n  {:<6} witness: {witness}",
                seen.name,
                device.address,
                word(|found| &found.outcome),
                word(|found| &found.facts),
                ""
            );
        }
    }
}

fn number(found: Option<u64>) -> String {
    found.map_or_else(|| "not seen".to_owned(), |number| number.to_string())
}

fn milliseconds(took: Option<Duration>) -> String {
    took.map_or_else(|| "not seen".to_owned(), |took| format!("{} ms", took.as_millis()))
}

/// What of the promised was not seen; none when all was.
pub(super) fn missing(all: &[Seen], target: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for seen in all {
        let mut want = |holds: bool, what: String| {
            if !holds {
                missing.push(format!("{}: {what}", seen.name));
            }
        };
        want(seen.after.release == target, format!("it runs {}, not {target}", seen.after.release));
        want(seen.before.release != target, "it ran the target already".into());
        want(seen.before.boot_id != seen.after.boot_id, "its boot id is the one before".into());
        want(seen.after.number == seen.before.number + 1, format!("kernel {} runs", seen.after.number));
        want(
            seen.held.unbroken(seen.seed),
            format!("its holder did not come through whole: {:?}", seen.held),
        );
        want(seen.phases.whole.is_some(), "its blackout was not seen from beginning to end".into());
        for (phase, _) in seen.phases.each.iter().filter(|(_, took)| took.is_none()) {
            want(false, format!("the phase {phase} was not seen"));
        }
        want(!seen.told.contains("simulated"), format!("it calls its blackout {}", seen.told));
        for device in &seen.devices {
            let address = &device.address;
            let word = |text: Option<&String>| text.cloned().unwrap_or_default();
            let outcome = word(device.found.as_ref().and_then(|found| found.outcome.as_ref()));
            let facts = word(device.found.as_ref().and_then(|found| found.facts.as_ref()));
            want(outcome == "Uninterrupted", format!("{address} is {outcome:?}: {facts}"));
            let against = match &device.sight {
                Some(sight) if sight.saw_enumeration() => sight.contradictions(&outcome, &facts),
                _ => vec!["the witness saw nothing".to_owned()],
            };
            want(against.is_empty(), format!("{address}: {}", against.join("; ")));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn seen() -> Seen {
        let boot = |number: usize, release: &str| Boot {
            number,
            release: release.into(),
            boot_id: format!("boot-{number}"),
            at: Instant::now(),
        };
        let counter = Some(41);
        Seen {
            name: "vm-a".into(),
            before: boot(1, "7.3.4-lu1"),
            after: boot(2, "7.3.4-lu2"),
            seed: 7,
            held: HoldReport {
                quiesced: counter,
                reclaimed: counter,
                seed: Some(7),
                wrong: Some(0),
                resumed: counter,
                later: Some(42),
            },
            phases: Phases {
                each: vec![("quiesce", Some(Duration::from_millis(3))), ("commit", Some(Duration::ZERO))],
                whole: Some(Duration::from_millis(1234)),
            },
            told: String::new(),
            devices: vec![Device {
                address: "0000:01:00.0".into(),
                found: Some(DeviceStatus {
                    address: "0000:01:00.0".into(),
                    model: "1b36:0010".into(),
                    holder: None,
                    ceiling: None,
                    verdict: None,
                    decided_by: None,
                    outcome: Some("Uninterrupted".into()),
                    facts: Some("reset=none dma=continuous".into()),
                    evidence: None,
                }),
                sight: Some(Sight {
                    decoding_off: 1,
                    sized: 6,
                    intx_toggles: 2,
                    signals: Some(true),
                    ..Sight::default()
                }),
            }],
        }
    }

    #[test]
    fn what_was_not_seen_is_missed_by_name() {
        let target = "7.3.4-lu2";
        assert_eq!(missing(&[seen()], target), Vec::<String>::new());
        let spoilt: [fn(&mut Seen); 11] = [
            |seen| seen.after.release = "7.3.4-lu1".into(),
            |seen| seen.before.release = "7.3.4-lu2".into(),
            |seen| seen.after.boot_id = seen.before.boot_id.clone(),
            |seen| seen.after.number = 3,
            |seen| seen.seed = 8,
            |seen| seen.phases.whole = None,
            |seen| seen.phases.each[1].1 = None,
            |seen| seen.told = "12 ms (simulated)".into(),
            |seen| seen.devices[0].found.as_mut().unwrap().outcome = Some("Paused".into()),
            |seen| seen.devices[0].sight.as_mut().unwrap().resets = 1,
            |seen| seen.devices[0].sight = None,
        ];
        for spoil in spoilt {
            let mut seen = seen();
            spoil(&mut seen);
            assert_eq!(missing(&[seen.clone()], target).len(), 1, "{seen:?}");
        }
    }

    #[test]
    fn the_table_makes_nothing_up() {
        let mut seen = seen();
        seen.phases.each[1].1 = None;
        let text = table(&[seen]);
        assert!(text.contains("1234 ms") && text.contains("unmeasured"), "{text}");
        assert!(text.lines().any(|line| line.contains("commit") && line.contains("not seen")), "{text}");
    }
}
