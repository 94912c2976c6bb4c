//! What is kept, for whom, and when it may be dropped (invariant 8).
//!
//! ```text
//!            ┌── refused ──┐
//!            ▼             │                 every holder finished
//! Empty ─► Outgoing ─► Committed ══ jump ══► Incoming ─────────────► Empty
//!   ▲         │                                 │ overdue              ▲
//!   └─ unpreserve (each holder has its own      ▼                      │
//!      files still)                        Quarantined ── release ─────┘
//! ```
//! Dropping means: unpreserve before the jump, FINISH after it. After the jump our copy is the only one.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::codec::{DecodeError, Reader, Writer, malformed, parse};

const KIND: &str = "liveupdate-custody";
const VERSION: u32 = 1;

/// Where custody stands as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Nothing is kept.
    #[default]
    Empty,
    /// Preserved; holders still have their own files.
    Outgoing,
    /// As before, but the jump may happen at any moment.
    Committed,
    /// After the jump: what is not reclaimed exists only here.
    Incoming,
    /// Overdue: kept until a holder or an operator comes.
    Quarantined,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Empty, Self::Outgoing, Self::Committed, Self::Incoming, Self::Quarantined];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Outgoing => "Outgoing",
            Self::Committed => "Committed",
            Self::Incoming => "Incoming",
            Self::Quarantined => "Quarantined",
        }
    }
}

/// How far a holder is with what is kept for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// It has not come.
    Awaited,
    /// It was given the session; it may die and come again.
    Granted,
    /// It goes on with its files: FINISH is allowed.
    Resumed,
}

impl Claim {
    const ALL: [Self; 3] = [Self::Awaited, Self::Granted, Self::Resumed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Awaited => "Awaited",
            Self::Granted => "Granted",
            Self::Resumed => "Resumed",
        }
    }
}

/// What is kept for one holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Tokens of its files.
    pub tokens: Vec<u64>,
    /// How far it is.
    pub claim: Claim,
}

/// Leave to drop what was kept for a holder. Made by the checks alone; whoever drops files asks for one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what may be dropped is still held by the kernel"]
pub struct Drop {
    holder: String,
    tokens: Vec<u64>,
}

impl Drop {
    /// Whose.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Which files.
    pub fn tokens(&self) -> &[u64] {
        &self.tokens
    }
}

/// Why custody refuses; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not in this phase.
    Phase {
        /// What was asked for.
        asked: &'static str,
        /// Where custody stands.
        phase: Phase,
    },
    /// Nothing is kept for that holder.
    Unknown(String),
    /// Something is kept for that holder already.
    Repeated(String),
    /// The holder has not resumed, and may come again.
    NotResumed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase { asked, phase } => {
                write!(f, "{asked} is not possible while custody is {}: everything is kept", phase.as_str())
            }
            Self::Unknown(holder) => write!(f, "nothing is kept for holder {holder:?}"),
            Self::Repeated(holder) => write!(f, "files of holder {holder:?} are already kept"),
            Self::NotResumed(holder) => {
                write!(f, "holder {holder:?} has not resumed and may come for its files: they are kept")
            }
        }
    }
}

impl core::error::Error for Refusal {}

/// The files that the keeper answers for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Custody {
    phase: Phase,
    kept: BTreeMap<String, Kept>,
}

impl Custody {
    /// Where it stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What is kept, by holder.
    pub fn kept(&self) -> &BTreeMap<String, Kept> {
        &self.kept
    }

    /// Takes custody of a holder's files.
    ///
    /// # Errors
    /// After the commit, or files of that holder are already kept.
    pub fn take(&mut self, holder: &str, tokens: Vec<u64>) -> Result<(), Refusal> {
        self.only("taking files", &[Phase::Empty, Phase::Outgoing])?;
        if self.kept.contains_key(holder) {
            return Err(Refusal::Repeated(holder.into()));
        }
        self.kept.insert(holder.into(), Kept { tokens, claim: Claim::Awaited });
        self.phase = Phase::Outgoing;
        Ok(())
    }

    /// Undoes custody before the commit: holders have their own files still.
    ///
    /// # Errors
    /// After the commit.
    pub fn unpreserve(&mut self) -> Result<Vec<Drop>, Refusal> {
        self.only("undoing", &[Phase::Empty, Phase::Outgoing])?;
        Ok(self.drop_all())
    }

    /// The jump may happen from now on.
    ///
    /// # Errors
    /// After the jump.
    pub fn commit(&mut self) -> Result<(), Refusal> {
        self.only("committing", &[Phase::Empty, Phase::Outgoing])?;
        if !self.kept.is_empty() {
            self.phase = Phase::Committed;
        }
        Ok(())
    }

    /// The kernel refused the jump: it can be undone again.
    ///
    /// # Errors
    /// Not committed.
    pub fn refused(&mut self) -> Result<(), Refusal> {
        self.only("going back", &[Phase::Empty, Phase::Committed])?;
        if self.phase == Phase::Committed {
            self.phase = Phase::Outgoing;
        }
        Ok(())
    }

    /// The jump happened.
    ///
    /// # Errors
    /// Not committed.
    pub fn jumped(&mut self) -> Result<(), Refusal> {
        self.only("arriving", &[Phase::Empty, Phase::Committed])?;
        if self.phase == Phase::Committed {
            self.phase = Phase::Incoming;
        }
        Ok(())
    }

    /// Gives a holder its session; again if its process died and came back.
    ///
    /// # Errors
    /// Before the jump, nothing is kept for it, or it has resumed.
    pub fn grant(&mut self, holder: &str) -> Result<&[u64], Refusal> {
        self.only("granting", &[Phase::Incoming, Phase::Quarantined])?;
        let kept = self.kept.get_mut(holder).ok_or_else(|| Refusal::Unknown(holder.into()))?;
        if kept.claim == Claim::Resumed {
            return Err(Refusal::Unknown(holder.into()));
        }
        kept.claim = Claim::Granted;
        Ok(&kept.tokens)
    }

    /// The holder goes on with its files.
    ///
    /// # Errors
    /// Before the jump, or it was never given them.
    pub fn resumed(&mut self, holder: &str) -> Result<(), Refusal> {
        self.only("resuming", &[Phase::Incoming, Phase::Quarantined])?;
        let kept = self.kept.get_mut(holder).ok_or_else(|| Refusal::Unknown(holder.into()))?;
        if kept.claim == Claim::Awaited {
            return Err(Refusal::NotResumed(holder.into()));
        }
        kept.claim = Claim::Resumed;
        Ok(())
    }

    /// Leave to FINISH a holder's session.
    ///
    /// # Errors
    /// Before the jump, or the holder has not resumed.
    pub fn finish(&mut self, holder: &str) -> Result<Drop, Refusal> {
        self.only("finishing", &[Phase::Incoming, Phase::Quarantined])?;
        match self.kept.get(holder) {
            None => return Err(Refusal::Unknown(holder.into())),
            Some(kept) if kept.claim != Claim::Resumed => return Err(Refusal::NotResumed(holder.into())),
            Some(_) => {}
        }
        let tokens = self.kept.remove(holder).map(|kept| kept.tokens).unwrap_or_default();
        if self.kept.is_empty() {
            self.phase = Phase::Empty;
        }
        Ok(Drop { holder: holder.into(), tokens })
    }

    /// Holders are overdue: everything is kept.
    ///
    /// # Errors
    /// Nothing is kept, or the jump may still happen.
    pub fn quarantine(&mut self) -> Result<(), Refusal> {
        self.only("quarantine", &[Phase::Outgoing, Phase::Incoming, Phase::Quarantined])?;
        self.phase = Phase::Quarantined;
        Ok(())
    }

    /// An operator's word gives up everything that is in quarantine.
    ///
    /// # Errors
    /// Not in quarantine.
    pub fn release(&mut self) -> Result<Vec<Drop>, Refusal> {
        self.only("a release", &[Phase::Quarantined])?;
        Ok(self.drop_all())
    }

    fn drop_all(&mut self) -> Vec<Drop> {
        self.phase = Phase::Empty;
        let kept = core::mem::take(&mut self.kept);
        kept.into_iter().map(|(holder, kept)| Drop { holder, tokens: kept.tokens }).collect()
    }

    fn only(&self, asked: &'static str, phases: &[Phase]) -> Result<(), Refusal> {
        if phases.contains(&self.phase) { Ok(()) } else { Err(Refusal::Phase { asked, phase: self.phase }) }
    }

    /// As text; ends with a newline.
    pub fn encode(&self) -> String {
        let mut w = Writer::new(KIND, VERSION);
        w.line("phase", &[self.phase.as_str()]);
        for (holder, kept) in &self.kept {
            let tokens: Vec<String> = kept.tokens.iter().map(ToString::to_string).collect();
            let mut words = alloc::vec![holder.as_str(), kept.claim.as_str()];
            words.extend(tokens.iter().map(String::as_str));
            w.line("kept", &words);
        }
        w.finish()
    }

    /// What the text holds.
    ///
    /// # Errors
    /// Another record, another version, torn, or a field that makes no sense.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        let r = Reader::new(text, KIND, VERSION)?;
        let [phase] = r.one("phase")?;
        let found = Phase::ALL.into_iter().find(|p| p.as_str() == phase);
        let mut custody =
            Self { phase: found.ok_or_else(|| malformed("phase", phase))?, kept: BTreeMap::new() };
        for line in r.all("kept") {
            let [holder, claim, tokens @ ..] = line.words.as_slice() else {
                return Err(malformed("kept", &line.words.join(" ")));
            };
            let claim = Claim::ALL
                .into_iter()
                .find(|c| c.as_str() == claim)
                .ok_or_else(|| malformed("kept", claim))?;
            let tokens = tokens.iter().map(|token| parse("kept", token)).collect::<Result<_, _>>()?;
            custody.kept.insert(holder.clone(), Kept { tokens, claim });
        }
        Ok(custody)
    }
}
