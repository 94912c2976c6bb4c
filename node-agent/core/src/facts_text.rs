//! Facts as text and back: what [`Facts`] prints is what it reads, so that a record can hold it.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use crate::outcome::{Config, Dma, Facts, Interrupts, Reset, State};

/// The text is none of facts: `reset=none dma=continuous …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoFacts;

impl fmt::Display for NoFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no text of facts, as reset=none dma=continuous … is one")
    }
}

impl core::error::Error for NoFacts {}

impl FromStr for Facts {
    type Err = NoFacts;

    /// Each fact once, in the order in which they are printed.
    fn from_str(text: &str) -> Result<Self, NoFacts> {
        let mut words = text.split(' ');
        let mut next = |name: &str| {
            let (found, value) = words.next().and_then(|word| word.split_once('=')).ok_or(NoFacts)?;
            if found == name { Ok(value) } else { Err(NoFacts) }
        };
        let reset = match next("reset")? {
            "none" => Reset::None,
            "detected" => Reset::Detected,
            "unknown" => Reset::Unknown,
            _ => return Err(NoFacts),
        };
        let dma = match next("dma")? {
            "continuous" => Dma::Continuous,
            "stopped" => Dma::Stopped,
            "unknown" => Dma::Unknown,
            other => Dma::Gap(gap(other, "gap(")?),
        };
        let interrupts = match next("interrupts")? {
            "lost" => Interrupts::Lost,
            "unknown" => Interrupts::Unknown,
            other => Interrupts::Relatched(gap(other, "relatched(")?),
        };
        let config = match next("config")? {
            "same" => Config::Same,
            "changed" => Config::Changed,
            "unknown" => Config::Unknown,
            _ => return Err(NoFacts),
        };
        let state = match next("state")? {
            "probed" => State::Probed,
            "attested" => State::Attested,
            "unknown" => State::Unknown,
            _ => return Err(NoFacts),
        };
        let (quiescent, returned) = match (words.next(), words.next(), words.next()) {
            (None, None, None) => (false, true),
            (Some("quiescent"), None, None) => (true, true),
            (Some("not-returned"), None, None) => (false, false),
            (Some("quiescent"), Some("not-returned"), None) => (true, false),
            _ => return Err(NoFacts),
        };
        Ok(Self { reset, dma, interrupts, config, state, quiescent, returned })
    }
}

/// `relatched(12ms)`
fn gap(word: &str, before: &str) -> Result<Duration, NoFacts> {
    let number = word.strip_prefix(before).and_then(|rest| rest.strip_suffix("ms)")).ok_or(NoFacts)?;
    number.parse().map(Duration::from_millis).map_err(|_| NoFacts)
}
