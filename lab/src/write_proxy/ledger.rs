//! The account of all writes, the one trap, and the generations of connections.
//!
//! One lock for all of it: a write's number, whether the trap lies there and what becomes of the
//! connections are decided together, so that no write slips by while a hook runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::request::{Target, WriteClass};

/// On which side of the API server's work a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The request is here and was not forwarded.
    Before,
    /// The response is here and was not passed back.
    After,
}

/// What becomes of the write, once the hook has run.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It goes on as if nothing had been.
    Pass,
    /// It goes on once this is cancelled, and so does whatever comes by until then.
    Hold(CancellationToken),
    /// It is dropped, with all connections of the time.
    Drop,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What kind of write.
    pub class: WriteClass,
    /// Its number within its class, from 1.
    pub number: usize,
    /// `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, plural.
    pub resource: String,
    /// `status`, …; empty for the object itself.
    pub subresource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// The object's name; for a generated one the prefix and `*`; empty for collections.
    pub name: String,
    /// The HTTP status of the answer; none while it is under way, and for ever when its connection was
    /// dropped first.
    pub code: Option<u16>,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: {} {}", self.class, self.number, self.verb, self.resource)?;
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        write!(f, " {}", self.name)
    }
}

/// How many writes have come by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// By class; a class that never came by is absent.
    pub by_class: BTreeMap<WriteClass, usize>,
    /// Of the class [`WriteClass::Object`], by verb, resource (with `/subresource`) and name.
    pub objects: BTreeMap<(&'static str, String, String), usize>,
}

impl Counts {
    /// How many of a class.
    pub fn of(&self, class: WriteClass) -> usize {
        self.by_class.get(&class).copied().unwrap_or_default()
    }
}

pub(super) type Hook = Box<dyn FnOnce(&Write) -> Fate + Send>;
/// Which write the trap is for.
pub(super) type Choice = Box<dyn Fn(&Write, Moment) -> bool + Send>;

struct Trap {
    choice: Choice,
    hook: Hook,
    sprung: oneshot::Sender<Write>,
}

#[derive(Default)]
struct State {
    writes: Vec<Write>,
    numbers: BTreeMap<WriteClass, usize>,
    // Responses of writes from before a reset find no entry to mark.
    epoch: u64,
    trap: Option<Trap>,
    held: Option<CancellationToken>,
    generation: CancellationToken,
}

/// See the module.
#[derive(Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

/// A write's place in the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    epoch: u64,
    index: usize,
}

/// The write, or its connection, is to be dropped without a word.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the write proxy dropped the connection")]
pub(super) struct Dropped;

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        // A hook that panics is a failing test; the numbers are whole even so.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generation that a new connection belongs to.
    pub(super) fn generation(&self) -> CancellationToken {
        self.state().generation.clone()
    }

    /// A write has arrived on a connection of this generation.
    pub(super) fn arrived(&self, target: Target, generation: &CancellationToken) -> Result<Ticket, Dropped> {
        let mut state = self.state();
        if generation.is_cancelled() {
            return Err(Dropped);
        }
        let number = state.numbers.entry(target.class).or_default();
        *number += 1;
        let number = *number;
        let Target { class, verb, group, resource, subresource, namespace, name } = target;
        let write = Write { class, number, verb, group, resource, subresource, namespace, name, code: None };
        state.writes.push(write.clone());
        let ticket = Ticket { epoch: state.epoch, index: state.writes.len() - 1 };
        state.spring(&write, Moment::Before)?;
        Ok(ticket)
    }

    /// The API server has answered it.
    pub(super) fn answered(
        &self,
        ticket: Ticket,
        code: u16,
        generation: &CancellationToken,
    ) -> Result<(), Dropped> {
        let mut state = self.state();
        if ticket.epoch != state.epoch {
            return if generation.is_cancelled() { Err(Dropped) } else { Ok(()) };
        }
        let Some(write) = state.writes.get_mut(ticket.index) else { return Ok(()) };
        write.code = Some(code);
        let write = write.clone();
        // What was done is noted even when there is nobody left to tell.
        if generation.is_cancelled() {
            return Err(Dropped);
        }
        state.spring(&write, Moment::After)
    }

    /// Waits while writes are held. Nobody is kept from asking the ledger meanwhile.
    pub(super) async fn let_through(&self) {
        let held = self.state().held.clone();
        if let Some(held) = held {
            held.cancelled().await;
        }
    }

    pub(super) fn arm(&self, choice: Choice, hook: Hook, sprung: oneshot::Sender<Write>) {
        self.state().trap = Some(Trap { choice, hook, sprung });
    }

    pub(super) fn disarm(&self) -> bool {
        self.state().trap.take().is_some()
    }

    pub(super) fn reset(&self) {
        let mut state = self.state();
        state.writes.clear();
        state.numbers.clear();
        state.epoch += 1;
    }

    pub(super) fn cut_all(&self) {
        self.state().cut_all();
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.state();
        let mut counts = Counts { by_class: state.numbers.clone(), ..Counts::default() };
        for write in state.writes.iter().filter(|write| write.class == WriteClass::Object) {
            let separator = if write.subresource.is_empty() { "" } else { "/" };
            let resource = format!("{}{separator}{}", write.resource, write.subresource);
            *counts.objects.entry((write.verb, resource, write.name.clone())).or_default() += 1;
        }
        counts
    }
}

impl State {
    fn spring(&mut self, write: &Write, moment: Moment) -> Result<(), Dropped> {
        let Some(trap) = self.trap.take_if(|trap| (trap.choice)(write, moment)) else { return Ok(()) };
        let fate = (trap.hook)(write);
        // Nobody has to wait for it.
        let _ = trap.sprung.send(write.clone());
        match fate {
            Fate::Pass => Ok(()),
            Fate::Hold(until) => {
                self.held = Some(until);
                Ok(())
            }
            Fate::Drop => {
                self.cut_all();
                Err(Dropped)
            }
        }
    }

    fn cut_all(&mut self) {
        self.generation.cancel();
        self.generation = CancellationToken::new();
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};

    use super::*;
    use crate::write_proxy::Place;
    use crate::write_proxy::request::target;

    fn write() -> Target {
        target(&Method::DELETE, &Uri::from_static("/api/v1/nodes/a"), b"").unwrap()
    }

    #[test]
    fn what_was_under_way_when_a_trap_sprang_is_lost_and_what_comes_later_is_not() {
        let ledger = Ledger::default();
        let old = ledger.generation();
        let under_way = ledger.arrived(write(), &old).unwrap();
        let (sender, mut sprung) = oneshot::channel();
        let place = Place { class: WriteClass::Object, number: 2, moment: Moment::Before };
        ledger.arm(place.choice(), Box::new(|_| Fate::Drop), sender);

        assert!(ledger.arrived(write(), &old).is_err());

        assert_eq!(sprung.try_recv().unwrap().number, 2);
        assert!(old.is_cancelled());
        assert!(ledger.answered(under_way, 200, &old).is_err(), "done, but its answer is lost");
        assert!(ledger.arrived(write(), &old).is_err(), "a write of a dead client");
        let new = ledger.generation();
        let ticket = ledger.arrived(write(), &new).unwrap();
        ledger.answered(ticket, 200, &new).unwrap();
        let codes: Vec<_> = ledger.writes().iter().map(|write| (write.number, write.code)).collect();
        assert_eq!(codes, [(1, Some(200)), (2, None), (3, Some(200))]);
    }

    #[tokio::test]
    async fn a_held_write_and_what_comes_after_it_wait_and_the_account_stays_open() {
        let ledger = Ledger::default();
        let generation = ledger.generation();
        ledger.let_through().await;
        let (sender, mut sprung) = oneshot::channel();
        let place = Place { class: WriteClass::Object, number: 1, moment: Moment::Before };
        let until = CancellationToken::new();
        let fate = Fate::Hold(until.clone());
        ledger.arm(place.choice(), Box::new(move |_| fate), sender);

        let _held = ledger.arrived(write(), &generation).unwrap();
        let _later = ledger.arrived(write(), &generation).unwrap();

        assert_eq!((sprung.try_recv().unwrap().number, ledger.writes().len()), (1, 2));
        assert!(futures::poll!(std::pin::pin!(ledger.let_through())).is_pending());
        until.cancel();
        ledger.let_through().await;
    }

    #[test]
    fn an_answer_from_before_a_reset_marks_nothing() {
        let ledger = Ledger::default();
        let generation = ledger.generation();
        let old = ledger.arrived(write(), &generation).unwrap();
        ledger.reset();
        ledger.arrived(write(), &generation).unwrap();
        ledger.answered(old, 200, &generation).unwrap();
        assert_eq!(ledger.writes()[0].code, None);
        assert_eq!(ledger.counts().of(WriteClass::Object), 1);
    }
}
