//! The evidence behind facts that are not plain, as people read it beside a device.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::facts::Probed;
use super::{BUS_MASTER, BusMaster, Check, Compared, Link, NvmeProbe, Seen};
use crate::outcome::{Config, Dma, Interrupts, Outcome, Reset, State};

/// Longest explanation, in bytes: a node's record has room for 64 of them.
pub const LONGEST: usize = 200;

impl Seen<'_> {
    /// What made the facts worse than the best, from what was read; empty when there is nothing to explain.
    pub fn explain(&self) -> String {
        let facts = self.facts();
        if facts.outcome() == Outcome::Uninterrupted || !self.returned {
            return String::new();
        }
        let mut said = Vec::new();
        if facts.reset != Reset::None {
            self.about_reset(&mut said);
        }
        if facts.dma != Dma::Continuous {
            self.about_dma(&mut said);
        }
        if facts.config != Config::Same {
            self.about_config(&mut said);
        }
        if !matches!(facts.interrupts, Interrupts::Relatched(_)) {
            said.push(check("interrupts", self.checks.interrupts));
        }
        if facts.state == State::Unknown {
            said.push(check("state", self.checks.state));
        }
        self.about_errors(&mut said);
        if facts.reset != Reset::None {
            self.about_probe(&mut said);
        }
        cut(&said.join("; "))
    }

    fn about_reset(&self, said: &mut Vec<String>) {
        let evidence = self.evidence;
        match evidence.canary {
            Some(Compared::Same) => {}
            Some(Compared::Changed) => said.push("canary changed".into()),
            None => said.push("canary unknown".into()),
        }
        match evidence.resets {
            Some(0) => {}
            Some(resets) => said.push(format!("{resets} resets")),
            None => said.push("resets unknown".into()),
        }
        if evidence.arrived_command.is_none_or(|command| command & BUS_MASTER == 0)
            && evidence.bus_master == Some(BusMaster::Kept)
        {
            said.push(format!("bus mastering at first touch: {}", hex(evidence.arrived_command)));
        }
        if evidence.bus_master.is_none() {
            said.push("bus_master unknown".into());
        }
    }

    /// Last of all: registers are long, and what is cut off must not be a reason that nothing else tells.
    fn about_probe(&self, said: &mut Vec<String>) {
        match (self.probed(), self.evidence.frozen_probe, self.evidence.retrieved_probe) {
            (Probed::Changed, Some(before), Some(after)) => {
                said.push(format!("probe {}", changed(&before, &after)));
            }
            (Probed::Unknown, ..) => said.push("probe unknown".into()),
            _ => {}
        }
    }

    fn about_dma(&self, said: &mut Vec<String>) {
        let evidence = self.evidence;
        if evidence.bus_master == Some(BusMaster::Cleared) {
            said.push("bus mastering cleared".into());
        } else {
            let commands = [evidence.frozen_command, evidence.arrived_command, evidence.retrieved_command];
            if commands.iter().any(|c| c.is_none_or(|c| c & BUS_MASTER == 0)) {
                said.push(format!("COMMAND {}", commands.map(hex).join(" → ")));
            }
            let looks = [
                ("frozen", &evidence.frozen_bridges),
                ("arrived", &evidence.arrived_bridges),
                ("retrieved", &evidence.retrieved_bridges),
            ];
            for (when, bridges) in looks {
                match bridges {
                    None => said.push(format!("{when}_bridges unknown")),
                    Some(bridges) => {
                        let off = bridges.iter().find(|(_, command)| command & BUS_MASTER == 0);
                        said.extend(off.map(|(name, command)| format!("{when}: {name}={command:#06x}")));
                    }
                }
            }
            if !self.same_bridges() {
                said.push("other bridges above it than at freeze".into());
            }
        }
        if !self.checks.dma.is_some_and(|check| check.passed) {
            said.push(check("dma", self.checks.dma));
        }
    }

    fn about_config(&self, said: &mut Vec<String>) {
        match self.evidence.config {
            Some(Compared::Same) => {}
            Some(Compared::Changed) => said.push("config changed".into()),
            None => said.push("config unknown".into()),
        }
        let link = |link: Option<Link>| match link {
            None => "unknown".to_string(),
            Some(Link::None) => "none".to_string(),
            Some(Link::Status(status)) => format!("{status:#06x}"),
        };
        let links = [self.evidence.frozen_link, self.evidence.retrieved_link];
        let trained = links.map(|link| link.map(Link::trained));
        if trained[0].is_none() || trained[0] != trained[1] {
            said.push(format!("link {}", links.map(link).join(" → ")));
        }
    }

    /// They decide nothing: where a device cannot report errors, their absence would say nothing either.
    fn about_errors(&self, said: &mut Vec<String>) {
        if let (Some(before), Some(after)) = (self.evidence.frozen_aer, self.evidence.retrieved_aer) {
            let uncorrectable = after.uncorrectable & !before.uncorrectable;
            let correctable = after.correctable & !before.correctable;
            if uncorrectable | correctable != 0 {
                said.push(format!("new errors uncor={uncorrectable:#x} cor={correctable:#x}"));
            }
        }
    }
}

fn check(name: &str, check: Option<Check>) -> String {
    match check {
        None => format!("holder says nothing of {name}"),
        Some(Check { passed: false, .. }) => format!("holder's {name} check failed"),
        Some(Check { gap: None, .. }) => format!("holder's {name} check tells no gap"),
        Some(_) => format!("holder's {name} check passed"),
    }
}

fn hex(command: Option<u16>) -> String {
    command.map_or_else(|| "unknown".into(), |command| format!("{command:#06x}"))
}

/// Before and after, the registers that are not as they were; the others would only take their room.
fn changed(before: &NvmeProbe, after: &NvmeProbe) -> String {
    let registers = [
        ("cc", u64::from(before.cc), u64::from(after.cc)),
        ("csts", u64::from(before.csts), u64::from(after.csts)),
        ("aqa", u64::from(before.aqa), u64::from(after.aqa)),
        ("asq", before.asq, after.asq),
    ];
    let changed = registers.iter().filter(|(_, before, after)| before != after);
    let (before, after): (Vec<_>, Vec<_>) = changed
        .map(|(name, before, after)| (format!("{name}={before:#x}"), format!("{name}={after:#x}")))
        .unzip();
    format!("{} → {}", before.join(" "), after.join(" "))
}

fn cut(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.into();
    }
    let end = (0..=LONGEST - "…".len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
