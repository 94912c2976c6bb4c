//! What came through the jump, as it is found at the keeper's start.
//!
//! ```text
//!  fd store ──┐                                  ┌─ each holder's session, by its name in the index
//!             ├─► our own session ─► the index ──┤
//!  LUO ───────┘                                  └─ arrived.json: what is known when even that is lost
//! ```
//! Sessions are taken at once, all of them: a session that nobody takes is lost at the next jump. That nothing came is
//! believed only when the kernel says so: whatever else is in the way passes, and is no answer ([`is_final`]).

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use liveupdate_node_core::custody::Custody as Ledger;
use liveupdate_proto::causes::chain;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::index::{Claim, Entry, Index};
use super::index_file::IndexFile;
use super::log::report;
use super::published;
use super::sessions::{self, INDEX, OWN, Orchestrate};
use super::store::FdStore;
use crate::HostError;
use crate::linux::luo::{LuoError, SessionName};

/// What came through the jump.
pub(super) struct Arrived {
    pub(super) index: Index,
    /// Ours; none when it was finished, or lost.
    own: Option<Box<dyn sessions::Arrived>>,
    file: Option<IndexFile>,
    /// Those that are not finished, by holder.
    pub(super) sessions: BTreeMap<String, Session>,
    /// Where a later keeper of this boot finds what is known.
    record: PathBuf,
    boot_id: String,
}

/// What a keeper finds when it starts.
pub(super) enum Found {
    /// Nothing came through a jump, by the kernel's word.
    Nothing,
    /// All that came is known.
    Arrived(Box<Arrived>),
    /// Something came, and nobody can say what.
    Unread(Unread),
}

/// What came through the jump under an index that cannot be read. Holders' sessions stay in the kernel, where nobody takes
/// them, and the next jump would end them.
pub(super) struct Unread {
    /// Ours; none when it was lost with a keeper of this boot.
    own: Option<Box<dyn sessions::Arrived>>,
    record: PathBuf,
}

/// A holder's session, if it is here.
pub(super) type Session = Result<Box<dyn sessions::Arrived>, Missing>;

/// Why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// It could not be taken, for a reason that passes: the kernel has it still, and it is tried again.
    Yet(String),
    /// Nobody can get it any more.
    Lost(String),
}

/// How long the index is tried again in this process before the next one tries.
const PATIENCE: Duration = Duration::from_secs(2);

/// For a keeper that dies after the jump with nobody to keep its files.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    /// The boot that it arrived on.
    boot_id: String,
    /// None: it cannot be read.
    index: Option<Index>,
}

/// What a keeper of this boot knew.
enum Remembered {
    Nothing,
    Index(Index),
    Unread,
}

impl Unread {
    /// On record, for a keeper that has our session no more.
    fn note(own: Option<Box<dyn sessions::Arrived>>, record: &Path, boot_id: &str) -> Self {
        let noted = Record { boot_id: boot_id.to_owned(), index: None };
        if let Err(error) = published::replace(record, &noted) {
            report(&error.to_string());
        }
        Self { own, record: record.to_owned() }
    }

    /// Why nothing new may begin over it.
    pub(super) fn why() -> &'static str {
        "what came through the last jump is kept, and its index cannot be read: start the keeper that wrote it, or give it \
         up by the verb release"
    }

    /// Gives it up: an operator's word. Holders' sessions have no names any more by which they could be ended: what they hold
    /// stays taken until the next reboot.
    pub(super) fn release(&mut self, store: &FdStore) -> Result<(), String> {
        if let Some(own) = &self.own {
            own.finish().map_err(|error| chain(&error))?;
            self.own = None;
            forget(store, OWN);
        }
        match fs::remove_file(&self.record) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(format!("{} cannot be removed: {error}", self.record.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Arrived {
    /// Finds it.
    ///
    /// # Errors
    /// The kernel does not say now whether something came. Nobody may be told anything until it does: who believes that
    /// nothing waits makes new memory, and what is in the kernel still is lost at the next jump.
    pub(super) fn find(
        orchestrator: &dyn Orchestrate,
        store: &FdStore,
        mut kept: BTreeMap<String, OwnedFd>,
        record: &Path,
        boot_id: &str,
    ) -> Result<Found, HostError> {
        let (own, file, known) = match take(orchestrator, store, kept.remove(OWN), OWN) {
            Ok(Some(own)) => {
                let read = read_index(&*own, store).map_err(|error| unknown(&error))?;
                let read = read.and_then(|file| IndexFile::arrived(file).map_err(|error| error.to_string()));
                match read {
                    Ok((file, index)) => (Some(own), Some(file), Remembered::Index(index)),
                    Err(why) => {
                        report(&format!("the index that came through the jump cannot be read: {why}"));
                        let known = match remembered(record, boot_id)? {
                            Remembered::Nothing => Remembered::Unread,
                            known => known,
                        };
                        (Some(own), None, known)
                    }
                }
            }
            Ok(None) => (None, None, remembered(record, boot_id)?),
            Err(error) if is_final(&error) => {
                report(&format!("what came through a jump cannot be taken: {}", chain(&error)));
                (None, None, remembered(record, boot_id)?)
            }
            Err(error) => return Err(unknown(&error)),
        };
        let index = match known {
            Remembered::Index(index) => index,
            Remembered::Nothing => return Ok(Found::Nothing),
            Remembered::Unread => return Ok(Found::Unread(Unread::note(own, record, boot_id))),
        };
        let (mut sessions, mut hindered) = (BTreeMap::new(), None);
        for entry in &index.holders {
            let ours = kept.remove(&entry.session);
            let was_kept = ours.is_some();
            if entry.claim == Claim::Resumed && !was_kept {
                // Finished by the keeper before this one.
                continue;
            }
            // What stands in the way of one stands in that of all: holders are heard first, and the rest is taken then.
            let taken = match (&hindered, was_kept) {
                (Some(why), false) => Err(Missing::Yet(String::clone(why))),
                _ => match take(orchestrator, store, ours, &entry.session) {
                    Ok(Some(session)) => Ok(session),
                    // The service manager has it still, and hands it to the next keeper.
                    Err(error) if was_kept && !is_final(&error) => return Err(unknown(&error)),
                    missing => Err(not_taken(missing)),
                },
            };
            if let Err(Missing::Yet(why)) = &taken {
                report(&format!("the session of {} is not taken yet: {why}", entry.name));
                hindered = Some(why.clone());
            }
            if entry.claim == Claim::Resumed && taken.is_err() {
                continue;
            }
            sessions.insert(entry.name.clone(), taken);
        }
        let mut arrived =
            Self { index, own, file, sessions, record: record.to_owned(), boot_id: boot_id.to_owned() };
        if let Err(error) = arrived.write() {
            report(&error.to_string());
        }
        Ok(Found::Arrived(Box::new(arrived)))
    }

    /// Something of it is neither given back nor given up.
    pub(super) fn is_kept(&self) -> bool {
        self.own.is_some() || !self.sessions.is_empty()
    }

    /// Holders whose sessions are not taken yet, with the names of those; of all, or of one.
    pub(super) fn not_taken_yet(&self, only: Option<&str>) -> Vec<(String, String)> {
        let entries = self.index.holders.iter().filter(|entry| only.is_none_or(|name| name == entry.name));
        entries
            .filter(|entry| matches!(self.sessions.get(&entry.name), Some(Err(Missing::Yet(_)))))
            .map(|entry| (entry.name.clone(), entry.session.clone()))
            .collect()
    }

    /// What is still kept, as the core counts it.
    pub(super) fn ledger(&self) -> Result<Ledger, String> {
        let mut ledger = Ledger::default();
        let kept: Vec<&Entry> =
            self.index.holders.iter().filter(|entry| self.sessions.contains_key(&entry.name)).collect();
        let mut fill = || {
            for entry in &kept {
                ledger.take(&entry.name, entry.objects.iter().map(|object| object.token).collect())?;
            }
            ledger.commit()?;
            ledger.jumped()?;
            for entry in &kept {
                if entry.claim != Claim::Awaited {
                    ledger.grant(&entry.name)?;
                }
                if entry.claim == Claim::Resumed {
                    ledger.resumed(&entry.name)?;
                }
            }
            Ok(())
        };
        fill().map_err(|refusal: liveupdate_node_core::custody::Refusal| refusal.to_string())?;
        Ok(ledger)
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.index.holders.iter().find(|entry| entry.name == name)
    }

    pub(super) fn entry_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.index.holders.iter_mut().find(|entry| entry.name == name)
    }

    /// Somebody may come for this holder's files.
    pub(super) fn awaits(&self, name: &str) -> bool {
        self.sessions.contains_key(name)
            && self.entry(name).is_some_and(|entry| entry.claim != Claim::Resumed)
    }

    /// Writes down how far everybody is: in both places, also where one fails.
    pub(super) fn write(&mut self) -> Result<(), HostError> {
        let written = self.file.as_mut().map_or(Ok(()), |file| file.write(&self.index));
        let record = Record { boot_id: self.boot_id.clone(), index: Some(self.index.clone()) };
        published::replace(&self.record, &record).and(written)
    }

    /// Ends our own session, when no other is left.
    pub(super) fn finish_own(&mut self, store: &FdStore) -> Result<(), String> {
        let Some(own) = &self.own else { return Ok(()) };
        own.finish().map_err(|error| chain(&error))?;
        self.own = None;
        forget(store, OWN);
        Ok(())
    }
}

/// Whether an answer stays the same however often the kernel is asked: there is no device, or no such session (ENOENT); it
/// was taken already (EINVAL); what came could not be read, which the kernel remembers until the next reboot (EIO); this
/// kernel does not know the call (ENOTTY). All else passes: another process has the device open (EBUSY), there is no file
/// or memory for one more (EMFILE, ENFILE, ENOMEM). A session is marked as taken only when its file exists, so that none of
/// these takes it.
fn is_final(error: &LuoError) -> bool {
    // Without an errno: no session can have that name.
    error.errno().is_none_or(|errno| matches!(errno, Errno::NOENT | Errno::INVAL | Errno::IO | Errno::NOTTY))
}

fn unknown(error: &LuoError) -> HostError {
    HostError::Io {
        what:
            "find out what came through a jump (it is kept, and tried again when the keeper is started again)"
                .into(),
        why: chain(error),
    }
}

/// A session that was kept for us, or else that the kernel has; from then on the service manager keeps it. None: there is
/// no such session, and no orchestrator in which there could be one.
fn take(
    orchestrator: &dyn Orchestrate,
    store: &FdStore,
    kept: Option<OwnedFd>,
    name: &str,
) -> Result<Option<Box<dyn sessions::Arrived>>, LuoError> {
    if let Some(file) = kept {
        match orchestrator.kept(file) {
            // Whatever it is, the kernel may have the session.
            Err(error) if error.errno() == Some(Errno::NOTTY) => {
                report(&format!(
                    "what the service manager kept as session {name} is none: {}",
                    chain(&error)
                ));
            }
            taken => return taken.map(Some),
        }
    }
    match orchestrator.retrieve(&SessionName::new(name)?) {
        Ok(session) => {
            keep(store, name, &*session);
            Ok(Some(session))
        }
        // INVAL: it was taken already, by a keeper of this boot that is no more.
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::INVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A session that could not be taken when the keeper started.
pub(super) fn take_late(orchestrator: &dyn Orchestrate, store: &FdStore, name: &str) -> Session {
    match take(orchestrator, store, None, name) {
        Ok(Some(session)) => Ok(session),
        taken => Err(not_taken(taken)),
    }
}

fn not_taken(taken: Result<Option<Box<dyn sessions::Arrived>>, LuoError>) -> Missing {
    match taken {
        Err(error) if is_final(&error) => Missing::Lost(chain(&error)),
        Err(error) => Missing::Yet(chain(&error)),
        Ok(_) => Missing::Lost(
            "it did not come through the jump, or was lost when the keeper ended without a service manager's fd store"
                .into(),
        ),
    }
}

/// The index's file; the sentence says why there is none. An error may pass, and the next keeper may have it.
fn read_index(own: &dyn sessions::Arrived, store: &FdStore) -> Result<Result<OwnedFd, String>, LuoError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match own.retrieve(INDEX) {
            Ok(file) => return Ok(Ok(file)),
            Err(error) => error,
        };
        let late = Instant::now() >= until;
        // The kernel remembers a failure of its own and gives the same answer for ever; but it looks for a number for the
        // file first, and these two can mean that there was none.
        match error.errno() {
            Some(Errno::MFILE) if late && store.keeps() => return Err(error),
            // With nobody who keeps the session, ending would end it.
            Some(Errno::MFILE) => {}
            Some(Errno::NOMEM) if !late => {}
            _ => return Ok(Err(chain(&error))),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What an earlier keeper of this boot knew. What cannot be read now is not nothing.
fn remembered(record: &Path, boot_id: &str) -> Result<Remembered, HostError> {
    let text = match fs::read(record) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Remembered::Nothing),
        Err(error) => {
            let what = format!(
                "read {}, where a keeper of this boot left what came through a jump",
                record.display()
            );
            return Err(HostError::Io { what, why: error.to_string() });
        }
    };
    Ok(match serde_json::from_slice::<Record>(&text) {
        Ok(known) if known.boot_id != boot_id => Remembered::Nothing,
        Ok(known) => known.index.map_or(Remembered::Unread, Remembered::Index),
        Err(error) => {
            report(&format!("{} is malformed, and nobody knows of it what came: {error}", record.display()));
            Remembered::Unread
        }
    })
}

/// With the service manager, so that it survives us.
fn keep(store: &FdStore, name: &str, session: &dyn sessions::Arrived) {
    if let Err(error) = store.put(name, session.file()) {
        report(&format!(
            "session {name} is not in the service manager's fd store and dies with the keeper: {error}"
        ));
    }
}

pub(super) fn forget(store: &FdStore, name: &str) {
    if let Err(error) = store.remove(name) {
        report(&format!("session {name} stays in the service manager's fd store: {error}"));
    }
}
