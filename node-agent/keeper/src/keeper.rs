//! The keeper itself: one state, one operation at a time, every state on disk before its effects. But nobody stands still for
//! a disk: holders are let go on first, and that is written down afterwards; undoing and giving back go on though it fails.
//! What could not be written is tried again.
//!
//! Who carries something out holds the [`Claim`]; the state's lock is held only while an event is applied,
//! so that Status and Abort are answered while custody is being taken or bystanders are being ended:
//!
//! ```text
//! Preserve ─ claim ─ apply(Take) ─ host.preserve … go_on? ─ apply(Preserved | Abort) ─ unclaim
//! Abort ──────────────── leaves its word, waits ──┘                                      └► reply
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use liveupdate_host::{Host, HostError};
use liveupdate_node_core::Monotonic;
use liveupdate_node_core::node::{Effect, Event, Evidence, Node, Stage};
use liveupdate_proto::common::v1::AttemptReport;
use liveupdate_proto::keeper::v1::refusal::Cause;

use crate::intake;
use crate::journal::{Journal, Notes};
use crate::refusal::Refused;
use crate::report::report;
use crate::scribe::Scribe;

/// Custody, journal and jump of one machine.
pub struct Keeper {
    pub(crate) host: Arc<dyn Host>,
    state: Mutex<State>,
    unclaimed: Condvar,
}

pub(crate) struct State {
    pub(crate) journal: Journal,
    pub(crate) scribe: Scribe,
    /// The journal on disk is an older one.
    pub(crate) unwritten: Option<Unwritten>,
    claimed: bool,
    /// When it is to be tried again to start what Settling stopped, where no state is left that has it undone. At first it is
    /// not known whether there is something.
    pub(crate) owed: Option<Monotonic>,
    /// Somebody wants the attempt undone: taken up before the next event.
    pub(crate) abort: Option<String>,
    /// The machine is gone; what is left of this process knows nothing.
    pub(crate) jumped: bool,
    /// Unit and program are gone; this process ends when its last reply is out.
    pub(crate) removed: bool,
}

/// The journal is not on disk yet.
#[derive(Default)]
pub(crate) struct Unwritten {
    /// When it was tried last, and what came of it.
    failed: Option<(Monotonic, String)>,
}

/// Between two tries to start again what was stopped.
const RESTART: Duration = Duration::from_secs(5);
/// Between two tries to write the journal, and how long one may take when nobody should wait for it: a disk that fails may
/// take its time for that.
const AGAIN: Duration = Duration::from_secs(1);

impl Unwritten {
    fn failed(at: Monotonic, error: &HostError) -> Self {
        Self { failed: Some((at, error.to_string())) }
    }
}

impl State {
    /// Writes the journal down, if the disk does that soon. What fails is told in the report and tried again; the machine
    /// being gone is an error.
    pub(crate) fn write(&mut self, now: Monotonic) -> Result<(), HostError> {
        self.unwritten = match self.scribe.save(&self.journal, Some(AGAIN)) {
            Ok(()) => None,
            Err(HostError::PoweredOff) => return Err(HostError::PoweredOff),
            Err(error) => Some(Unwritten::failed(now, &error)),
        };
        Ok(())
    }

    /// How long a step forward may wait for its record: as long as its state may last. A disk that works is given its time
    /// also where holders took all of that.
    pub(crate) fn patience(&self, now: Monotonic) -> Option<Duration> {
        self.journal.node.deadline().map(|deadline| deadline.at.since(now).max(AGAIN))
    }

    /// What is known of the attempt, for whoever asks.
    pub(crate) fn report(&self, simulated: bool) -> Option<AttemptReport> {
        let failed = self.unwritten.as_ref().and_then(|unwritten| unwritten.failed.as_ref());
        report(&self.journal, failed.map(|(_, why)| why.as_str()), simulated)
    }
}

/// Why a keeper cannot start. Nothing was changed; the machine's journal stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine did not do what is needed to go on from the journal.
    #[error("the keeper cannot go on from its journal")]
    Host(#[source] HostError),
    /// The journal asks for something that cannot be carried out.
    #[error("the keeper cannot go on from its journal: {0}")]
    Refused(String),
}

/// The right to carry something out; one at a time.
pub(crate) struct Claim<'a>(&'a Keeper);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.lock().claimed = false;
        self.0.unclaimed.notify_all();
    }
}

impl Keeper {
    /// Starts, going on from the journal: an attempt that was not committed is undone; after a jump the
    /// return is proven and giving back begins.
    ///
    /// # Errors
    /// The journal cannot be read or written, or the machine cannot be asked.
    pub fn open(host: Arc<dyn Host>) -> Result<Self, OpenError> {
        let journal = Journal::load(&*host).map_err(OpenError::Host)?;
        let scribe = Scribe::start(Arc::clone(&host)).map_err(|error| {
            OpenError::Host(HostError::Io { what: "start a thread".into(), why: error.to_string() })
        })?;
        let (claimed, jumped, removed) = (false, false, false);
        let owed = Some(Monotonic::default());
        let state = State { journal, scribe, unwritten: None, claimed, owed, abort: None, jumped, removed };
        let keeper = Self { host, state: Mutex::new(state), unclaimed: Condvar::new() };
        keeper.recover().map_err(|refused| OpenError::Refused(refused.message))?;
        Ok(keeper)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // The journal in memory is only replaced whole, so that a panic elsewhere leaves it sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits a short while for the claim: Status takes it for a moment, too.
    pub(crate) fn claim(&self) -> Result<Claim<'_>, Refused> {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.claim_within(PATIENCE, |_| {})
    }

    pub(crate) fn claim_within(
        &self,
        patience: Duration,
        while_claimed: impl Fn(&mut State),
    ) -> Result<Claim<'_>, Refused> {
        let mut state = self.lock();
        if state.claimed {
            while_claimed(&mut state);
            let waiting = self.unclaimed.wait_timeout_while(state, patience, |state| state.claimed);
            state = waiting.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.jumped {
            return Err(HostError::PoweredOff.into());
        }
        if state.claimed {
            return Err(Refused::new(Cause::Busy, "another request is being carried out; ask again"));
        }
        state.claimed = true;
        Ok(Claim(self))
    }

    /// Takes up the journal after a start.
    fn recover(&self) -> Result<(), Refused> {
        let claim = self.claim()?;
        let evidence = self.evidence()?;
        // By what is kept, and not by what is proven: also where nobody can say what came, it is in the way.
        let kept = self.host.keeps()?;
        let came_up = {
            let mut state = self.lock();
            let node = &state.journal.node;
            let before_jump = matches!(node, Node::Before(_)) || node.proof().is_none();
            let began_on = node.attempt().map(|attempt| attempt.boot_id.clone());
            let came_up = before_jump && began_on.is_some_and(|boot| boot != evidence.boot_id);
            state.journal.notes.open = kept;
            came_up
        };
        let effects = self.apply(&claim, Event::Started(evidence))?;
        let undo = matches!(self.lock().journal.node, Node::Before(_));
        if undo && !came_up {
            // Whoever drove the attempt has lost its thread with us: it asks again, with a new one.
            return self.drive(&claim, Event::Abort("the keeper was started again".into()));
        }
        let events = self.carry_all(effects)?;
        self.drive_all(&claim, events)
    }

    fn evidence(&self) -> Result<Evidence, Refused> {
        let nonce = self.host.returned_nonce()?;
        Ok(Evidence {
            boot_id: self.host.boot_id()?,
            release: self.host.release()?,
            nonce: nonce.as_deref().and_then(intake::nonce),
            from: self.host.boot_id_before()?,
        })
    }

    pub(crate) fn now(&self) -> Result<Monotonic, HostError> {
        Ok(Monotonic(self.host.monotonic()?))
    }

    /// Applies one event: decide, write down, then say what is to be done. A wish to abort goes first for as
    /// long as there is something to undo.
    pub(crate) fn apply(&self, claim: &Claim<'_>, event: Event) -> Result<Vec<Effect>, Refused> {
        self.apply_with(claim, event, |_| Ok(()))
    }

    /// As [`Keeper::apply`], with a change to the journal that is written down together with the event's.
    ///
    /// What cannot be written down is refused and changes nothing, but for undoing and giving back. Where holders stand
    /// still it is undone at once: they can wait for no disk.
    pub(crate) fn apply_with(
        &self,
        _claim: &Claim<'_>,
        event: Event,
        change: impl FnOnce(&mut Journal) -> Result<(), Refused>,
    ) -> Result<Vec<Effect>, Refused> {
        let (now, wall) = (self.now()?, self.host.wall()?);
        let mut state = self.lock();
        let event = match (&state.abort, &state.journal.node) {
            (Some(why), Node::Before(_)) => Event::Abort(why.clone()),
            _ => event,
        };
        let mut next = state.journal.clone();
        change(&mut next)?;
        let order = event.is_order();
        let (next, effects) = next.after(event, now, wall)?;
        if next == state.journal {
            return Ok(effects);
        }
        if order || next.node.needs_record() {
            let patience = state.patience(now);
            match state.scribe.save(&next, patience) {
                Ok(()) => (state.journal, state.unwritten) = (next, None),
                Err(error) if error != HostError::PoweredOff && state.journal.node.may_stand_still() => {
                    let why = format!("it cannot be written down that holders stand still: {error}");
                    let (undoing, effects) = state.journal.clone().after(Event::Abort(why), now, wall)?;
                    state.journal = undoing;
                    state.unwritten = Some(Unwritten::failed(now, &error));
                    state.scribe.supersede(&state.journal);
                    return Ok(effects);
                }
                Err(error) => return Err(error.into()),
            }
        } else {
            let waited_for = next.node.may_stand_still();
            state.journal = next;
            // Afterwards: no disk comes before those who are to go on. What failed already is not tried at each step.
            if waited_for {
                state.unwritten.get_or_insert_default();
            } else if state.unwritten.is_none() {
                state.write(now)?;
            }
        }
        Ok(effects)
    }

    /// Applies an event, carries out what follows, and so on until nothing follows.
    pub(crate) fn drive(&self, claim: &Claim<'_>, event: Event) -> Result<(), Refused> {
        self.drive_all(claim, vec![event])
    }

    pub(crate) fn drive_all(&self, claim: &Claim<'_>, events: Vec<Event>) -> Result<(), Refused> {
        let mut events = VecDeque::from(events);
        while let Some(event) = events.pop_front() {
            // Told again and again by the machine; what is known already is refused by the core.
            let told = matches!(event, Event::Device { .. } | Event::HolderResumed(_));
            let effects = match self.apply(claim, event) {
                Err(refused) if told && refused.cause == Cause::WrongState => continue,
                applied => applied?,
            };
            events.extend(self.carry_all(effects)?);
        }
        self.write_again()
    }

    /// Whether time has no effect: nothing is under way, to be written or to be started again, and nobody may still come for
    /// what came through.
    pub fn at_rest(&self) -> bool {
        let state = self.lock();
        match &state.journal.node {
            _ if state.unwritten.is_some() || state.owed.is_some() => false,
            Node::Idle | Node::Ended(_) => !state.journal.notes.open,
            Node::Before(_) | Node::Thawing(_) | Node::After(_) => false,
        }
    }

    /// It answers nobody any more: the machine has jumped, or it was uninstalled.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        state.jumped || state.removed
    }

    /// Lets time have its effect: deadlines, and what is still to be undone or given back. Does nothing while
    /// a request is being carried out.
    pub fn tick(&self) {
        // What fails here is in the report, and tried again at the next tick.
        let _ = self.try_tick();
    }

    pub(crate) fn try_tick(&self) -> Result<(), Refused> {
        let claim = self.claim_within(Duration::ZERO, |_| {})?;
        self.drive(&claim, Event::Tick)?;
        let (again, late) = {
            let state = self.lock();
            let open = state.journal.notes.open;
            match &state.journal.node {
                Node::Before(_) => (false, false),
                Node::Thawing(_) => (true, false),
                Node::After(after) => match after.stage() {
                    Stage::Jumping => (false, false),
                    Stage::Verifying { .. } => (open, false),
                    Stage::Returned { .. } | Stage::Reclaiming { .. } | Stage::Persisting { .. } => {
                        (true, false)
                    }
                    Stage::Quarantined { proof, .. } => (proof.is_some(), false),
                },
                Node::Idle | Node::Ended(_) => (false, open),
            }
        };
        if again {
            let effects = self.apply(&claim, Event::Started(self.evidence()?))?;
            let events = self.carry_all(effects)?;
            self.drive_all(&claim, events)?;
        }
        self.restart_late()?;
        if late { self.give_back_late(&claim) } else { Ok(()) }
    }

    /// Starts again what Settling stopped when nothing else has that done any more: for as long as it takes, since without
    /// its kubelet a node is nobody's.
    fn restart_late(&self) -> Result<(), Refused> {
        let now = self.now()?;
        {
            let mut state = self.lock();
            let over = match &state.journal.node {
                Node::Idle | Node::Ended(_) => true,
                Node::After(after) => matches!(after.stage(), Stage::Quarantined { proof: None, .. }),
                Node::Before(_) | Node::Thawing(_) => false,
            };
            if !over || state.owed.is_none_or(|at| now < at) {
                return Ok(());
            }
            state.owed = Some(now.after(RESTART));
        }
        match self.restart() {
            Err(HostError::PoweredOff) => return Err(HostError::PoweredOff.into()),
            Err(error) => self.note(|notes| notes.trouble = error.to_string()),
            Ok(()) => self.note(|notes| {
                if !notes.open {
                    notes.trouble.clear();
                }
            }),
        }
        Ok(())
    }

    /// Writes down what has gone before its record, or could not be written.
    fn write_again(&self) -> Result<(), Refused> {
        if self.lock().unwritten.is_none() {
            return Ok(());
        }
        let now = self.now()?;
        let mut state = self.lock();
        let due = |unwritten: &Unwritten| {
            unwritten.failed.as_ref().is_none_or(|(tried, _)| now.since(*tried) >= AGAIN)
        };
        if state.unwritten.as_ref().is_some_and(due) {
            state.write(now)?;
        }
        Ok(())
    }

    /// The attempt is over, but somebody may still come for what came through the jump.
    fn give_back_late(&self, claim: &Claim<'_>) -> Result<(), Refused> {
        let (holders, _) = self.host.reclaim()?;
        let events = self.carry_all(vec![Effect::GrantHolders])?;
        self.drive_all(claim, events)?;
        if holders.iter().all(|holder| holder.resumed) {
            self.carry_all(vec![Effect::FinishSessions])?;
        }
        Ok(())
    }

    /// Changes the notes in memory; they are written down with the next event.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.lock().journal.notes);
    }
}
