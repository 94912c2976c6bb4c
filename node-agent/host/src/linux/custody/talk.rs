//! One connection, from `Hello` to its end: what is said is checked, and told to the state.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use liveupdate_node_core::holder::{Effect, Event, State as Handover};
use liveupdate_proto::frame::{MAX_BYTES, MAX_FILES, Sequence, VERSION};
use liveupdate_proto::handover::v1::envelope::Message;
use liveupdate_proto::handover::v1::{Check, Declare, Hello, Quiesced, Refused, Welcome};
use liveupdate_proto::packets::Packets;

use super::declared::Declared;
use super::index::MAX_HOLDERS;
use super::log::report;
use super::peer::Peer;
use super::places::Place;
use super::seen::MOST_CHECKS;
use super::state::{Connected, Shared, State};

/// For `Hello`.
const HELLO: Duration = Duration::from_secs(5);
/// Of a sentence that a holder says.
const LONGEST_REASON: usize = 200;

/// A holder that said who it is.
struct Holder<'a> {
    shared: &'a Shared,
    name: String,
    id: u64,
    peer: Arc<Peer>,
    _place: Place<'a>,
}

/// Serves a connection until it ends.
pub(super) fn serve(shared: &Shared, packets: &Arc<Packets>) {
    let mut sequence = Sequence::default();
    let why = match greet(shared, packets, &mut sequence) {
        Ok(holder) => {
            let why = holder.listen(packets);
            holder.gone();
            if let Some(why) = why {
                report(&format!("the connection of {} was closed: {why}", holder.name));
            }
            return;
        }
        Err(why) => why,
    };
    report(&format!("a connection was refused: {why}"));
    if let Ok(bytes) = sequence.encode("", Message::Refused(Refused { reason: why }), 0) {
        // It is closed next, whether that was heard or not.
        let _ = packets.send(&bytes, &[]);
    }
}

/// Who it is, and whether it may be that; the sentence says why not.
fn greet<'a>(
    shared: &'a Shared,
    packets: &Arc<Packets>,
    sequence: &mut Sequence,
) -> Result<Holder<'a>, String> {
    let peer = Arc::new(Peer::of(packets.as_fd(), &shared.options.root)?);
    let place = shared.places.take(peer.key())?;
    packets.patience(Some(HELLO)).map_err(|error| error.to_string())?;
    let packet = packets.receive().map_err(|error| format!("no Hello came within 5 s: {error}"))?;
    let packet = packet.ok_or("no Hello came")?;
    let (_, message) =
        sequence.decode(&packet.bytes, packet.files.len()).map_err(|error| error.to_string())?;
    let Message::Hello(Hello { name, versions }) = message else {
        return Err("the first message is not Hello".into());
    };
    if !versions.contains(&VERSION) {
        return Err(format!("this keeper speaks version {VERSION} of the handover alone"));
    }
    peer.may_be_called(&name)?;
    packets.patience(None).map_err(|error| error.to_string())?;

    let mut state = shared.lock();
    is_free(&state, &name, &peer)?;
    state.connections += 1;
    let id = state.connections;
    let pending = state.arrived.as_ref().is_some_and(|arrived| arrived.awaits(&name));
    let mut connected = Connected {
        id,
        packets: Arc::clone(packets),
        sequence: std::mem::take(sequence),
        peer: Arc::clone(&peer),
        handover: if pending { Handover::Pending } else { Handover::default() },
        declared: None,
        checks: Vec::new(),
        refusals: 0,
    };
    connected.say(
        "",
        Message::Welcome(Welcome {
            version: VERSION,
            max_message_bytes: MAX_BYTES as u32,
            max_files: MAX_FILES as u32,
            pending,
        }),
        &[],
    );
    state.connected.insert(name.clone(), connected);
    Ok(Holder { shared, name, id, peer, _place: place })
}

/// A name belongs to one process at a time, and while something is kept under it, to whom that belongs to.
fn is_free(state: &State, name: &str, peer: &Peer) -> Result<(), String> {
    let kept = state.arrived.iter().filter(|arrived| arrived.awaits(name)).filter_map(|a| a.entry(name));
    let leaving = state.leaving.iter().flat_map(|leaving| &leaving.index.holders);
    let owners = kept.chain(leaving.filter(|entry| entry.name == name)).map(|entry| &entry.owner);
    if let Some(owner) = owners.into_iter().find(|owner| **owner != peer.key()) {
        return Err(format!("{name} is the name of {owner}, and you are {}", peer.key()));
    }
    match state.connected.get(name) {
        // Its end of file comes in a moment.
        Some(other) if !other.peer.alive() => {
            Err(format!("{name} was process {}, which has just ended; come again", other.peer.pid))
        }
        Some(other) => Err(format!("{name} is process {}, and you are process {}", other.peer.pid, peer.pid)),
        None if state.connected.len() >= MAX_HOLDERS => {
            Err(format!("there are {MAX_HOLDERS} holders already"))
        }
        None => Ok(()),
    }
}

impl Holder<'_> {
    /// Until the end of file; the sentence says why it was closed before.
    fn listen(&self, packets: &Packets) -> Option<String> {
        loop {
            let packet = match packets.receive() {
                Ok(Some(packet)) => packet,
                Ok(None) => return None,
                Err(error) => return Some(error.to_string()),
            };
            let decoded = {
                let mut state = self.shared.lock();
                let connected = state.connected.get_mut(&self.name).filter(|c| c.id == self.id)?;
                connected.sequence.decode(&packet.bytes, packet.files.len())
            };
            let result = match decoded {
                Ok((attempt, message)) => self.hear(&attempt, message, packet.files),
                Err(error) => Err(error.to_string()),
            };
            self.shared.changed.notify_all();
            if let Err(why) = result {
                self.refuse(why.clone());
                return Some(why);
            }
        }
    }

    fn refuse(&self, why: String) {
        let mut state = self.shared.lock();
        let attempt = state.attempt().to_owned();
        if let Some(connected) = state.connected.get_mut(&self.name) {
            connected.refuse(&attempt, why);
        }
    }

    /// One message. An error ends the connection; what merely does not fit is refused, and changes nothing.
    fn hear(&self, attempt: &str, message: Message, files: Vec<OwnedFd>) -> Result<(), String> {
        if !files.is_empty() && !matches!(message, Message::Declare(_)) {
            return Err("files came with a message that has none".into());
        }
        match message {
            Message::Declare(declare) => self.declare(&declare, files),
            Message::Preserved(_) => self.about(attempt, |state| self.ready(state)),
            Message::Quiesced(quiesced) => self.about(attempt, |state| self.quiesced(state, &quiesced)),
            Message::Refused(refused) => self.about(attempt, |state| {
                self.declined(state, &refused.reason);
                Ok(())
            }),
            Message::Resumed(resumed) => {
                let mut state = self.shared.lock();
                self.found(&mut state, resumed.checks);
                if let Err(why) = self.resumed(&mut state, resumed.counter) {
                    drop(state);
                    self.refuse(why);
                }
            }
            Message::Reclaim(reclaim) if reclaim.name != self.name => {
                self.refuse(format!("you said that you are {}, not {}", self.name, reclaim.name));
            }
            Message::Reclaim(_) => {
                if let Err(why) = self.shared.reclaim_for(&self.name, &self.peer) {
                    self.refuse(why);
                }
            }
            Message::Attached(attached) => {
                for check in attached.checks.iter().filter(|check| !check.passed) {
                    report(&format!(
                        "{} attached, but {:?} failed: {:?}",
                        self.name, check.name, check.detail
                    ));
                }
                if self.fits("Attached", Event::Attached) {
                    self.found(&mut self.shared.lock(), attached.checks);
                }
            }
            Message::Hello(_) => return Err("Hello came twice".into()),
            Message::Welcome(_)
            | Message::Verdict(_)
            | Message::Preserve(_)
            | Message::Quiesce(_)
            | Message::Commit(_)
            | Message::Resume(_)
            | Message::Grant(_)
            | Message::Done(_) => return Err("that is for the keeper to say".into()),
        }
        Ok(())
    }

    fn declare(&self, said: &Declare, files: Vec<OwnedFd>) {
        let checked = Declared::check(said, files, &self.peer, &self.shared.options.root, &|file| {
            self.shared.orchestrator.told(file)
        });
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let checked = checked.and_then(|declared| {
            let others = state.connected.iter().filter(|(name, _)| **name != self.name);
            for (other, connected) in others {
                let theirs = connected.declared.iter().flat_map(|declared| &declared.files);
                let both = theirs
                    .map(|file| &file.identity)
                    .find(|identity| declared.files.iter().any(|file| file.identity == **identity));
                if both.is_some() {
                    return Err(format!("a file that you declare is declared by {other}"));
                }
            }
            Ok(declared)
        });
        let declared = match checked {
            Ok(declared) => declared,
            Err(why) => {
                drop(guard);
                return self.refuse(why);
            }
        };
        let fits = state.connected.get(&self.name).map(|connected| connected.handover);
        if matches!(fits, Some(Handover::Connected | Handover::Declared))
            && let Some(connected) = state.connected.get_mut(&self.name)
        {
            connected.declared = Some(declared);
        }
        // In the middle of an attempt it aborts that for all: its files are not those that were taken.
        let refused = state.step(&self.name, Event::Declare).is_none();
        self.shared.publish(state);
        drop(guard);
        if refused {
            self.refuse(format!("Declare does not fit while {}", fits.map_or("gone", Handover::as_str)));
        }
    }

    /// What is said of an attempt that is over is late, and nothing to anybody.
    fn about(&self, attempt: &str, then: impl FnOnce(&mut State) -> Result<(), &'static str>) {
        let mut state = self.shared.lock();
        if attempt.is_empty() || state.attempt() != attempt {
            return;
        }
        // Told to go on while it still answered: the two crossed.
        if matches!(state.handover(&self.name, self.id), Some(Handover::Resuming | Handover::Declared)) {
            return;
        }
        if let Err(what) = then(&mut state) {
            let fits = state.handover(&self.name, self.id);
            drop(state);
            self.refuse(format!("{what} does not fit while {}", fits.map_or("gone", Handover::as_str)));
        }
    }

    fn ready(&self, state: &mut State) -> Result<(), &'static str> {
        let preserving = state.handover(&self.name, self.id) == Some(Handover::Preserving);
        let part = state.leaving.as_mut().and_then(|leaving| leaving.part(&self.name, self.id));
        match part {
            Some(part) if preserving && !part.ready => {
                part.ready = true;
                Ok(())
            }
            _ => Err("Preserved"),
        }
    }

    fn quiesced(&self, state: &mut State, said: &Quiesced) -> Result<(), &'static str> {
        let event = Event::Quiesced { interrupts_off: said.interrupts_off };
        state.step(&self.name, event).ok_or("Quiesced")?;
        let stands = state.handover(&self.name, self.id) == Some(Handover::Quiesced);
        let Some(leaving) = state.leaving.as_mut() else { return Ok(()) };
        if let Some(entry) = leaving.index.holders.iter_mut().find(|entry| entry.name == self.name) {
            entry.quiesced = Some(said.counter);
            entry.dma_quiescent = said.dma_quiescent;
        }
        // Without its interrupts off it stays as it was, and its vote is against.
        if let Some(part) = leaving.part(&self.name, self.id).filter(|_| stands) {
            part.vote = Some(Ok(()));
        }
        Ok(())
    }

    /// It does not do what it was asked to: a vote against, in whatever state.
    fn declined(&self, state: &mut State, reason: &str) {
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
        state.lose(&self.name, self.id, format!("refused: {reason}"));
    }

    fn resumed(&self, state: &mut State, ticks: u64) -> Result<(), String> {
        let before = state.handover(&self.name, self.id);
        let effects = state.step(&self.name, Event::Resumed);
        let effects = effects.ok_or_else(|| {
            format!("Resumed does not fit while {}", before.map_or("gone", Handover::as_str))
        })?;
        if effects.contains(&Effect::Finish) {
            self.shared.resumed_after(state, &self.name, ticks)?;
            self.shared.publish(state);
        } else if effects.contains(&Effect::HasResumed)
            && let Some(part) = state.part(&self.name, self.id)
        {
            part.resumed = Some(ticks);
        }
        Ok(())
    }

    fn fits(&self, what: &str, event: Event) -> bool {
        let mut state = self.shared.lock();
        let before = state.handover(&self.name, self.id);
        let fits = state.step(&self.name, event).is_some();
        if !fits {
            drop(state);
            self.refuse(format!("{what} does not fit while {}", before.map_or("gone", Handover::as_str)));
        }
        fits
    }

    /// What it says that it found is kept until it goes on.
    fn found(&self, state: &mut State, checks: Vec<Check>) {
        if let Some(connected) = state.connected.get_mut(&self.name).filter(|c| c.id == self.id) {
            connected.checks.extend(checks);
            connected.checks.truncate(MOST_CHECKS);
        }
    }

    /// Its end: it changes what the attempt is told, and nothing else.
    fn gone(&self) {
        let mut state = self.shared.lock();
        if state.connected.get(&self.name).is_some_and(|connected| connected.id == self.id) {
            // It fits every state.
            let _ = state.step(&self.name, Event::Gone);
            state.connected.remove(&self.name);
            self.shared.publish(&state);
        }
        self.shared.changed.notify_all();
    }
}
