//! Reading the driver's files: one value each, `unknown` where it is not known.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Aer, BusMaster, Compared, Evidence, Link, NvmeProbe, Phase};

/// The files, as they are called in `/sys/bus/pci/devices/<address>/liveupdate/`.
pub const FILES: [&str; 22] = [
    "state",
    "keeps_bus_master",
    "frozen_command",
    "arrived_command",
    "retrieved_command",
    "frozen_bridges",
    "arrived_bridges",
    "retrieved_bridges",
    "frozen_counter",
    "arrived_counter",
    "retrieved_counter",
    "attached_counter",
    "frozen_link",
    "retrieved_link",
    "frozen_aer",
    "retrieved_aer",
    "canary",
    "config",
    "bus_master",
    "resets",
    "frozen_probe",
    "retrieved_probe",
];

/// A file holds what makes no sense; what it tells is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Its name.
    pub file: String,
    /// Its beginning.
    pub text: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} holds {:?}, which makes no sense: use a driver of this release", self.file, self.text)
    }
}

impl core::error::Error for Malformed {}

impl Evidence {
    /// Takes what a file holds. What makes no sense is unknown, whatever was known before.
    ///
    /// # Errors
    /// [`Malformed`], also for a file that is none of [`FILES`].
    pub fn take(&mut self, file: &str, text: &str) -> Result<(), Malformed> {
        let text = text.trim();
        let fits = match file {
            "state" => put(&mut self.state, text, phase),
            "keeps_bus_master" => put(&mut self.keeps_bus_master, text, flag),
            "frozen_command" => put(&mut self.frozen_command, text, hex16),
            "arrived_command" => put(&mut self.arrived_command, text, hex16),
            "retrieved_command" => put(&mut self.retrieved_command, text, hex16),
            "frozen_bridges" => put(&mut self.frozen_bridges, text, bridges),
            "arrived_bridges" => put(&mut self.arrived_bridges, text, bridges),
            "retrieved_bridges" => put(&mut self.retrieved_bridges, text, bridges),
            "frozen_counter" => put(&mut self.frozen_counter, text, number),
            "arrived_counter" => put(&mut self.arrived_counter, text, number),
            "retrieved_counter" => put(&mut self.retrieved_counter, text, number),
            "attached_counter" => put(&mut self.attached_counter, text, number),
            "frozen_link" => put(&mut self.frozen_link, text, link),
            "retrieved_link" => put(&mut self.retrieved_link, text, link),
            "frozen_aer" => put(&mut self.frozen_aer, text, aer),
            "retrieved_aer" => put(&mut self.retrieved_aer, text, aer),
            "canary" => put(&mut self.canary, text, compared),
            "config" => put(&mut self.config, text, compared),
            "bus_master" => put(&mut self.bus_master, text, bus_master),
            "resets" => put(&mut self.resets, text, |text| u32::try_from(number(text)?).ok()),
            "frozen_probe" => put(&mut self.frozen_probe, text, probe),
            "retrieved_probe" => put(&mut self.retrieved_probe, text, probe),
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(Malformed { file: file.to_owned(), text: text.chars().take(40).collect() })
    }
}

/// True: it was understood; also that it is unknown.
fn put<T>(field: &mut Option<T>, text: &str, read: impl Fn(&str) -> Option<T>) -> bool {
    *field = if text == "unknown" { None } else { read(text) };
    field.is_some() || text == "unknown"
}

fn phase(text: &str) -> Option<Phase> {
    Some(match text {
        "idle" => Phase::Idle,
        "preserved" => Phase::Preserved,
        "frozen" => Phase::Frozen,
        "incoming" => Phase::Incoming,
        "retrieved" => Phase::Retrieved,
        "attached" => Phase::Attached,
        _ => return None,
    })
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "0" | "N" => Some(false),
        "1" | "Y" => Some(true),
        _ => None,
    }
}

fn compared(text: &str) -> Option<Compared> {
    match text {
        "same" => Some(Compared::Same),
        "changed" => Some(Compared::Changed),
        _ => None,
    }
}

fn bus_master(text: &str) -> Option<BusMaster> {
    match text {
        "kept" => Some(BusMaster::Kept),
        "cleared" => Some(BusMaster::Cleared),
        _ => None,
    }
}

/// Hexadecimal with `0x`, else decimal.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |digits| (digits, 16));
    // A sign is none of a register's digits, though Rust takes one.
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn hex16(text: &str) -> Option<u16> {
    u16::try_from(number(text)?).ok()
}

/// `none`: the device has no link, which is known.
fn link(text: &str) -> Option<Link> {
    if text == "none" { Some(Link::None) } else { hex16(text).map(Link::Status) }
}

/// `0000:00:02.0=0x0507 0000:01:00.0=0x0507`; nothing for a device on the root bus.
fn bridges(text: &str) -> Option<Vec<(String, u16)>> {
    let one = |word: &str| {
        let (address, command) = word.split_once('=')?;
        Some((address.to_owned(), hex16(command)?))
    };
    // `none` is how an empty list is told apart from an empty file by those who look at it.
    if text == "none" {
        return Some(Vec::new());
    }
    text.split_whitespace().map(one).collect()
}

/// The value of `name=` among the words.
fn named(text: &str, name: &str) -> Option<u64> {
    let mut found = text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    number(found.next()?)
}

fn aer(text: &str) -> Option<Aer> {
    let of = |name| u32::try_from(named(text, name)?).ok();
    Some(Aer { uncorrectable: of("uncor")?, correctable: of("cor")? })
}

fn probe(text: &str) -> Option<NvmeProbe> {
    let of = |name| u32::try_from(named(text, name)?).ok();
    Some(NvmeProbe { cc: of("cc")?, csts: of("csts")?, aqa: of("aqa")?, asq: named(text, "asq")? })
}
