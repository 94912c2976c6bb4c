//! A jump split into phases, by this machine's stamps of the guest's console lines.
//!
//! ```text
//!  quiesce … quiesced … rest … Starting new kernel ══ Linux version … lab-init: up on … custody … granted … reclaimed … resumed
//!  └ quiesce ┘└ commit ┘└ shutdown ────────────┘└ jump ┘└ kernel boot ────────┘└ keeper start ┘└ grant ┘└ retrieval ┘└ resume ┘
//!                    jumps by itself … Starting new kernel ══ Linux version … lab-init: up on      a bare kexec
//!                    └ shutdown ─────────────────┘└ jump ┘└ kernel boot ────────┘
//! ```
//! A phase is told only when both of its lines were seen: nothing is made up.

use std::time::Duration;

use liveupdate_lab_guest::{BARE, UP};

use super::serial::Line;

/// What begins the first phase, and what ends each, in this order: a line that ends so, or has this in it.
const BEGIN: Text = Text::End("] quiesce");
const PHASES: [(&str, Text); 9] = [
    ("quiesce", Text::End("] quiesced")),
    ("commit", Text::End("] rest")),
    SHUTDOWN,
    JUMP,
    BOOT,
    ("keeper start", Text::End("] custody")),
    ("grant", Text::Part(": granted files=")),
    (RETRIEVAL, Text::Part(": reclaimed pages=")),
    ("resume", Text::Part(": resumed counter=")),
];
const SHUTDOWN: (&str, Text) = ("shutdown", Text::Part("kexec_core: Starting new kernel"));
const JUMP: (&str, Text) = ("jump to first kernel line", Text::Part("Linux version "));
const BOOT: (&str, Text) = ("kernel boot", Text::Part(UP));
/// The phase in which a successor takes its memory back: the larger the memory, the longer.
pub const RETRIEVAL: &str = "retrieval";

#[derive(Clone, Copy)]
enum Text {
    End(&'static str),
    Part(&'static str),
}

impl Text {
    fn fits(self, line: &Line) -> bool {
        match self {
            Text::End(text) => line.text.ends_with(text),
            Text::Part(text) => line.text.contains(text),
        }
    }
}

/// One jump's phases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Names in order; none where one of its lines was not seen.
    pub each: Vec<(&'static str, Option<Duration>)>,
    /// From the first line to the last; none where one of them was not seen.
    pub whole: Option<Duration>,
}

impl Phases {
    /// One of them; none also when there is no such phase.
    pub fn took(&self, name: &str) -> Option<Duration> {
        self.each.iter().find(|(each, _)| *each == name).and_then(|(_, took)| *took)
    }
}

/// Reads the last jump off a console. Without any, every phase is none.
pub fn of_last_jump(lines: &[Line]) -> Phases {
    of_last(lines, BEGIN, &PHASES)
}

/// Reads the last jump that the guest made by itself, without any of the product.
pub fn of_last_bare_jump(lines: &[Line]) -> Phases {
    of_last(lines, Text::Part(BARE), &[SHUTDOWN, JUMP, BOOT])
}

/// The lines that carry the guest's counter, stamped by it and not by this machine: for guests whose instructions are
/// counted, where a tick is a nanosecond of the guest's own.
pub fn by_counter(lines: &[Line]) -> Vec<Line> {
    let Some(begun) = lines.first().map(|line| line.at) else { return Vec::new() };
    let stamped = |line: &Line| {
        let (_, after) = line.text.split_once("ticks=")?;
        let digits = after.find(|c: char| !c.is_ascii_digit()).map_or(after, |end| &after[..end]);
        let at = begun + Duration::from_nanos(digits.parse().ok()?);
        Some(Line { at, ..line.clone() })
    };
    lines.iter().filter_map(stamped).collect()
}

fn of_last(lines: &[Line], begin: Text, all: &[(&'static str, Text)]) -> Phases {
    let begin = lines.iter().rposition(|line| begin.fits(line));
    let mut from = begin.unwrap_or(lines.len());
    let first = lines.get(from).map(|line| line.at);
    let mut before = first;
    let mut phases = Phases::default();
    for &(name, text) in all {
        let found = lines.iter().enumerate().skip(from).find(|(_, line)| text.fits(line));
        let at = found.map(|(_, line)| line.at);
        phases.each.push((name, before.zip(at).map(|(before, at)| at.saturating_duration_since(before))));
        if let Some((index, _)) = found {
            from = index + 1;
        }
        before = at;
    }
    phases.whole = first.zip(before).map(|(first, last)| last.saturating_duration_since(first));
    phases
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        let begun = Instant::now();
        let line = |(index, text): (usize, &&str)| Line {
            at: begun + Duration::from_millis(10 * index as u64),
            wall: SystemTime::UNIX_EPOCH,
            text: (*text).to_owned(),
        };
        texts.iter().enumerate().map(line).collect()
    }

    #[test]
    fn each_phase_lies_between_its_lines_and_a_missing_line_is_not_made_up() {
        let all = [
            "liveupdate: [    9.000001 ticks=7] quiesce",
            "liveupdate: [    9.100001] quiesced",
            "liveupdate: [    9.100001] commit",
            "liveupdate: [    9.100001] rest",
            "[    9.2] kexec_core: Starting new kernel",
            "[    0.0] Linux version 7.3.4-lu2",
            "lab-init: up on 7.3.4-lu2",
            "liveupdate: [    4.000001] custody",
            "liveupdate-hold: vm-a: granted files=1",
            "liveupdate-hold: vm-a: reclaimed pages=1 wrong=0 counter=3",
            "liveupdate-hold: vm-a: resumed counter=3",
        ];
        let phases = of_last_jump(&lines(&all));
        assert!(phases.each.iter().all(|(_, took)| took.is_some()), "{phases:?}");
        assert_eq!(phases.each[1], ("commit", Some(Duration::from_millis(20))));
        assert_eq!(phases.whole, Some(Duration::from_millis(100)));
        assert_eq!(phases.took(RETRIEVAL), Some(Duration::from_millis(10)));

        let bare = [all[0], BARE, all[4], all[5], all[6], all[7]];
        let bare = of_last_bare_jump(&lines(&bare));
        assert_eq!((bare.whole, bare.took("quiesce")), (Some(Duration::from_millis(30)), None));

        let counted = of_last_jump(&by_counter(&lines(&[
            all[0],
            all[1],
            "liveupdate-hold: vm-a: resumed counter=3 ticks=19",
        ])));
        assert_eq!((counted.whole, counted.each[0].1), (Some(Duration::from_nanos(12)), None));

        let mut part = all.to_vec();
        part.remove(7);
        let phases = of_last_jump(&lines(&part));
        assert_eq!(phases.each[5], ("keeper start", None));
        assert_eq!(phases.each[6], ("grant", None), "its first line is missing");
        assert_eq!(phases.each[8].1, Some(Duration::from_millis(10)));
        assert_eq!(of_last_jump(&lines(&[])).whole, None);
    }
}
