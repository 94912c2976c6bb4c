//! The order of the messages, as the holder keeps it.
//!
//! ```text
//! Hello → Welcome{pending: false} → Declare → Verdict ┐
//!    ┌──────────── Ready ◄────────────────────────────┘
//!    │ Preserve       ▲ ▲
//!    ▼                │ │ Resume, or end of file: the guest goes on
//! Preserved ──────────┘ │
//!    │ Quiesce          │
//!    ▼                  │
//! Stopped ── Commit ► Committed          … jump …
//!
//! Hello → Welcome{pending: true} → Reclaim → Grant → attach → Attached → resume → Resumed → Done → Ready
//! ```
//! Whether the guest stands still is kept apart from that: `standing.rs`.

use std::time::Duration;

use liveupdate_proto::handover::v1::envelope::Message;
use liveupdate_proto::handover::v1::{
    Attached, Grant, Hello, Preserved, Quiesced, Reclaim, Refused, Resumed,
};

use crate::frame::{FrameError, Sequence, VERSION};
use crate::guest::Guest;
use crate::packet::Packet;
use crate::standing::Standing;

/// How far the handover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// `Welcome` is awaited.
    Greeting,
    /// `Verdict` is awaited.
    Declaring,
    /// Nothing is asked of it.
    Ready,
    /// Its files are in custody; the guest runs.
    Preserved,
    /// The guest stands still.
    Stopped,
    /// The guest stands still until `Resume` or the keeper's end of file.
    Committed,
    /// `Grant` is awaited.
    Reclaiming,
    /// `Done` is awaited; the guest runs.
    Returning,
}

/// Why the handover cannot go on over this connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandoverError {
    /// A packet is not in order.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The keeper speaks another version.
    #[error("the keeper chose version {found}, this side speaks {VERSION}")]
    Version {
        /// The keeper's.
        found: u32,
    },
    /// A message that does not fit.
    #[error("the keeper sent {message} while {progress:?}")]
    Unexpected {
        /// Its kind.
        message: &'static str,
        /// How far the handover was.
        progress: Progress,
    },
    /// The keeper refused.
    #[error("the keeper refused: {0}")]
    Refused(String),
    /// The VMM could not do what was needed.
    #[error("the guest could not be brought back: {0}")]
    Guest(String),
}

/// One holder's side of the handover; does no I/O.
pub struct Handover<G: Guest> {
    name: String,
    guest: Standing<G>,
    sequence: Sequence,
    attempt: String,
    progress: Progress,
    returned: Option<Returned>,
}

/// What was said of a guest that came through a jump. The keeper may die before it has written that down, and then asks
/// again: the guest runs.
struct Returned {
    attempt: String,
    attached: Attached,
    resumed: Resumed,
}

/// Packets to send, in this order.
type Answers<F> = Result<Vec<Packet<F>>, HandoverError>;

impl<G: Guest> Handover<G> {
    /// A holder that has just connected.
    pub fn new(name: impl Into<String>, guest: G) -> Self {
        let (attempt, progress) = (String::new(), Progress::Greeting);
        let guest = Standing::new(guest);
        let sequence = Sequence::default();
        Self { name: name.into(), guest, sequence, attempt, progress, returned: None }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The VMM.
    pub fn guest(&self) -> &G {
        self.guest.guest()
    }

    /// The first packet of the connection. A guest that could not go on when the last one ended goes on first: who
    /// declares itself runs.
    ///
    /// # Errors
    /// It still cannot, or the name is too long for a packet.
    pub fn hello(&mut self) -> Answers<G::File> {
        self.go_on("the keeper is gone")?;
        let hello = Hello { name: self.name.clone(), versions: vec![VERSION] };
        self.say(Message::Hello(hello))
    }

    /// A packet came.
    ///
    /// # Errors
    /// The connection cannot go on; a guest that stands still waits for [`Handover::ended`].
    pub fn receive(&mut self, packet: Packet<G::File>) -> Answers<G::File> {
        let (attempt, message) = self.sequence.decode(&packet.bytes, packet.files.len())?;
        match (self.progress, message) {
            (Progress::Greeting, Message::Welcome(welcome)) if welcome.version != VERSION => {
                Err(HandoverError::Version { found: welcome.version })
            }
            (Progress::Greeting, Message::Welcome(welcome)) if welcome.pending => {
                self.progress = Progress::Reclaiming;
                self.say(Message::Reclaim(Reclaim { name: self.name.clone() }))
            }
            (Progress::Greeting, Message::Welcome(_)) => self.declare(),
            (Progress::Declaring | Progress::Ready, Message::Verdict(verdict)) => {
                self.progress = Progress::Ready;
                self.guest.guest_mut().verdict(&verdict);
                Ok(Vec::new())
            }
            // Undone before it had to stop, an attempt leaves no other trace than the next one.
            (Progress::Ready | Progress::Preserved, Message::Preserve(_)) => {
                self.attempt = attempt;
                match self.guest.guest_mut().preserve() {
                    Ok(()) => {
                        self.progress = Progress::Preserved;
                        self.say(Message::Preserved(Preserved {}))
                    }
                    Err(reason) => self.say(Message::Refused(Refused { reason })),
                }
            }
            // What is about another attempt is late: it is not ours any more.
            (_, Message::Quiesce(_) | Message::Commit(_)) if attempt != self.attempt => {
                self.say(Message::Refused(Refused { reason: "this is another attempt".into() }))
            }
            (Progress::Preserved, Message::Quiesce(quiesce)) => {
                self.quiesce(Duration::from_millis(quiesce.deadline_ms))
            }
            (Progress::Stopped, Message::Commit(_)) => {
                self.progress = Progress::Committed;
                Ok(Vec::new())
            }
            (_, Message::Resume(resume)) => self.resume(&resume.cause),
            (Progress::Reclaiming, Message::Grant(grant)) => {
                self.attempt = attempt;
                self.attach(&grant, packet.files)
            }
            (Progress::Returning, Message::Done(_)) => {
                self.progress = Progress::Ready;
                self.returned = None;
                self.declare()
            }
            (_, Message::Refused(refused)) => Err(HandoverError::Refused(refused.reason)),
            (progress, message) => Err(HandoverError::Unexpected { message: kind(&message), progress }),
        }
    }

    /// The keeper's end of file, or an error: a guest that stands still goes on.
    ///
    /// # Errors
    /// It did not.
    pub fn ended(&mut self) -> Result<(), HandoverError> {
        // A new connection begins anew.
        self.progress = Progress::Greeting;
        self.sequence = Sequence::default();
        self.go_on("the keeper is gone").map(drop)
    }

    /// Says what it has, at first and again after hotplug. In the middle of an attempt the keeper answers by undoing that;
    /// until then it is as far as it was.
    ///
    /// # Errors
    /// It has more than a packet can carry.
    pub fn declare(&mut self) -> Answers<G::File> {
        let (declare, files) = self.guest.guest_mut().declare();
        let bytes = self.sequence.encode("", Message::Declare(declare), files.len())?;
        if matches!(self.progress, Progress::Greeting | Progress::Ready) {
            self.progress = Progress::Declaring;
        }
        Ok(vec![Packet { bytes, files }])
    }

    /// None: it ran.
    fn go_on(&mut self, cause: &str) -> Result<Option<Resumed>, HandoverError> {
        self.guest.go_on(cause).map_err(HandoverError::Guest)
    }

    fn quiesce(&mut self, deadline: Duration) -> Answers<G::File> {
        match self.guest.stop(deadline) {
            Ok(stopped) => {
                self.progress = Progress::Stopped;
                self.say(Message::Quiesced(Quiesced {
                    counter: stopped.counter,
                    interrupts_off: stopped.interrupts_off,
                    dma_quiescent: stopped.dma_quiescent,
                    state_length: stopped.state_length,
                }))
            }
            Err(reason) => self.say(Message::Refused(Refused { reason })),
        }
    }

    /// Idempotent: a guest that runs says so again.
    fn resume(&mut self, cause: &str) -> Answers<G::File> {
        let resumed = match (self.go_on(cause)?, self.progress) {
            (Some(resumed), _) => resumed,
            (None, Progress::Declaring | Progress::Ready | Progress::Preserved) => Resumed::default(),
            (None, progress) => return Err(HandoverError::Unexpected { message: "Resume", progress }),
        };
        if self.progress != Progress::Declaring {
            self.progress = Progress::Ready;
        }
        self.say(Message::Resumed(resumed))
    }

    fn attach(&mut self, grant: &Grant, mut files: Vec<G::File>) -> Answers<G::File> {
        let (Some(session), true) = (files.pop(), files.is_empty()) else {
            return Err(HandoverError::Guest("Grant comes with exactly one session file".into()));
        };
        let (attached, resumed) = match &self.returned {
            // The files are its own already.
            Some(returned) if returned.attempt == self.attempt => {
                (returned.attached.clone(), returned.resumed.clone())
            }
            _ => {
                let guest = self.guest.guest_mut();
                let checks = guest.attach(grant, session).map_err(HandoverError::Guest)?;
                let resumed = guest.resume("the jump is over").map_err(HandoverError::Guest)?;
                let (attempt, attached) = (self.attempt.clone(), Attached { checks });
                let returned = Returned { attempt, attached: attached.clone(), resumed: resumed.clone() };
                self.returned = Some(returned);
                (attached, resumed)
            }
        };
        let mut packets = self.say(Message::Attached(attached))?;
        packets.extend(self.say(Message::Resumed(resumed))?);
        self.progress = Progress::Returning;
        Ok(packets)
    }

    fn say(&mut self, message: Message) -> Answers<G::File> {
        let bytes = self.sequence.encode(&self.attempt, message, 0)?;
        Ok(vec![Packet { bytes, files: Vec::new() }])
    }
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "Hello",
        Message::Welcome(_) => "Welcome",
        Message::Declare(_) => "Declare",
        Message::Verdict(_) => "Verdict",
        Message::Preserve(_) => "Preserve",
        Message::Preserved(_) => "Preserved",
        Message::Quiesce(_) => "Quiesce",
        Message::Quiesced(_) => "Quiesced",
        Message::Commit(_) => "Commit",
        Message::Resume(_) => "Resume",
        Message::Resumed(_) => "Resumed",
        Message::Reclaim(_) => "Reclaim",
        Message::Grant(_) => "Grant",
        Message::Attached(_) => "Attached",
        Message::Done(_) => "Done",
        Message::Refused(_) => "Refused",
    }
}
