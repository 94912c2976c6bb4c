//! Before the jump, while guests run: taking custody, and giving it back.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use liveupdate_node_core::custody::Phase;
use liveupdate_node_core::holder::{Event, State as Handover};

use super::arrived::Unread;
use super::index::{Claim, Entry, Index, Kind, MAX_HOLDERS};
use super::index_file::IndexFile;
use super::sessions::{INDEX, OWN};
use super::state::{Leaving, Part, Shared, State};
use crate::linux::luo::{LuoError, SessionName, Token};
use crate::{Custody, HostError};

/// How often whoever waits asks whether it shall go on waiting.
const SLICE: Duration = Duration::from_millis(50);
/// For a holder to be ready for its files to be taken, and more for each GiB.
const PRESERVE: Duration = Duration::from_secs(60);

pub(super) fn wrong(operation: &'static str, why: impl Into<String>) -> HostError {
    HostError::WrongMoment { operation, why: why.into() }
}

pub(super) fn not_preserved(subject: &str, why: impl Into<String>) -> HostError {
    HostError::NotPreserved { subject: subject.into(), why: why.into() }
}

fn refused(subject: &str, error: &LuoError) -> HostError {
    let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
    not_preserved(subject, format!("{error}{cause}"))
}

impl Shared {
    /// All or nothing: after an error everybody has what they had.
    pub(super) fn preserve(
        &self,
        attempt: &str,
        devices: &[String],
        go_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), HostError> {
        let _operation = self.operate();
        if !self.begin(attempt, devices)? {
            return Ok(());
        }
        let taken = self.await_ready(go_on).and_then(|()| self.take(go_on)).and_then(|()| self.write_index());
        if taken.is_err() {
            self.give_back("its files were not preserved")?;
        }
        self.publish(&self.lock());
        taken
    }

    /// False: it is in custody already.
    fn begin(&self, attempt: &str, devices: &[String]) -> Result<bool, HostError> {
        let mut state = self.lock();
        if let Some(leaving) = &state.leaving {
            let same = leaving.index.attempt == attempt && leaving.devices == devices;
            let other = leaving.index.attempt.clone();
            return if same {
                Ok(false)
            } else {
                Err(wrong("preserve", format!("attempt {other} has custody")))
            };
        }
        if state.ledger.phase() != Phase::Empty {
            return Err(wrong("preserve", "holders may still come for what came through the last jump"));
        }
        if state.unread.is_some() {
            return Err(wrong("preserve", Unread::why()));
        }
        let names = chosen(&state, devices)?;
        let mut index = Index {
            attempt: attempt.to_owned(),
            boot_id: self.options.boot_id.clone(),
            counter_khz: state.counter_khz.or(state.own_khz),
            ..Index::default()
        };
        let mut parts = Vec::new();
        state.undone = None;
        for name in names {
            let Some(connected) = state.connected.get_mut(&name) else { continue };
            // What it said of an earlier attempt is not this one's.
            connected.checks.clear();
            let declared = connected.declared.iter().flat_map(|declared| &declared.files);
            index.holders.push(Entry {
                owner: connected.peer.key(),
                session: format!("{OWN}.{}", parts.len()),
                objects: declared.map(|file| file.object.clone()).collect(),
                quiesced: None,
                dma_quiescent: false,
                claim: Claim::Awaited,
                resumed: None,
                seen: Vec::new(),
                name: name.clone(),
            });
            let (session, asked, vote, lost, resumed) = (None, false, None, None, None);
            let (connection, peer) = (connected.id, Arc::clone(&connected.peer));
            parts.push(Part { name, connection, peer, session, ready: false, asked, vote, lost, resumed });
        }
        let devices = devices.to_vec();
        state.leaving = Some(Leaving { index, devices, parts, file: None, own: None, deadline_ms: 0 });
        for name in part_names(&state) {
            state.step(&name, Event::Preserve);
        }
        Ok(true)
    }

    /// Every holder says that its files can be taken.
    fn await_ready(&self, go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        let gigabytes =
            self.lock().leaving.iter().flat_map(|l| &l.index.holders).map(Entry::memory_bytes).sum::<u64>()
                >> 30;
        let until = Instant::now() + PRESERVE + Duration::from_secs(gigabytes);
        loop {
            if !go_on() {
                return Err(HostError::Cancelled);
            }
            let mut state = self.lock();
            let Some(leaving) = &state.leaving else { return Err(wrong("preserve", "custody was given up")) };
            let lost = leaving.parts.iter().find_map(|part| Some((&part.name, part.lost.as_ref()?)));
            if let Some((name, why)) = lost {
                return Err(not_preserved(name, why.as_str()));
            }
            let waiting: Vec<String> =
                leaving.parts.iter().filter(|part| !part.ready).map(|part| part.name.clone()).collect();
            if waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                for name in waiting {
                    state.step(&name, Event::Late);
                }
                continue;
            }
            let woken = self.changed.wait_timeout(state, SLICE);
            drop(woken.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// One session each, and our own with the index. Pinning memory takes seconds per GiB: nothing is locked meanwhile.
    fn take(&self, go_on: &mut dyn FnMut() -> bool) -> Result<(), HostError> {
        let plan: Vec<(String, u64, String)> = {
            let state = self.lock();
            let leaving = state.leaving.iter();
            let pairs = leaving.flat_map(|leaving| leaving.parts.iter().zip(&leaving.index.holders));
            pairs.map(|(part, entry)| (part.name.clone(), part.connection, entry.session.clone())).collect()
        };
        for (name, connection, session) in plan {
            let files = self.files_of(&name, connection)?;
            let session = SessionName::new(session).map_err(|error| refused(&name, &error))?;
            let session = self.orchestrator.create(&session).map_err(|error| refused(&name, &error))?;
            // In the order in which they are frozen: memory needs nothing, and a device that cannot be frozen has
            // disturbed nobody then. It is given back in reverse.
            for (token, file) in &files {
                if !go_on() {
                    return Err(HostError::Cancelled);
                }
                session.preserve(Token(*token), file.as_fd()).map_err(|error| refused(&name, &error))?;
            }
            let mut state = self.lock();
            state.step(&name, Event::Preserved);
            let part = state.leaving.as_mut().and_then(|leaving| leaving.part(&name, connection));
            let part = part.ok_or_else(|| not_preserved(&name, "it went away"))?;
            part.session = Some(session);
            if let Some(why) = &part.lost {
                return Err(not_preserved(&name, why.as_str()));
            }
            let tokens = files.iter().map(|(token, _)| *token).collect();
            state.ledger.take(&name, tokens).map_err(|refusal| not_preserved(&name, refusal.to_string()))?;
        }
        let own = SessionName::new(OWN).map_err(|error| refused(OWN, &error))?;
        let own = self.orchestrator.create(&own).map_err(|error| refused(OWN, &error))?;
        let index = self.lock().leaving.as_ref().map(|leaving| leaving.index.clone()).unwrap_or_default();
        let file = IndexFile::create(&index)?;
        own.preserve(INDEX, file.as_fd()).map_err(|error| refused(OWN, &error))?;
        if let Some(leaving) = self.lock().leaving.as_mut() {
            (leaving.own, leaving.file) = (Some(own), Some(file));
        }
        Ok(())
    }

    /// Copies of a holder's files, and their sizes as they are now: from here on they are fixed.
    fn files_of(&self, name: &str, connection: u64) -> Result<Vec<(u64, std::os::fd::OwnedFd)>, HostError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let gone = || not_preserved(name, "it went away");
        let connected = state.connected.get(name).filter(|c| c.id == connection).ok_or_else(gone)?;
        let declared = connected.declared.as_ref().ok_or_else(gone)?;
        let entries = state.leaving.iter_mut().flat_map(|leaving| &mut leaving.index.holders);
        let mut objects: Vec<_> = entries.filter(|e| e.name == name).flat_map(|e| &mut e.objects).collect();
        let mut files = Vec::new();
        let (memory, devices): (Vec<_>, Vec<_>) =
            declared.files.iter().partition(|file| matches!(file.object.kind, Kind::Memory(_)));
        for declared in memory.into_iter().chain(devices) {
            let io = |error: &dyn ToString| HostError::Io {
                what: format!("look at token {} of {name}", declared.object.token),
                why: error.to_string(),
            };
            let size = rustix::fs::fstat(&declared.file).map_err(|error| io(&error))?.st_size;
            for object in objects.iter_mut().filter(|object| object.token == declared.object.token) {
                if let Kind::Memory(bytes) = &mut object.kind {
                    *bytes = u64::try_from(size).unwrap_or_default();
                }
            }
            files.push((declared.object.token, declared.file.try_clone().map_err(|error| io(&error))?));
        }
        Ok(files)
    }

    fn write_index(&self) -> Result<(), HostError> {
        let mut state = self.lock();
        let Some(Leaving { index, file: Some(file), .. }) = state.leaving.as_mut() else { return Ok(()) };
        file.write(index)
    }

    /// What is in custody.
    pub(super) fn preserved(&self) -> Option<Custody> {
        let state = self.lock();
        let leaving = state.leaving.as_ref()?;
        let whole = leaving.own.is_some() && leaving.parts.iter().all(|part| part.lost.is_none());
        whole.then(|| Custody { attempt: leaving.index.attempt.clone(), devices: leaving.devices.clone() })
    }

    /// Gives up custody. Who may stand still is told to go on.
    pub(super) fn unpreserve(&self) -> Result<(), HostError> {
        let _operation = self.operate();
        if self.lock().leaving.is_none() {
            return Ok(());
        }
        self.give_back("custody is given up")?;
        self.publish(&self.lock());
        Ok(())
    }

    fn give_back(&self, why: &str) -> Result<(), HostError> {
        let mut state = self.lock();
        let drops = state.ledger.unpreserve().map_err(|refusal| wrong("unpreserve", refusal.to_string()))?;
        for name in part_names(&state).into_iter().rev() {
            state.step(&name, Event::Undo(why.to_owned()));
        }
        let parted = state.leaving.take().map(Leaving::part_with);
        let (sessions, undone) = parted.unwrap_or_default();
        // Under the same lock: what one of them says next finds it.
        state.undone = Some(undone);
        drop(state);
        // The ledger's leave covers all sessions: each holder has its own files still.
        drop(drops);
        sessions.into_iter().for_each(drop);
        Ok(())
    }
}

/// Who takes part: the devices' holders, and who has memory alone.
fn chosen(state: &State, devices: &[String]) -> Result<BTreeSet<String>, HostError> {
    let mut names = BTreeSet::new();
    for address in devices {
        let holder = state.connected.iter().find(|(_, connected)| {
            connected.declared.as_ref().is_some_and(|declared| declared.devices().any(|d| d == address))
        });
        let (name, _) = holder.ok_or_else(|| {
            not_preserved(address, "nobody who speaks the handover protocol has declared it")
        })?;
        names.insert(name.clone());
    }
    for (name, connected) in &state.connected {
        if connected.declared.as_ref().is_some_and(|d| d.devices().next().is_none() && !d.files.is_empty()) {
            names.insert(name.clone());
        }
    }
    if names.is_empty() {
        return Err(wrong("preserve", "no holder has declared anything"));
    }
    if names.len() > MAX_HOLDERS {
        return Err(wrong(
            "preserve",
            format!("{} holders, at most {MAX_HOLDERS} can be taken", names.len()),
        ));
    }
    for name in &names {
        let Some(connected) = state.connected.get(name) else { continue };
        let declared = connected.declared.as_ref();
        if declared.is_some_and(|declared| declared.refuses) {
            return Err(not_preserved(name, "its owner refuses any update"));
        }
        let others = declared.iter().flat_map(|declared| declared.devices());
        if let Some(device) = others.into_iter().find(|device| !devices.iter().any(|d| d == device)) {
            return Err(not_preserved(name, format!("it also has {device}, which the attempt leaves out")));
        }
        if connected.handover != Handover::Declared {
            return Err(not_preserved(name, format!("it is {}", connected.handover.as_str())));
        }
    }
    Ok(names)
}

pub(super) fn part_names(state: &State) -> Vec<String> {
    state.leaving.iter().flat_map(|leaving| &leaving.parts).map(|part| part.name.clone()).collect()
}
