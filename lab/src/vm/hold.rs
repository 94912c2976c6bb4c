//! The reference holder in a guest: how it is started, and what it says of itself on the console.
//!
//! ```text
//!  liveupdate-hold: vm-a: quiesced counter=4711 ticks=…          it stands, on one kernel
//!  liveupdate-hold: vm-a: reclaimed pages=4096 … counter=4711 …  it has its memory back, on the next one
//!  liveupdate-hold: vm-a: resumed counter=4711 …                 it goes on
//! ```

use std::collections::BTreeMap;
use std::time::Instant;

use liveupdate_lab_guest::Service;

use super::serial::Line;

const PROGRAM: &str = "/bin/liveupdate-hold";
const PREFIX: &str = "liveupdate-hold: ";

/// A holder of memory.
#[derive(Clone, Debug)]
pub struct Hold {
    /// Its name at the keeper.
    pub name: String,
    /// What its pattern follows from. It is in the holder's memory alone: no file of the guest has it.
    pub seed: u64,
    /// Bytes of memory, with K, M or G.
    pub size: String,
    /// Further arguments.
    pub args: Vec<String>,
}

impl Hold {
    /// Holds 16 MiB, with a seed that nobody could guess.
    pub fn new(name: &str) -> Hold {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), name);
        Hold { name: name.to_owned(), seed, size: "16M".into(), args: Vec::new() }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Hold {
        self.args.push(arg.to_owned());
        self
    }

    /// The service that runs it. Only its first start is told the seed.
    pub fn service(&self) -> Service {
        let mut service = Service::new(&self.name, PROGRAM).args([
            format!("--name={}", self.name),
            format!("--size={}", self.size),
            "--seed=-".to_owned(),
        ]);
        service.args.extend(self.args.iter().cloned());
        service.input = format!("{:x}\n", self.seed);
        service
    }
}

/// One line of a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldEvent {
    /// By this machine's clock.
    pub at: Instant,
    /// Its first word: `made`, `preserved`, `quiesced`, `reclaimed`, `resumed`, `checked`.
    pub what: String,
    /// Its `name=value` words.
    pub facts: BTreeMap<String, String>,
}

impl HoldEvent {
    /// A fact that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.facts.get(name)?.parse().ok()
    }
}

/// All that a holder said.
pub fn events(lines: &[Line], holder: &str) -> Vec<HoldEvent> {
    let prefix = format!("{PREFIX}{holder}: ");
    let event = |line: &Line| {
        // Programs share the console: somebody else's line may have begun before.
        let (_, said) = line.text.split_once(&prefix)?;
        let mut words = said.split_whitespace();
        let what = words.next()?.to_owned();
        let facts = words.filter_map(|word| word.split_once('='));
        Some(HoldEvent {
            at: line.at,
            what,
            facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        })
    };
    lines.iter().filter_map(event).collect()
}

/// What a holder's last stop and return were like. What it did not say is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HoldReport {
    /// Its counter when it stopped.
    pub quiesced: Option<u64>,
    /// Its counter as it stood in the memory that came back.
    pub reclaimed: Option<u64>,
    /// The seed as it stood there.
    pub seed: Option<u64>,
    /// Pages of that memory that were not as they had been.
    pub wrong: Option<u64>,
    /// Its counter when it went on.
    pub resumed: Option<u64>,
    /// Its counter a moment later.
    pub later: Option<u64>,
}

impl HoldReport {
    /// Reads it off a holder's lines.
    pub fn of(events: &[HoldEvent]) -> HoldReport {
        let Some(stop) = events.iter().rposition(|event| event.what == "quiesced") else {
            return HoldReport::default();
        };
        let after = events.get(stop..).unwrap_or_default();
        let last = |what: &str| after.iter().rev().find(|event| event.what == what);
        let number = |what: &str, name: &str| last(what).and_then(|event| event.number(name));
        let hex = |event: &HoldEvent| u64::from_str_radix(event.facts.get("seed")?, 16).ok();
        let went_on = after.iter().position(|event| event.what == "resumed");
        let afterwards = went_on.and_then(|index| after.get(index..)).unwrap_or_default();
        let later = afterwards.iter().rev().find(|event| event.what == "declares");
        HoldReport {
            quiesced: number("quiesced", "counter"),
            reclaimed: number("reclaimed", "counter"),
            seed: last("reclaimed").and_then(hex),
            wrong: number("checked", "wrong").or_else(|| number("reclaimed", "wrong")),
            resumed: number("resumed", "counter"),
            later: later.and_then(|event| event.number("counter")),
        }
    }

    /// Its memory came through the jump with the seed that it was given, each page as it was, and its counter
    /// goes on from where it stood.
    pub fn unbroken(&self, seed: u64) -> bool {
        self.quiesced.is_some_and(|counter| counter > 0)
            && self.reclaimed == self.quiesced
            && self.resumed == self.quiesced
            && self.seed == Some(seed)
            && self.wrong == Some(0)
            && self.later >= self.resumed
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn report(texts: &[&str]) -> HoldReport {
        let line = |text: &&str| Line {
            at: Instant::now(),
            wall: SystemTime::UNIX_EPOCH,
            text: format!("half a line{PREFIX}vm-a: {text}"),
        };
        let lines: Vec<Line> = texts.iter().map(line).collect();
        assert_eq!(events(&lines, "vm-b"), []);
        HoldReport::of(&events(&lines, "vm-a"))
    }

    #[test]
    fn a_holder_is_unbroken_only_when_all_came_back() {
        let whole = [
            "declares counter=0",
            "quiesced counter=41 ticks=7",
            "reclaimed pages=4 wrong=unchecked counter=41 seed=00000000000000ff",
            "resumed counter=41 ticks=8 cause=\"the jump is over\"",
            "declares counter=42",
            "checked pages=4 wrong=0",
        ];
        assert!(report(&whole).unbroken(0xff), "{:?}", report(&whole));
        assert!(!report(&whole).unbroken(0xfe));
        for missing in 1..whole.len() {
            let mut part = whole.to_vec();
            part.remove(missing);
            assert!(!report(&part).unbroken(0xff), "without {:?}", whole[missing]);
        }
        let mut wrong = whole;
        wrong[5] = "checked pages=4 wrong=1";
        assert!(!report(&wrong).unbroken(0xff));
        assert_eq!(report(&[]), HoldReport::default());
    }
}
