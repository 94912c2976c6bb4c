//! `liveupdate-agent install-keeper`: puts the keeper on the host, as a unit of its systemd.
//!
//! ```text
//!  no unit ──────────────► written, enabled, started
//!  the same unit, program ► enabled, started: nothing happens to one that runs
//!  another of ours, idle ──► replaced, started anew ── it does not come up ──► the one before, started anew
//!  another of ours, busy, or silent ──► left alone until the next time
//!  somebody else's ────────► refused
//! ```
//! It runs as the first container of the agent's pod, each time that a pod starts. The host's own `systemctl` speaks
//! with its systemd (docs/adr/0007).
//!
//! Beside it, and whatever the keeper does, it puts the keys there of those who may sign bundles ([`signers`]): the
//! platform's word, as the chart's values have it. Agent and keeper read them anew whenever they are asked.

mod files;
mod systemd;

use std::io::ErrorKind;

use liveupdate_host::HostError;
use liveupdate_host::bundle::Signers;
use liveupdate_host::linux::installation::{MARK, OTHER_UNIT_FILES, PROGRAM_FILE, SYSTEMD, UNIT, UNIT_FILE};
use liveupdate_host::linux::root::{ReadError, Root};
use liveupdate_keeper::{ClientError, KeeperClient};
use liveupdate_proto::keeper::v1::{Request, Status, reply, request};

pub use systemd::{Host, Systemd};

/// Longest program that is read; ours has a few MiB.
const LONGEST_PROGRAM: u64 = 64 << 20;

/// What is to be on the host.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The keeper's program.
    pub program: Vec<u8>,
    /// What its unit starts it with, after `--host linux`: the same words as the agent's.
    pub arguments: Vec<String>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// There was none.
    Installed,
    /// There was another one, which was idle.
    Replaced,
    /// It was there already, and runs.
    Same,
    /// There is another one, which is busy: this is why.
    LeftAlone(String),
}

/// Why the host is as it was, as far as the error does not say otherwise.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No systemd.
    #[error(
        "{SYSTEMD} is not there: this host is not run by systemd; start the keeper there by other means and switch its installation off"
    )]
    NoSystemd,
    /// Somebody else's unit.
    #[error(
        "{path} was not written by install-keeper: the keeper came to this host in another way; remove it there, or switch its installation off"
    )]
    Foreign {
        /// Its file.
        path: String,
    },
    /// An argument that a unit would understand otherwise.
    #[error(
        "the keeper's argument {argument:?} has {character:?} in it, which a unit of systemd may understand otherwise; leave it out"
    )]
    Argument {
        /// The whole of it.
        argument: String,
        /// What is wrong with it.
        character: char,
    },
    /// The shipped unit is not one.
    #[error("the unit that this agent brings has no line ExecStart=; build it again")]
    Unit,
    /// A file of the host cannot be read.
    #[error("cannot read what is installed")]
    Read(#[source] ReadError),
    /// A file of the host cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: &'static str,
        /// What the system said.
        #[source]
        why: std::io::Error,
    },
    /// systemd could not be asked, or refused.
    #[error("systemctl {what}: {why}")]
    Systemd {
        /// What it was asked.
        what: String,
        /// What it said.
        why: String,
    },
    /// The keeper that runs makes no sense.
    #[error("whether the keeper that runs is idle is not known")]
    Keeper(#[source] ClientError),
    /// Something that is to be a signer's key is none.
    #[error("not all that should be keys of signers are; nothing was changed: {}", .0.join(", "))]
    NoKeys(Vec<String>),
    /// The keys of signers are not as they should be.
    #[error("the keys of signers cannot be put on the host")]
    Signers(#[source] HostError),
    /// The new keeper did not come up.
    #[error("the new keeper does not come up ({why}); {undone}")]
    NotUp {
        /// What was seen.
        why: String,
        /// What became of the host.
        undone: String,
    },
}

/// Installs it. May be called at any time, and again after any error or kill.
///
/// # Errors
/// [`InstallError`].
pub fn install(
    root: &Root,
    wanted: &Wanted,
    systemd: &dyn Systemd,
    keeper: &dyn KeeperClient,
) -> Result<Done, InstallError> {
    let unit = unit(&wanted.arguments)?;
    if !root.exists(SYSTEMD) {
        return Err(InstallError::NoSystemd);
    }
    let before = files::Files {
        unit: known(root.bytes(UNIT_FILE, LONGEST_PROGRAM))?,
        program: known(root.bytes(PROGRAM_FILE, LONGEST_PROGRAM))?,
    };
    let elsewhere = OTHER_UNIT_FILES.into_iter().find(|path| root.exists(path));
    match &before.unit {
        Some(text) if !text.starts_with(MARK.as_bytes()) => {
            return Err(InstallError::Foreign { path: UNIT_FILE.to_owned() });
        }
        // Ours would hide it.
        None => {
            if let Some(path) = elsewhere {
                return Err(InstallError::Foreign { path: path.to_owned() });
            }
        }
        Some(_) => {}
    }
    let after = files::Files { unit: Some(unit.into_bytes()), program: Some(wanted.program.clone()) };
    if before == after {
        ask(systemd, &["daemon-reload"])?;
        ask(systemd, &["enable", "--now", UNIT])?;
        return Ok(Done::Same);
    }
    if let Some(why) = busy(keeper)? {
        return Ok(Done::LeftAlone(why));
    }
    let changed = after.write(root).and_then(|()| start(systemd, keeper));
    let Err(error) = changed else {
        return Ok(if before.unit.is_some() { Done::Replaced } else { Done::Installed });
    };
    let why = liveupdate_proto::causes::chain(&error);
    Err(InstallError::NotUp { why, undone: undo(root, &before, systemd) })
}

/// Puts the keys of those who may sign bundles into a folder of the host, and takes those away that it put there before;
/// true when that changed something. May be called at any time, and again after any error or kill.
///
/// # Errors
/// [`InstallError::NoKeys`], [`InstallError::Signers`].
pub fn signers(root: &Root, folder: &str, wanted: &Signers) -> Result<bool, InstallError> {
    if !wanted.skipped.is_empty() {
        return Err(InstallError::NoKeys(wanted.skipped.clone()));
    }
    liveupdate_host::linux::signers::put(root, folder, &wanted.signers).map_err(InstallError::Signers)
}

/// The unit's text: the shipped one, with this start.
fn unit(arguments: &[String]) -> Result<String, InstallError> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_./:=,@*+-".contains(character);
    for argument in arguments {
        if let Some(character) = argument.chars().find(|character| !plain(*character)) {
            return Err(InstallError::Argument { argument: argument.clone(), character });
        }
    }
    let mut start = vec![PROGRAM_FILE, "--host", "linux"];
    start.extend(arguments.iter().map(String::as_str));
    let start = format!("ExecStart={}", start.join(" "));
    let (mut text, mut found) = (format!("{MARK}\n"), false);
    for line in liveupdate_keeper::UNIT.lines() {
        let ours = line.starts_with("ExecStart=");
        found |= ours;
        text.push_str(if ours { &start } else { line });
        text.push('\n');
    }
    if found { Ok(text) } else { Err(InstallError::Unit) }
}

/// Why the keeper that runs must not be replaced now; none when it is idle, or none runs.
fn busy(keeper: &dyn KeeperClient) -> Result<Option<String>, InstallError> {
    let request = Request { subject: None, message: Some(request::Message::Status(Status {})) };
    let reply = match keeper.ask(&request) {
        Ok(reply) => reply,
        // Nobody listens. It does not run, or no more: what it had in custody is with systemd, and with the next one again.
        Err(ClientError::Unreachable { why, .. })
            if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) =>
        {
            return Ok(None);
        }
        // Somebody does, and may be at anything.
        Err(error @ ClientError::Unreachable { .. }) => {
            return Ok(Some(format!(
                "it runs and does not answer: {}",
                liveupdate_proto::causes::chain(&error)
            )));
        }
        Err(error) => return Err(InstallError::Keeper(error)),
    };
    Ok(match reply.message {
        Some(reply::Message::Idle(idle)) if !idle.open => None,
        Some(reply::Message::Idle(_)) => Some("holders may still come for their files".to_owned()),
        Some(reply::Message::Attempt(report)) => Some(format!(
            "attempt {} is {}, or nobody has confirmed its outcome",
            report.attempt,
            report.state().as_str_name()
        )),
        Some(reply::Message::Refusal(refusal)) => Some(refusal.message),
        None => Some("its answer is empty".to_owned()),
    })
}

/// Starts what is on the disk now; it answers when this returns.
fn start(systemd: &dyn Systemd, keeper: &dyn KeeperClient) -> Result<(), InstallError> {
    ask(systemd, &["daemon-reload"])?;
    ask(systemd, &["enable", UNIT])?;
    // Comes back when the keeper has said that it is ready.
    ask(systemd, &["restart", UNIT])?;
    let request = Request { subject: None, message: Some(request::Message::Status(Status {})) };
    keeper.ask(&request).map(drop).map_err(InstallError::Keeper)
}

/// Puts back what was there; what became of that, in words.
fn undo(root: &Root, before: &files::Files, systemd: &dyn Systemd) -> String {
    let again = before.unit.is_some();
    let undone = if again {
        before
            .write(root)
            .and_then(|()| ask(systemd, &["daemon-reload"]))
            .and_then(|()| ask(systemd, &["restart", UNIT]))
    } else {
        // Stopped and disabled while systemd still knows it.
        let ended = ask(systemd, &["disable", "--now", UNIT]);
        ended.and(before.write(root)).and_then(|()| ask(systemd, &["daemon-reload"]))
    };
    match (undone, again) {
        (Ok(()), true) => "the one before runs again".to_owned(),
        (Ok(()), false) => "it is removed again".to_owned(),
        (Err(error), _) => {
            format!("and that could not be undone: {}", liveupdate_proto::causes::chain(&error))
        }
    }
}

fn known(bytes: Result<Vec<u8>, ReadError>) -> Result<Option<Vec<u8>>, InstallError> {
    match bytes {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(InstallError::Read(error)),
    }
}

fn ask(systemd: &dyn Systemd, arguments: &[&str]) -> Result<(), InstallError> {
    systemd.ask(arguments).map_err(|why| InstallError::Systemd { what: arguments.join(" "), why })
}
