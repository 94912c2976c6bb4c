//! All that is known, under one lock: who is connected, what leaves, what arrived. What may happen to a holder is said
//! by the core ([`handover::State`]), what may be dropped too ([`Ledger`]); here it is carried out.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use liveupdate_node_core::custody::Custody as Ledger;
use liveupdate_node_core::holder::{self as handover, Effect, Event};
use liveupdate_proto::frame::Sequence;
use liveupdate_proto::handover::v1::envelope::Message;
use liveupdate_proto::handover::v1::{Check, Commit, Preserve, Quiesce, Refused, Resume, Verdict};
use liveupdate_proto::packets::Packets;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::arrived::{Arrived, Unread};
use super::declared::Declared;
use super::index::{Entry, Index};
use super::index_file::IndexFile;
use super::log::report;
use super::options::Options;
use super::peer::Peer;
use super::places::Places;
use super::published::{self, Published};
use super::sessions::{self, Orchestrate};
use super::store::FdStore;
use crate::linux::ticks;

/// What the threads share.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) orchestrator: Arc<dyn Orchestrate>,
    pub(super) store: FdStore,
    state: Mutex<State>,
    /// Something was said, or somebody went.
    pub(super) changed: Condvar,
    /// One operation of the keeper at a time; those may take long, and the state's lock is not held meanwhile.
    pub(super) operation: Mutex<()>,
    /// One at a time takes sessions late: the second would be told that they are taken, as if they were lost.
    pub(super) taking: Mutex<()>,
    pub(super) places: Places,
}

impl Shared {
    pub(super) fn new(
        options: Options,
        orchestrator: Arc<dyn Orchestrate>,
        store: FdStore,
        state: State,
    ) -> Self {
        let (changed, operation, taking) = (Condvar::new(), Mutex::new(()), Mutex::new(()));
        let (state, places) = (Mutex::new(state), Places::default());
        Self { options, orchestrator, store, state, changed, operation, taking, places }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is small and whole: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn operate(&self) -> MutexGuard<'_, ()> {
        self.operation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ticks as nanoseconds, as the whole attempt counts them.
    pub(super) fn nanoseconds(&self, state: &State, ticks: Option<u64>) -> Option<u64> {
        let khz = state.counter_khz.or(state.own_khz)?;
        ticks.filter(|ticks| *ticks > 0).map(|ticks| ticks::nanoseconds(ticks, khz))
    }

    /// Tells readers what is known of holders now.
    pub(super) fn publish(&self, state: &State) {
        let holders = state.connected.iter().filter_map(|(name, connected)| {
            let declared = connected.declared.as_ref()?;
            Some(Published {
                name: name.clone(),
                pid: connected.peer.pid,
                cgroup: connected.peer.cgroup.clone(),
                state: connected.handover.as_str().to_owned(),
                devices: declared.devices().map(str::to_owned).collect(),
                dma_targets: declared.dma_targets,
                quiesces_dma: declared.quiesces_dma,
                memory_bytes: declared.memory_bytes(),
                minimum: declared.minimum.map(|minimum| minimum.as_str().to_owned()),
                refuses: declared.refuses,
            })
        });
        let told = published::write(&self.options.published, &self.options.boot_id, holders.collect());
        if let Err(error) = told {
            report(&error.to_string());
        }
    }
}

/// Everything that changes.
#[derive(Default)]
pub(super) struct State {
    pub(super) ledger: Ledger,
    pub(super) connected: BTreeMap<String, Connected>,
    pub(super) leaving: Option<Leaving>,
    /// Who took part in the attempt that was undone last. None: this keeper knows of none.
    pub(super) undone: Option<Vec<Undone>>,
    pub(super) arrived: Option<Arrived>,
    /// In its place, where nobody can say what arrived.
    pub(super) unread: Option<Unread>,
    /// By the kernel that jumped into this one.
    pub(super) counter_khz: Option<u64>,
    /// By this one.
    pub(super) own_khz: Option<u64>,
    /// For the next connection.
    pub(super) connections: u64,
    /// By holder: how much shared memory the groups of those who were given its session had, by path, before they could
    /// take anything out. Not for holders that a former keeper gave it to.
    pub(super) before_grant: BTreeMap<String, BTreeMap<String, u64>>,
}

/// A holder at the other end of a connection.
pub(super) struct Connected {
    pub(super) id: u64,
    pub(super) packets: Arc<Packets>,
    pub(super) sequence: Sequence,
    pub(super) peer: Arc<Peer>,
    pub(super) handover: handover::State,
    pub(super) declared: Option<Declared>,
    /// What it said that it found.
    pub(super) checks: Vec<Check>,
    pub(super) refusals: usize,
}

/// Whoever makes so many mistakes makes them for ever.
const MOST_REFUSALS: usize = 16;

impl Connected {
    /// Its process lives, and its connection has not ended; also when the thread that listens has not noticed yet.
    pub(super) fn is_there(&self) -> bool {
        let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let mut connection = [PollFd::new(&*self.packets, PollFlags::RDHUP)];
        let polled = poll(&mut connection, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        self.peer.alive() && polled.is_ok() && !connection[0].revents().intersects(ended)
    }

    /// Says something. When that is not possible the connection ends, and its thread says so.
    pub(super) fn say(&mut self, attempt: &str, message: Message, files: &[BorrowedFd<'_>]) {
        let sent = self.sequence.encode(attempt, message, files.len());
        let sent = sent
            .map_err(|error| error.to_string())
            .and_then(|bytes| self.packets.send(&bytes, files).map_err(|error| error.to_string()));
        if let Err(error) = sent {
            report(&format!("a holder (process {}) cannot be told anything: {error}", self.peer.pid));
            self.packets.end();
        }
    }

    /// Says that something was not accepted; it changed nothing.
    pub(super) fn refuse(&mut self, attempt: &str, reason: String) {
        report(&format!("refused process {}: {reason}", self.peer.pid));
        self.say(attempt, Message::Refused(Refused { reason }), &[]);
        self.refusals += 1;
        if self.refusals >= MOST_REFUSALS {
            self.packets.end();
        }
    }
}

/// What is in custody before a jump.
pub(super) struct Leaving {
    pub(super) index: Index,
    pub(super) devices: Vec<String>,
    /// In the order of taking; undone in reverse.
    pub(super) parts: Vec<Part>,
    pub(super) file: Option<IndexFile>,
    pub(super) own: Option<Box<dyn sessions::Leaving>>,
    /// For all holders together.
    pub(super) deadline_ms: u64,
}

/// One holder in it.
pub(super) struct Part {
    pub(super) name: String,
    /// By which connection it takes part: another process of the same name does not.
    pub(super) connection: u64,
    pub(super) peer: Arc<Peer>,
    pub(super) session: Option<Box<dyn sessions::Leaving>>,
    /// It is ready for its files to be taken.
    pub(super) ready: bool,
    /// It was told to stop: it has to be told to go on, too.
    pub(super) asked: bool,
    /// To Quiesce.
    pub(super) vote: Option<Result<(), String>>,
    /// Why it cannot go on with the attempt.
    pub(super) lost: Option<String>,
    /// The counter (ticks) when it went on again.
    pub(super) resumed: Option<u64>,
}

impl Leaving {
    pub(super) fn part(&mut self, name: &str, connection: u64) -> Option<&mut Part> {
        self.parts.iter_mut().find(|part| part.name == name && part.connection == connection)
    }

    /// What is in custody, apart from who takes part. Sessions are in the order in which they are given back.
    pub(super) fn part_with(mut self) -> (Vec<Box<dyn sessions::Leaving>>, Vec<Undone>) {
        let all = self.parts.iter_mut().rev().map(|part| part.session.take());
        let sessions = std::iter::once(self.own.take()).chain(all).flatten().collect();
        let undone = self.parts.into_iter().zip(self.index.holders);
        (sessions, undone.map(|(part, entry)| Undone { part, entry }).collect())
    }

    /// Gives everything back, in reverse.
    pub(super) fn give_back(self) {
        let (sessions, _) = self.part_with();
        sessions.into_iter().for_each(drop);
    }
}

/// A holder that took part in an attempt. Its files are given back at once; it may take longer to go on, and is counted
/// when it does.
pub(super) struct Undone {
    pub(super) part: Part,
    pub(super) entry: Entry,
}

impl State {
    /// The attempt that is under way; empty outside one.
    pub(super) fn attempt(&self) -> &str {
        self.leaving.as_ref().map_or("", |leaving| leaving.index.attempt.as_str())
    }

    /// Tells the core what happened to a holder, and says what follows to the holder. What concerns custody is left to
    /// the caller: [`Effect::Grant`], [`Effect::Finish`], [`Effect::HasResumed`]. None: it did not fit, and nothing changed.
    pub(super) fn step(&mut self, name: &str, event: Event) -> Option<Vec<Effect>> {
        let (attempt, deadline_ms) = match &self.leaving {
            Some(leaving) => (leaving.index.attempt.clone(), leaving.deadline_ms),
            None => (String::new(), 0),
        };
        let connected = self.connected.get_mut(name)?;
        let transition = connected.handover.step(event);
        if transition.refused {
            return None;
        }
        connected.handover = transition.state;
        let id = connected.id;
        let (mut left, mut lost) = (Vec::new(), None);
        for effect in transition.effects {
            match effect {
                Effect::SendVerdict => {
                    let verdict = verdict(connected.declared.as_ref());
                    connected.say("", Message::Verdict(verdict), &[]);
                }
                Effect::SendPreserve => connected.say(&attempt, Message::Preserve(Preserve {}), &[]),
                Effect::SendQuiesce => {
                    connected.say(&attempt, Message::Quiesce(Quiesce { deadline_ms }), &[]);
                }
                Effect::SendCommit => connected.say(&attempt, Message::Commit(Commit {}), &[]),
                Effect::SendResume(cause) => connected.say(&attempt, Message::Resume(Resume { cause }), &[]),
                Effect::AbortAll(cause) => lost = Some(cause.to_string()),
                Effect::Grant | Effect::Finish | Effect::HasResumed => left.push(effect),
            }
        }
        if let Some(why) = lost {
            self.lose(name, id, why);
        }
        Some(left)
    }

    /// Who takes part in the attempt, or took part in the one that was undone last, with what is known of its files.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&Part, &Entry)> {
        let leaving =
            self.leaving.iter().flat_map(|leaving| leaving.parts.iter().zip(&leaving.index.holders));
        leaving.chain(self.undone.iter().flatten().map(|undone| (&undone.part, &undone.entry)))
    }

    /// One of them, by the connection that it takes part with.
    pub(super) fn part(&mut self, name: &str, connection: u64) -> Option<&mut Part> {
        let leaving = self.leaving.iter_mut().flat_map(|leaving| &mut leaving.parts);
        let mut all = leaving.chain(self.undone.iter_mut().flatten().map(|undone| &mut undone.part));
        all.find(|part| part.name == name && part.connection == connection)
    }

    /// The attempt cannot go on because of this holder.
    pub(super) fn lose(&mut self, name: &str, connection: u64, why: String) {
        if let Some(part) = self.leaving.as_mut().and_then(|leaving| leaving.part(name, connection)) {
            // The first reason is the one to tell.
            if !matches!(part.vote, Some(Err(_))) {
                part.vote = Some(Err(why.clone()));
            }
            part.lost.get_or_insert(why);
        }
    }

    /// The state of one who takes part in the attempt, if it does so still.
    pub(super) fn taking_part(&self, name: &str) -> Option<handover::State> {
        let part = self.leaving.iter().flat_map(|leaving| &leaving.parts).find(|part| part.name == name);
        part.and_then(|part| self.handover(name, part.connection))
    }

    /// Lets one of them go on, or stay as it is where nobody stopped it.
    pub(super) fn undo(&mut self, name: &str, cause: &str) {
        let undone = |handover: handover::State| {
            handover.may_stand_still()
                || matches!(handover, handover::State::Preserving | handover::State::Preserved)
        };
        if self.taking_part(name).is_some_and(undone) {
            self.step(name, Event::Undo(cause.to_owned()));
        }
    }

    /// A holder's state, by the connection that it takes part with.
    pub(super) fn handover(&self, name: &str, connection: u64) -> Option<handover::State> {
        let connected = self.connected.get(name)?;
        (connected.id == connection).then_some(connected.handover)
    }
}

/// What custody can say by itself. What a device would get follows from gates, which others read.
fn verdict(declared: Option<&Declared>) -> Verdict {
    let (files, bytes) = declared.map_or((0, 0), |d| (d.files.len(), d.memory_bytes()));
    let reason = format!(
        "{files} files can be taken into custody, among them {} MiB of memory; the node's gates say what devices would get",
        bytes >> 20
    );
    Verdict { ceiling: 0, reason }
}
