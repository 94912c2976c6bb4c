//! Exactly one outcome for each device in scope (invariant 3).

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use crate::outcome::{Facts, Outcome};

/// What a device got, and by which facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The word.
    pub outcome: Outcome,
    /// Absent for devices that were never preserved.
    pub facts: Option<Facts>,
}

/// How a device in scope was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    /// Preserved; its facts are awaited.
    Awaited,
    /// It has its outcome.
    Has(Settled),
}

/// Takes each device in scope once; a preserved device's word comes from its facts alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    entries: BTreeMap<String, Entry>,
}

/// Why an outcome was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// The device is not in scope of the attempt, or was never preserved.
    NotPreserved(String),
    /// It has its outcome already.
    Repeated(String),
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPreserved(device) => {
                write!(f, "device {device} was not preserved by this attempt: its facts are ignored")
            }
            Self::Repeated(device) => {
                write!(f, "device {device} already has its outcome: the second one is ignored")
            }
        }
    }
}

impl core::error::Error for NotTaken {}

impl Outcomes {
    /// Nothing in scope yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A device that is preserved: its facts must follow. A device that is there already stays as it is.
    pub fn await_facts(&mut self, address: &str) {
        self.entries.entry(address.into()).or_insert(Entry::Awaited);
    }

    /// A device that is never preserved: `Stopped`, or `Untouched` when its holder was left alone.
    pub fn not_preserved(&mut self, address: &str, stopped: bool) {
        let outcome = if stopped { Outcome::Stopped } else { Outcome::Untouched };
        let settled = Settled { outcome, facts: None };
        self.entries.entry(address.into()).or_insert(Entry::Has(settled));
    }

    /// A device whose holder was to be stopped, and was not: it is held still.
    pub(crate) fn still_held(&mut self, address: &str) {
        let untouched = Settled { outcome: Outcome::Untouched, facts: None };
        if let Some(Entry::Has(settled)) = self.entries.get_mut(address)
            && settled.outcome == Outcome::Stopped
        {
            *settled = untouched;
        }
    }

    /// The facts of a preserved device. Facts that say "not returned" settle nothing: it may still come.
    ///
    /// # Errors
    /// The device was not preserved, or has its outcome; nothing changed then.
    pub fn take(&mut self, address: &str, facts: Facts) -> Result<(), NotTaken> {
        match self.entries.get_mut(address) {
            None | Some(Entry::Has(Settled { facts: None, .. })) => {
                Err(NotTaken::NotPreserved(address.into()))
            }
            Some(Entry::Has(_)) => Err(NotTaken::Repeated(address.into())),
            Some(entry) => {
                if facts.returned {
                    *entry = Entry::Has(Settled { outcome: facts.outcome(), facts: Some(facts) });
                }
                Ok(())
            }
        }
    }

    /// Preserved devices whose facts are awaited.
    pub fn missing(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter(|(_, e)| **e == Entry::Awaited).map(|(address, _)| address.as_str())
    }

    /// Devices that have their outcome so far.
    pub fn settled(&self) -> impl Iterator<Item = (&str, &Settled)> {
        self.entries.iter().filter_map(|(address, entry)| match entry {
            Entry::Awaited => None,
            Entry::Has(settled) => Some((address.as_str(), settled)),
        })
    }

    /// The end: what is missing is `Lost`.
    pub fn finish(self) -> Finished {
        let lost = Settled { outcome: Outcome::Lost, facts: Some(Facts::default()) };
        let of = |entry| match entry {
            Entry::Awaited => lost,
            Entry::Has(settled) => settled,
        };
        Finished { devices: self.entries.into_iter().map(|(address, entry)| (address, of(entry))).collect() }
    }
}

/// All devices in scope, each with its one outcome. Made by [`Outcomes::finish`] alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    devices: BTreeMap<String, Settled>,
}

impl Finished {
    /// By address.
    pub fn devices(&self) -> &BTreeMap<String, Settled> {
        &self.devices
    }

    /// A device that was `Lost` came back after all.
    ///
    /// # Errors
    /// It was not preserved, or was not lost; nothing changed then.
    pub fn correct(&mut self, address: &str, facts: Facts) -> Result<(), NotTaken> {
        match self.devices.get_mut(address) {
            None | Some(Settled { facts: None, .. }) => Err(NotTaken::NotPreserved(address.into())),
            Some(settled) if settled.outcome != Outcome::Lost => Err(NotTaken::Repeated(address.into())),
            Some(_) if !facts.returned => Ok(()),
            Some(settled) => {
                *settled = Settled { outcome: facts.outcome(), facts: Some(facts) };
                Ok(())
            }
        }
    }
}
