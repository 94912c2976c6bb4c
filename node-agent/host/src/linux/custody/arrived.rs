//! What came through the jump, as it is found at the keeper's start.
//!
//! ```text
//!  fd store ──┐                                  ┌─ each holder's session, by its name in the index
//!             ├─► our own session ─► the index ──┤
//!  LUO ───────┘                                  └─ arrived.json: what is known when even that is lost
//! ```
//! Sessions are taken at once, all of them: a session that nobody takes is lost at the next jump.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

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
    /// Those that are not finished, by holder; or why one is lost.
    pub(super) sessions: BTreeMap<String, Result<Box<dyn sessions::Arrived>, String>>,
    /// Where a later keeper of this boot finds what is known.
    record: PathBuf,
    boot_id: String,
}

/// For a keeper that dies after the jump with nobody to keep its files.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    /// The boot that it arrived on.
    boot_id: String,
    index: Index,
}

impl Arrived {
    /// Finds it; none when nothing came.
    pub(super) fn find(
        orchestrator: &dyn Orchestrate,
        store: &FdStore,
        mut kept: BTreeMap<String, OwnedFd>,
        record: &Path,
        boot_id: &str,
    ) -> Option<Self> {
        let own = take(orchestrator, store, kept.remove(OWN), OWN);
        let (own, found) = match own {
            Ok(Some(own)) => {
                let read = own.retrieve(INDEX).map_err(|error| chain(&error));
                let read = read.and_then(|file| IndexFile::arrived(file).map_err(|error| error.to_string()));
                match read {
                    Ok((file, index)) => (Some(own), Some((Some(file), index))),
                    Err(why) => {
                        report(&format!("the index that came through the jump cannot be read: {why}"));
                        // Not ended: what it stands for is kept until the next reboot.
                        std::mem::forget(own);
                        return None;
                    }
                }
            }
            Ok(None) => (None, remembered(record, boot_id).map(|index| (None, index))),
            Err(error) => {
                report(&format!("what came through a jump cannot be taken: {}", chain(&error)));
                (None, remembered(record, boot_id).map(|index| (None, index)))
            }
        };
        let (file, index) = found?;
        let mut sessions = BTreeMap::new();
        for entry in &index.holders {
            match take(orchestrator, store, kept.remove(&entry.session), &entry.session) {
                Ok(Some(session)) => {
                    sessions.insert(entry.name.clone(), Ok(session));
                }
                // Finished by the keeper before this one.
                Ok(None) | Err(_) if entry.claim == Claim::Resumed => {}
                Ok(None) => {
                    let why = "it did not come through the jump, or was lost when the keeper ended without a service manager's fd store";
                    sessions.insert(entry.name.clone(), Err(why.to_owned()));
                }
                Err(error) => {
                    sessions.insert(entry.name.clone(), Err(chain(&error)));
                }
            }
        }
        let mut arrived =
            Self { index, own, file, sessions, record: record.to_owned(), boot_id: boot_id.to_owned() };
        if let Err(error) = arrived.write() {
            report(&error.to_string());
        }
        Some(arrived)
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

    /// Writes down how far everybody is.
    pub(super) fn write(&mut self) -> Result<(), HostError> {
        if let Some(file) = self.file.as_mut() {
            file.write(&self.index)?;
        }
        let record = Record { boot_id: self.boot_id.clone(), index: self.index.clone() };
        published::replace(&self.record, &record)
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

/// A session that was kept for us, or else that the kernel has; from then on the service manager keeps it. None: there is
/// no such session, and no orchestrator in which there could be one.
fn take(
    orchestrator: &dyn Orchestrate,
    store: &FdStore,
    kept: Option<OwnedFd>,
    name: &str,
) -> Result<Option<Box<dyn sessions::Arrived>>, LuoError> {
    if let Some(file) = kept {
        return orchestrator.kept(file).map(Some);
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

fn remembered(record: &Path, boot_id: &str) -> Option<Index> {
    let record: Record = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    (record.boot_id == boot_id).then_some(record.index)
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
