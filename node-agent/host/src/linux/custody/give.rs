//! After the jump: giving back, and ending custody of what has gone back (invariant 8).

use std::collections::BTreeMap;
use std::sync::PoisonError;

use liveupdate_node_core::GateResult;
use liveupdate_node_core::custody::Phase;
use liveupdate_node_core::holder::{Effect, Event, State as Handover};
use liveupdate_proto::causes::chain;
use liveupdate_proto::common::v1::DeviceFacts;
use liveupdate_proto::handover::v1::envelope::Message;
use liveupdate_proto::handover::v1::{DeviceGrant, Done, Grant, Object, ObjectKind};

use super::arrived::{self, Missing, Unread, forget};
use super::index::{Claim, Entry, Kind};
use super::leave::wrong;
use super::log::report;
use super::peer::Peer;
use super::seen::{self, Look, When};
use super::state::{Shared, State};
use super::stop;
use crate::linux::cgroup::{self, Level};
use crate::linux::gates::memory_charge_of;
use crate::linux::root::ReadError;
use crate::{HostError, ReclaimedDevice, ReclaimedHolder};

impl Shared {
    /// A successor asks for its files. The sentence says why it does not get them now; they are kept.
    pub(super) fn reclaim_for(&self, name: &str, peer: &Peer) -> Result<(), String> {
        let (bytes, charged) = {
            let state = self.lock();
            let entry = state.arrived.as_ref().filter(|arrived| arrived.awaits(name));
            let entry = entry.and_then(|arrived| arrived.entry(name)).ok_or("nothing is kept for you")?;
            (entry.memory_bytes(), Charged::of(&state, entry))
        };
        self.take_late(Some(name));
        let groups = self.has_room(name, peer, bytes, &charged)?;
        let mut guard = self.lock();
        let state = &mut *guard;
        let arrived =
            state.arrived.as_mut().filter(|arrived| arrived.awaits(name)).ok_or("nothing is kept for you")?;
        match arrived.sessions.get(name) {
            Some(Err(Missing::Lost(why))) => {
                return Err(format!("your session cannot be given to you: {why}"));
            }
            Some(Err(Missing::Yet(why))) => {
                return Err(format!(
                    "your session cannot be given to you yet, and is kept: {why}; ask again"
                ));
            }
            Some(Ok(_)) | None => {}
        }
        let before = state.connected.get(name).map(|connected| connected.handover);
        if !state.step(name, Event::Reclaim).is_some_and(|effects| effects.contains(&Effect::Grant)) {
            return Err(format!("Reclaim does not fit while {}", before.map_or("gone", Handover::as_str)));
        }
        state.ledger.grant(name).map_err(|refusal| refusal.to_string())?;
        if charged != Charged::Unknown {
            let before = state.before_grant.entry(name.to_owned()).or_default();
            for group in groups {
                before.entry(group.path).or_insert(group.shmem);
            }
        }
        let Some(arrived) = state.arrived.as_mut() else { return Ok(()) };
        if let Some(entry) = arrived.entry_mut(name) {
            entry.claim = Claim::Granted;
        }
        if let Err(error) = arrived.write() {
            report(&error.to_string());
        }
        let attempt = arrived.index.attempt.clone();
        let (Some(entry), Some(Ok(session))) = (arrived.entry(name), arrived.sessions.get(name)) else {
            return Ok(());
        };
        let look = self.look(state.counter_khz.or(state.own_khz), When::Granted);
        if let Some(connected) = state.connected.get_mut(name) {
            // What an earlier successor found is not this one's.
            connected.checks.clear();
            connected.say(&attempt, Message::Grant(grant(entry, look)), &[session.file()]);
        }
        Ok(())
    }

    /// Takes what could not be taken when the keeper started: one holder's, or everybody's. The kernel may have to be waited
    /// for, and the state's lock is not held meanwhile.
    fn take_late(&self, only: Option<&str>) {
        let yet =
            || self.lock().arrived.as_ref().map(|arrived| arrived.not_taken_yet(only)).unwrap_or_default();
        if yet().is_empty() {
            return;
        }
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        // Anew: whoever had the turn before may have taken them.
        for (name, session) in yet() {
            let taken = arrived::take_late(&*self.orchestrator, &self.store, &session);
            let hindered = matches!(taken, Err(Missing::Yet(_)));
            let mut state = self.lock();
            let slot = state.arrived.as_mut().and_then(|arrived| arrived.sessions.get_mut(&name));
            // Given up meanwhile: dropping it ends it, too.
            if let Some(slot @ Err(Missing::Yet(_))) = slot {
                *slot = taken;
            }
            if hindered {
                return;
            }
        }
    }

    /// Whether its group, and every one above it, can be charged with the memory: who runs out while retrieving is
    /// killed, and the memory is gone. Not to know is no pass; the root group has no limit. The groups that were looked
    /// at.
    fn has_room(&self, name: &str, peer: &Peer, bytes: u64, charged: &Charged) -> Result<Vec<Level>, String> {
        if bytes == 0 || peer.cgroup == "/" {
            return Ok(Vec::new());
        }
        let levels = cgroup::memory(&self.options.root, &peer.cgroup);
        if matches!(&levels, Err(ReadError::Absent { path }) if path.ends_with("/memory.max"))
            && cgroup::one_hierarchy(&self.options.root, peer.pid)
        {
            // Nobody accounts for memory up to the root: there is no limit.
            return Ok(Vec::new());
        }
        let gate = memory_charge_of(name, levels.as_deref(), bytes, |level| charged.at(level));
        if gate.result == GateResult::Pass {
            return Ok(levels.unwrap_or_default());
        }
        Err(format!("your control group cannot take the memory: {}; {}", gate.evidence, gate.remedy))
    }

    /// A successor goes on: only now may its session end.
    pub(super) fn resumed_after(&self, state: &mut State, name: &str, ticks: u64) -> Result<(), String> {
        state.ledger.resumed(name).map_err(|refusal| refusal.to_string())?;
        let look = self.look(state.counter_khz.or(state.own_khz), When::Jumped);
        let checks = state.connected.get(name).map(|connected| connected.checks.as_slice());
        let Some(arrived) = state.arrived.as_mut() else { return Ok(()) };
        if let Some(entry) = arrived.entry_mut(name) {
            // Before its session ends: afterwards anybody may reset them.
            entry.seen = look.all(entry, checks.unwrap_or_default());
            entry.claim = Claim::Resumed;
            entry.resumed = Some(ticks);
        }
        // On record before anything ends, for a keeper that dies between.
        if let Err(error) = arrived.write() {
            report(&error.to_string());
        }
        self.finish_one(state, name);
        Ok(())
    }

    /// FINISH, and `Done`. What the kernel refuses now is tried again.
    fn finish_one(&self, state: &mut State, name: &str) {
        let Some(arrived) = state.arrived.as_mut() else { return };
        let may = state
            .ledger
            .kept()
            .get(name)
            .is_some_and(|kept| kept.claim == liveupdate_node_core::custody::Claim::Resumed);
        let (true, Some(Ok(session))) = (may, arrived.sessions.get(name)) else { return };
        if let Err(error) = session.finish() {
            report(&format!("{name} has resumed, but its session does not end yet: {}", chain(&error)));
            return;
        }
        match state.ledger.finish(name) {
            Ok(leave) => drop(leave),
            Err(refusal) => return report(&refusal.to_string()),
        }
        arrived.sessions.remove(name);
        if let Some(entry) = arrived.entry(name) {
            forget(&self.store, &entry.session);
        }
        let attempt = arrived.index.attempt.clone();
        if let Some(connected) = state.connected.get_mut(name).filter(|c| c.handover == Handover::Done) {
            connected.say(&attempt, Message::Done(Done {}), &[]);
            // What was between us is over; what comes is a handover of its own.
            connected.handover = Handover::default();
        }
    }

    /// How far everybody is.
    pub(super) fn reclaim(&self) -> (Vec<ReclaimedHolder>, Vec<ReclaimedDevice>) {
        self.take_late(None);
        let mut guard = self.lock();
        let state = &mut *guard;
        let names: Vec<String> = state.ledger.kept().keys().cloned().collect();
        for name in names {
            self.finish_one(state, &name);
        }
        let Some(arrived) = &state.arrived else { return (Vec::new(), Vec::new()) };
        let holders = arrived.index.holders.iter().map(|entry| ReclaimedHolder {
            holder: entry.name.clone(),
            quiesced: self.nanoseconds(state, entry.quiesced),
            resumed: entry.claim == Claim::Resumed,
            resumed_at: self.nanoseconds(state, entry.resumed),
            lost: match arrived.sessions.get(&entry.name) {
                Some(Err(Missing::Lost(why))) => Some(why.clone()),
                Some(Ok(_) | Err(Missing::Yet(_))) | None => None,
            },
        });
        let devices = arrived.index.holders.iter().flat_map(seen::devices);
        (holders.collect(), devices.collect())
    }

    /// With what devices are looked at.
    pub(super) fn look(&self, counter_khz: Option<u64>, when: When) -> Look<'_> {
        Look { root: &self.options.root, counter_khz, when }
    }

    /// Ends custody when everybody has what is theirs.
    pub(super) fn finish(&self) -> Result<(), HostError> {
        let _operation = self.operate();
        self.reclaim();
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.unread.is_some() {
            return Err(wrong("finish", Unread::why()));
        }
        let Some(arrived) = state.arrived.as_mut() else { return Ok(()) };
        if let Some(name) = arrived.sessions.keys().next() {
            return Err(wrong(
                "finish",
                format!("{name} may still come for its files, or its session does not end yet"),
            ));
        }
        arrived.finish_own(&self.store).map_err(|why| wrong("finish", why))
    }

    /// Gives up what nobody came for: an operator's word.
    pub(super) fn release(&self) -> Result<(), HostError> {
        let _operation = self.operate();
        // So that they are ended, and their memory does not stay taken until the next reboot.
        self.take_late(None);
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(unread) = state.unread.as_mut() {
            unread.release(&self.store).map_err(|why| wrong("release", why))?;
            state.unread = None;
        }
        let Some(arrived) = state.arrived.as_mut() else { return Ok(()) };
        if state.ledger.phase() != Phase::Empty {
            state.ledger.quarantine().map_err(|refusal| wrong("release", refusal.to_string()))?;
            for leave in state.ledger.release().map_err(|refusal| wrong("release", refusal.to_string()))? {
                let Some(Ok(session)) = arrived.sessions.remove(leave.holder()) else { continue };
                let entry = arrived.entry(leave.holder());
                stop::end(&self.options.root, leave.holder(), &*session, entry);
                drop(session);
                if let Some(entry) = entry {
                    forget(&self.store, &entry.session);
                }
            }
        }
        arrived.sessions.clear();
        arrived.finish_own(&self.store).map_err(|why| wrong("release", why))
    }
}

/// How much of a holder's memory groups are charged with already. RETRIEVE_FD charges each page once, to the group of
/// whoever calls it first; afterwards it only hands out the file, which lives in the session whoever dies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Charged {
    /// Nobody was given the session: whatever shared memory a group has is something else.
    Nothing,
    /// Somebody was: at most what has come since, at any group that was theirs.
    Since(BTreeMap<String, u64>),
    /// Somebody was, by a former keeper: at most all that there is.
    Unknown,
}

impl Charged {
    fn of(state: &State, entry: &Entry) -> Self {
        match (entry.claim, state.before_grant.get(&entry.name)) {
            (Claim::Awaited, _) => Self::Nothing,
            (_, Some(before)) => Self::Since(before.clone()),
            (_, None) => Self::Unknown,
        }
    }

    /// At one group, which counts what is below it, too.
    fn at(&self, level: &Level) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Since(before) => {
                before.get(&level.path).map_or(0, |before| level.shmem.saturating_sub(*before))
            }
            Self::Unknown => level.shmem,
        }
    }
}

fn grant(entry: &Entry, look: Look<'_>) -> Grant {
    let kind = |kind: &Kind| match kind {
        Kind::Memory(_) => ObjectKind::Memfd,
        Kind::Device(_) => ObjectKind::VfioDevice,
    };
    let objects = entry.objects.iter().map(|object| Object {
        kind: kind(&object.kind).into(),
        token: object.token,
        label: object.label.clone(),
    });
    let devices = entry.objects.iter().filter_map(|object| match &object.kind {
        Kind::Device(address) => {
            let seen = seen::told(&look.at(address, &[], entry.dma_quiescent, false));
            Some(DeviceGrant { token: object.token, facts: Some(DeviceFacts::from(&seen.facts)) })
        }
        Kind::Memory(_) => None,
    });
    Grant { objects: objects.collect(), devices: devices.collect() }
}
