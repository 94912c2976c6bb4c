//! Who may speak to a node, and which attempts have run on it (invariant 5).

use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use core::fmt;

use crate::Epoch;
use crate::codec::{DecodeError, Reader, Writer, parse};

const KIND: &str = "liveupdate-fence";
const VERSION: u32 = 1;
/// Attempts that are remembered after their end. An attempt id names revision and try, so that one which
/// is older than this many others cannot be meant any more.
const REMEMBERED: usize = 4096;

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Nothing in particular.
    Look,
    /// An attempt that began before.
    About(&'a str),
    /// An attempt that shall begin, or be joined.
    Begin(&'a str),
}

/// Why a call is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is about no attempt.
    Look,
    /// The attempt is new, and runs from now on.
    New,
    /// The attempt runs already.
    Running,
    /// The attempt ran and is over: only its outcome can be asked for.
    Ended,
    /// The attempt never ran here.
    NeverRan,
}

/// Why a call is not let through; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It carries no cluster or no counter.
    NoEpoch,
    /// It names no attempt where one is needed.
    NoAttempt,
    /// Another cluster than the one that this node is enrolled with.
    ForeignCluster {
        /// Ours.
        enrolled: String,
        /// The caller's.
        found: String,
    },
    /// An older leadership than one that was seen.
    Stale {
        /// Highest that was seen.
        highest: u64,
        /// The caller's.
        found: u64,
    },
    /// The attempt has run: it runs at most once.
    Repeated(String),
    /// Another attempt runs.
    OtherAttempt {
        /// The one that runs.
        running: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEpoch => f.write_str("the call carries no epoch: cluster and counter are required"),
            Self::NoAttempt => f.write_str("the call names no attempt"),
            Self::ForeignCluster { enrolled, found } => write!(
                f,
                "cluster {found:?} speaks, but this node is enrolled with cluster {enrolled:?}: enrol it again"
            ),
            Self::Stale { highest, found } => {
                write!(f, "epoch {found} is over: this node has seen epoch {highest}")
            }
            Self::Repeated(attempt) => write!(f, "attempt {attempt:?} has run here: it runs at most once"),
            Self::OtherAttempt { running } => write!(f, "attempt {running:?} runs: end it first"),
        }
    }
}

impl core::error::Error for Refusal {}

/// The highest epoch seen, and the attempts that ran. Persist it before acting on what it let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    highest: Option<Epoch>,
    running: Option<String>,
    ended: VecDeque<String>,
}

impl Fence {
    /// The highest epoch seen; none: never spoken to.
    pub fn highest(&self) -> Option<&Epoch> {
        self.highest.as_ref()
    }

    /// The attempt that runs.
    pub fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    /// Whether a call may pass; remembers its epoch, and the attempt if it begins one.
    ///
    /// # Errors
    /// See [`Refusal`]; nothing changed then.
    pub fn check(&mut self, epoch: &Epoch, call: Call<'_>) -> Result<Accepted, Refusal> {
        self.check_epoch(epoch)?;
        let accepted = match call {
            Call::Look => Accepted::Look,
            Call::About("") | Call::Begin("") => return Err(Refusal::NoAttempt),
            Call::About(attempt) | Call::Begin(attempt) if self.running.as_deref() == Some(attempt) => {
                Accepted::Running
            }
            Call::About(attempt) if self.has_ended(attempt) => Accepted::Ended,
            Call::About(_) => Accepted::NeverRan,
            Call::Begin(attempt) if self.has_ended(attempt) => return Err(Refusal::Repeated(attempt.into())),
            Call::Begin(attempt) => match &self.running {
                Some(running) => return Err(Refusal::OtherAttempt { running: running.clone() }),
                None => {
                    self.running = Some(attempt.into());
                    Accepted::New
                }
            },
        };
        self.highest = Some(epoch.clone());
        Ok(accepted)
    }

    fn check_epoch(&self, epoch: &Epoch) -> Result<(), Refusal> {
        if epoch.cluster.is_empty() || epoch.counter == 0 {
            return Err(Refusal::NoEpoch);
        }
        let Some(highest) = &self.highest else { return Ok(()) };
        if highest.cluster != epoch.cluster {
            let (enrolled, found) = (highest.cluster.clone(), epoch.cluster.clone());
            return Err(Refusal::ForeignCluster { enrolled, found });
        }
        if epoch.counter < highest.counter {
            return Err(Refusal::Stale { highest: highest.counter, found: epoch.counter });
        }
        Ok(())
    }

    /// The attempt that runs is over.
    pub fn ended(&mut self) {
        if let Some(attempt) = self.running.take() {
            self.ended.push_back(attempt);
            while self.ended.len() > REMEMBERED {
                self.ended.pop_front();
            }
        }
    }

    /// The attempt ran here and is over.
    pub fn has_ended(&self, attempt: &str) -> bool {
        self.ended.iter().any(|ended| ended == attempt)
    }

    /// Enrolled with a cluster, by an administrator's act: only its epochs count from now on. Attempts stay
    /// remembered.
    pub fn enrol(&mut self, cluster: &str) {
        if self.highest.as_ref().is_none_or(|highest| highest.cluster != cluster) {
            self.highest = Some(Epoch { cluster: cluster.into(), counter: 0 });
        }
    }

    /// As text; ends with a newline.
    pub fn encode(&self) -> String {
        let mut w = Writer::new(KIND, VERSION);
        if let Some(epoch) = &self.highest {
            w.line("epoch", &[&epoch.cluster, &epoch.counter.to_string()]);
        }
        if let Some(running) = &self.running {
            w.line("running", &[running]);
        }
        for attempt in &self.ended {
            w.line("ended", &[attempt]);
        }
        w.finish()
    }

    /// What the text holds.
    ///
    /// # Errors
    /// Another record, another version, torn, or a field that makes no sense.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        let r = Reader::new(text, KIND, VERSION)?;
        let mut fence = Self::default();
        if r.has("epoch") {
            let [cluster, counter] = r.one("epoch")?;
            fence.highest = Some(Epoch { cluster: cluster.clone(), counter: parse("epoch", counter)? });
        }
        if r.has("running") {
            let [running] = r.one("running")?;
            fence.running = Some(running.clone());
        }
        for line in r.all("ended") {
            let [attempt] = line.take("ended")?;
            fence.ended.push_back(attempt.clone());
        }
        Ok(fence)
    }
}
