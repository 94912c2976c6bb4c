//! The reference holder: memory with a checked pattern, a counter in it that goes on over a live update, and devices that
//! work all the time with queues and buffers in that memory.
//!
//! Started on one kernel it makes the memory; started again after the jump it gets it back. A line on standard error
//! for each thing that happens, so that a test can read it.

mod copies;
mod devices;
mod driver;
mod guest;
mod memory;
mod misbehaviour;
mod nvme;
mod opened;
mod unheld;
mod virtio;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use liveupdate_holder::{Handover, RunError, SOCKET, stay};
use liveupdate_proto::causes::chain;

use guest::{Hold, Sessions};
use misbehaviour::Misbehaviour;
use nvme::MOST;

/// Holds memory, a counter and devices over live updates, as a VMM would hold a guest.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// Its name at the keeper.
    #[arg(long)]
    name: String,
    /// Bytes of memory to make, with K, M or G; when it gets memory back, this is not used.
    #[arg(long, default_value = "16M", value_parser = bytes)]
    size: u64,
    /// What the pattern follows from, up to 16 hex digits; `-`: the first line of standard input. Kept in the memory
    /// alone. Without it one is drawn.
    #[arg(long)]
    seed: Option<String>,
    /// How often the counter is written.
    #[arg(long, default_value = "2", value_name = "MILLISECONDS")]
    interval: u64,
    /// Where the keeper listens.
    #[arg(long, default_value = SOCKET)]
    socket: PathBuf,
    /// Names of holders that must go on before this one.
    #[arg(long, value_name = "NAME")]
    after: Vec<String>,
    /// Its owner refuses any update.
    #[arg(long)]
    refuse: bool,
    /// PCI address of a device, bound to a VFIO driver, that it works all the time: an NVMe controller with a disk whose
    /// blocks of 512 bytes hold their own numbers, or a virtio NIC of version 1, whose receive queue it keeps full and the
    /// numbers of whose frames it checks. May be said more than once.
    #[arg(long = "device", value_name = "ADDRESS")]
    devices: Vec<String>,
    /// Commands on their way at once, to each disk.
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u16).range(1..=MOST as i64))]
    depth: u16,
    /// Writes to the disks as well, what is there anyway.
    #[arg(long)]
    write: bool,
    /// Waits at a stop until its devices do no DMA, and attests so.
    #[arg(long)]
    quiescent: bool,
    /// Looks at the pattern after it has gone on, as a VMM would not look at it at all: for measuring blackouts.
    #[arg(long)]
    check_after: bool,
    /// What it does wrong, for tests of faults.
    #[arg(long, value_enum)]
    misbehave: Option<Misbehaviour>,
    /// Does wrong what stands in this file, whenever it is there, rather than what `--misbehave` says.
    #[arg(long, value_name = "FILE")]
    misbehave_from: Option<PathBuf>,
    /// What its session is: the kernel's, or a folder of files where a test plays the orchestrator.
    #[arg(long, value_enum, default_value = "kernel", hide = true)]
    sessions: SessionKind,
}

#[derive(Clone, Copy, ValueEnum)]
enum SessionKind {
    Kernel,
    Folder,
}

/// One line of what happens.
fn tell(name: &str, what: &str) {
    // In one piece, which others that write there cannot part. Nobody may read it: that is nothing to die of.
    let _ = std::io::stderr().write_all(format!("liveupdate-hold: {name}: {what}\n").as_bytes());
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&arguments.name, &format!("ends: {}", chain(&*error)));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if std::env::var_os(unheld::CHILD).is_some() {
        return Ok(unheld::declare_for(&arguments.name)?);
    }
    let seed = match arguments.seed.as_deref() {
        Some("-") => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line)?;
            seed(line.trim())?
        }
        Some(text) => seed(text)?,
        None => None,
    };
    if arguments.misbehave == Some(Misbehaviour::DeclareUnheld) {
        return Ok(unheld::declare(&arguments.name, &arguments.socket)?);
    }
    let sessions = match arguments.sessions {
        SessionKind::Kernel => Sessions::Kernel,
        SessionKind::Folder => Sessions::Folder,
    };
    let hold = Hold::new(guest::Settings {
        name: arguments.name.clone(),
        size: arguments.size,
        seed,
        interval: Duration::from_millis(arguments.interval.max(1)),
        after: arguments.after.clone(),
        devices: arguments.devices.clone(),
        depth: arguments.depth.into(),
        write: arguments.write,
        quiescent: arguments.quiescent,
        refuse: arguments.refuse,
        check_after: arguments.check_after,
        misbehave: arguments.misbehave,
        misbehave_from: arguments.misbehave_from.clone(),
        sessions,
    });
    let mut handover = Handover::new(arguments.name.clone(), hold);
    let mut last = String::new();
    stay(&arguments.socket, &mut handover, |ended| {
        let why = match ended {
            Ok(()) => "the keeper ended the connection".to_owned(),
            Err(RunError::Nobody { .. }) => return true,
            Err(error) => chain(error),
        };
        // Refused, it comes again and again: that is told once.
        if why != last {
            tell(&arguments.name, &format!("disconnected: {why}"));
        }
        last = why;
        true
    });
    Ok(())
}

/// None: no seed was said.
fn seed(text: &str) -> Result<Option<u64>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    u64::from_str_radix(text, 16)
        .map(Some)
        .map_err(|error| format!("seed {text:?} is not up to 16 hex digits: {error}"))
}

fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a number of bytes such as 4096, 64K, 16M, 1G");
    let (digits, shift) = match text.trim_end_matches(['K', 'M', 'G']) {
        digits if digits.len() == text.len() => (digits, 0),
        digits => (
            digits,
            match &text[digits.len()..] {
                "K" => 10,
                "M" => 20,
                "G" => 30,
                _ => return Err(wrong()),
            },
        ),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_shl(shift).filter(|bytes| bytes >> shift == number && *bytes > 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_seeds_are_read_and_nonsense_is_refused() {
        assert_eq!((bytes("4096"), bytes("64K"), bytes("1G")), (Ok(4096), Ok(64 << 10), Ok(1 << 30)));
        for bad in ["", "M", "0", "-1", "1KK", "1T", "99999999999999999999", "99999999999G"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!((seed(""), seed("c0ffee")), (Ok(None), Ok(Some(0x00c0_ffee))));
        assert!(seed("secret").is_err() && seed("11112222333344445").is_err());
    }
}
