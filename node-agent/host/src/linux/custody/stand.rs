//! The short part before the jump: stopping, the last word, and letting go on.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use liveupdate_node_core::custody::Phase;
use liveupdate_node_core::holder::{Event, State as Handover};

use super::index::Entry;
use super::leave::{not_preserved, part_names, wrong};
use super::order;
use super::seen::{self, When};
use super::state::{Leaving, Part, Shared, State};
use crate::{HostError, JumpIntent, Quiesced, Resumed};

/// For holders that were told to go on to say that they do.
const RESUME: Duration = Duration::from_secs(5);

impl Shared {
    /// One answer for each holder, also for those that say nothing.
    pub(super) fn quiesce(&self, attempt: &str, deadline: Duration) -> Result<Vec<Quiesced>, HostError> {
        let _operation = self.operate();
        let until = Instant::now() + deadline;
        let mut state = self.lock();
        let leaving = state.leaving.as_mut().filter(|leaving| leaving.index.attempt == attempt);
        let leaving = leaving.ok_or_else(|| wrong("quiesce", format!("{attempt} has no custody here")))?;
        leaving.deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        // One is gone already: nobody stops for a jump that cannot be.
        let lost =
            leaving.parts.iter().find_map(|part| Some(format!("{} {}", part.name, part.lost.as_ref()?)));
        if let Some(lost) = lost {
            for part in leaving.parts.iter_mut().filter(|part| part.vote.is_none()) {
                part.vote = Some(Err(format!("was not asked to stop: {lost}")));
            }
            return Ok(self.votes(&state));
        }
        // Who depends on others stops before they do.
        for name in order::by_dependency(&state).into_iter().rev() {
            let part = state.leaving.iter().flat_map(|l| &l.parts).find(|part| part.name == name);
            let Some((connection, None)) = part.map(|part| (part.connection, part.lost.clone())) else {
                continue;
            };
            if state.handover(&name, connection) == Some(Handover::Preserved)
                && state.step(&name, Event::Quiesce).is_some()
                && let Some(part) = state.leaving.as_mut().and_then(|leaving| leaving.part(&name, connection))
            {
                part.asked = true;
            }
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let waiting: Vec<String> = state
                .leaving
                .iter()
                .flat_map(|leaving| &leaving.parts)
                .filter(|part| part.vote.is_none())
                .map(|part| part.name.clone())
                .collect();
            if waiting.is_empty() {
                break;
            }
            if left.is_zero() {
                let parts = state.leaving.iter_mut().flat_map(|leaving| &mut leaving.parts);
                for part in parts.filter(|part| part.vote.is_none()) {
                    let why = format!("did not answer Quiesce within {} ms", deadline.as_millis());
                    part.vote = Some(Err(why));
                }
                for name in waiting {
                    state.step(&name, Event::Late);
                }
                break;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let answers = self.votes(&state);
        if let Some(Leaving { index, file: Some(file), .. }) = state.leaving.as_mut() {
            file.write(index)?;
        }
        self.publish(&state);
        Ok(answers)
    }

    fn votes(&self, state: &State) -> Vec<Quiesced> {
        let pairs = state.leaving.iter().flat_map(|leaving| leaving.parts.iter().zip(&leaving.index.holders));
        let answer = pairs.map(|(part, entry)| Quiesced {
            holder: part.name.clone(),
            counter: self.nanoseconds(state, entry.quiesced),
            vote: part.vote.clone().unwrap_or_else(|| Err("was not asked".into())),
        });
        answer.collect()
    }

    /// The last word before the jump.
    pub(super) fn commit(&self, intent: &JumpIntent, ticks: Option<u64>) -> Result<(), HostError> {
        let _operation = self.operate();
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(leaving) = state.leaving.as_mut() else { return Ok(()) };
        if leaving.index.attempt != intent.attempt {
            return Err(wrong("commit", format!("attempt {} has custody", leaving.index.attempt)));
        }
        for part in &leaving.parts {
            let connected = state.connected.get(&part.name).filter(|c| c.id == part.connection);
            let stands = connected.is_some_and(|c| c.handover == Handover::Quiesced && c.peer.alive());
            if !stands || part.vote != Some(Ok(())) {
                let why = part.lost.clone().unwrap_or_else(|| "it does not stand still".into());
                return Err(not_preserved(&part.name, why));
            }
        }
        for address in leaving.index.holders.iter().flat_map(Entry::devices) {
            seen::ready(&self.options.root, address).map_err(|why| not_preserved(address, why))?;
        }
        let Some(file) = leaving.file.as_mut() else {
            return Err(wrong("commit", "custody is not complete"));
        };
        leaving.index.nonce = Some(intent.nonce.clone());
        leaving.index.committed = ticks;
        file.write(&leaving.index)?;
        state.ledger.commit().map_err(|refusal| wrong("commit", refusal.to_string()))?;
        for name in part_names(state) {
            state.step(&name, Event::Commit);
        }
        Ok(())
    }

    /// The jump did not happen.
    pub(super) fn refused(&self) -> Result<(), HostError> {
        let _operation = self.operate();
        let mut state = self.lock();
        // It may have failed before it was committed.
        if state.ledger.phase() == Phase::Committed {
            state.ledger.refused().map_err(|refusal| wrong("going back", refusal.to_string()))?;
        }
        let Some(Leaving { index, file: Some(file), .. }) = state.leaving.as_mut() else { return Ok(()) };
        (index.nonce, index.committed) = (None, None);
        file.write(index)
    }

    /// Right before the jump: whoever was told the last word stands for as long as its connection is there. Where one has
    /// ended its guest runs again, and what was written of it is old.
    pub(super) fn all_stand(&self) -> Result<(), HostError> {
        let state = self.lock();
        for part in state.leaving.iter().flat_map(|leaving| &leaving.parts) {
            let connected = state.connected.get(&part.name).filter(|c| c.id == part.connection);
            if !connected.is_some_and(|c| c.handover == Handover::Committed && c.is_there()) {
                let why = "its connection has ended after Commit, so that its guest may run again".to_owned();
                return Err(not_preserved(&part.name, part.lost.clone().unwrap_or(why)));
            }
        }
        Ok(())
    }

    /// Lets everybody go on at once, but for those that depend on others: they are told when those have answered, and at the
    /// latest when nobody is waited for any more. Asked again it tells who has gone on since, also when nothing is in
    /// custody any more.
    pub(super) fn resume(&self, cause: &str) -> Vec<Resumed> {
        let _operation = self.operate();
        let until = Instant::now() + RESUME;
        let mut state = self.lock();
        let mut untold = order::with_needs(&state);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut later: Vec<(String, Vec<String>)> = Vec::new();
            for (name, needs) in untold {
                let goes = |need: &String| {
                    let told = !later.iter().any(|(other, _)| other == need);
                    told && state.taking_part(need) != Some(Handover::Resuming)
                };
                if left.is_zero() || needs.iter().all(goes) {
                    state.undo(&name, cause);
                } else {
                    later.push((name, needs));
                }
            }
            untold = later;
            let resuming = |name: &String| state.taking_part(name) == Some(Handover::Resuming);
            if left.is_zero() || (untold.is_empty() && !part_names(&state).iter().any(resuming)) {
                break;
            }
            let woken = self.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.leaving.is_some() {
            self.publish(&state);
        } else if state.undone.is_none() {
            return self.declared_anew(&state);
        }
        state.parts().map(|(part, entry)| self.went_on(&state, part, entry)).collect()
    }

    fn went_on(&self, state: &State, part: &Part, entry: &Entry) -> Resumed {
        let connected = state.connected.get(&part.name);
        // Its connection ended, so that it went on; it is the same process, and has declared itself since.
        let again = connected.filter(|c| c.id != part.connection && c.declared.is_some());
        let again = again.filter(|c| c.peer.pid == part.peer.pid && part.peer.alive());
        let connected = connected.filter(|c| c.id == part.connection).or(again);
        let result = match connected.map(|connected| connected.handover) {
            Some(handover) if handover.may_stand_still() => Err("did not say Resumed".to_owned()),
            Some(_) => Ok(()),
            // It died by itself: nobody had stopped it, or it had gone on.
            None if !part.asked || part.resumed.is_some() => Ok(()),
            None => Err(part.lost.clone().unwrap_or_else(|| "it went away".into())),
        };
        let look = self.look(state.counter_khz.or(state.own_khz), When::Undone);
        let runs = connected.filter(|_| result.is_ok());
        let seen = runs.into_iter().flat_map(|connected| look.all(entry, &connected.checks));
        let devices = seen.map(|sighting| seen::told(&sighting)).collect();
        Resumed { holder: part.name.clone(), counter: self.nanoseconds(state, part.resumed), devices, result }
    }

    /// Whoever stood still for a keeper before this one went on when its connection ended, and has declared itself since.
    /// When that was is not known.
    fn declared_anew(&self, state: &State) -> Vec<Resumed> {
        let look = self.look(state.counter_khz.or(state.own_khz), When::Undone);
        let declared = state.connected.iter().filter(|(_, c)| c.handover == Handover::Declared);
        let resumed = declared.filter_map(|(name, connected)| {
            let declared = connected.declared.as_ref()?;
            let seen = declared.devices().map(|address| look.at(address, &connected.checks, false, true));
            let devices = seen.map(|sighting| seen::told(&sighting)).collect();
            Some(Resumed { holder: name.clone(), counter: None, devices, result: Ok(()) })
        });
        resumed.collect()
    }
}
