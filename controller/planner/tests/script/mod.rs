//! A small text language: events in, plans and reports out.
//!
//! ```text
//! nodes 4 model=10de:2330 label=zone=a     n1 … n4 join; numbering goes on over several lines
//! update up max=2 steps=canary:1:bake=10m:approve,rest:100%
//! edit up rev=bbbb2222 release=9.2         changes the spec
//! verb up approve canary                   an annotation; `unverb up approve` takes it away
//! delete up
//! node n3 blocks GateNotPassed IOMMU off   also: clear, fault F, mended, down, up, gone, again, foreign W, free
//! policy hold on                           also: max N, allow TOKEN
//! crash                                    the controller forgets what is volatile
//! tick 30s                                 time passes, and everything that happens in it happens
//! ```
//! After every line the world settles; printed are every pass's actions and what changed in the report.

mod parse;
mod print;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use liveupdate_planner::simulation::{Behaviour, World};
use liveupdate_planner::{Policy, Report, Time};

/// Runs a script and returns its transcript.
pub(crate) fn run(script: &str) -> String {
    let mut play = Play {
        world: World::new(Time(0), Policy::default()),
        number: 0,
        last: Report::default(),
        out: String::new(),
        behaviours: BTreeMap::new(),
    };
    for line in script.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            let _ = writeln!(play.out, "{line}");
            continue;
        }
        let _ = writeln!(play.out, "> {line}");
        play.line(line);
    }
    assert!(play.world.violations.is_empty(), "{:?}", play.world.violations);
    play.out
}

/// A script under way.
pub(crate) struct Play {
    world: World,
    number: u32,
    last: Report,
    out: String,
    /// As nodes were made, to make them again.
    behaviours: BTreeMap<String, (BTreeMap<String, String>, Behaviour)>,
}

impl Play {
    fn line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let mut until = self.world.now;
        match command {
            "nodes" => self.nodes(&words),
            "update" => self.update(&words),
            "edit" => self.edit(&words),
            "delete" => self.with_update(words[0], |update| update.deleting = true),
            "verb" => self.verb(&words, true),
            "unverb" => self.verb(&words, false),
            "node" => self.node(&words),
            "policy" => self.policy(&words),
            "crash" => self.world.crash(),
            "tick" => until = until.after(parse::duration(words[0])),
            other => panic!("unknown command {other:?} in {line:?}"),
        }
        self.play(until);
    }

    fn play(&mut self, until: Time) {
        let mut out = std::mem::take(&mut self.out);
        let mut last = std::mem::take(&mut self.last);
        let rests = self.world.pass_time(until, |world, plan| {
            print::actions(&mut out, world.now, &plan.actions);
            last = print::merge(&mut out, &last, &plan.report, world.now);
        });
        assert!(rests, "the plan does not come to rest at {:?}:\n{out}", self.world.now);
        self.out = out;
        self.last = last;
    }
}

/// For printing: seconds and what is left of them.
pub(crate) fn clock(at: Time) -> String {
    let of = Duration::from_millis(u64::try_from(at.0).unwrap_or_default());
    let (s, ms) = (of.as_secs(), of.subsec_millis());
    let text = format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
    if ms == 0 { text } else { format!("{text}.{ms:03}") }
}
