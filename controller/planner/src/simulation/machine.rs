//! One pretended node.
//!
//! ```text
//! Idle ─run─► Preparing ─prepare─► AsksPermission ─permit─► Jumping ─jump─► Returned
//!                  └─ fault: Aborted, Failed                   └─ fault: other kernel, never back
//! ```

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use crate::Time;
use crate::input::{Agent, AgentFacts, AttemptFacts, AttemptState, Node, Outcome, Proof, Text, Verdict};
use crate::output::Reason;

/// What a machine says of what it keeps.
const KEPT: &str = "these holders did not take their files back: vm-a";

/// How a machine behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// From the start of an attempt to its request for the permission.
    pub prepare: Duration,
    /// From the permission to the return.
    pub jump: Duration,
    /// What it says of its blackout.
    pub blackout: Duration,
    /// The kubelet has renewed the Lease when the node is back.
    pub renews: bool,
    /// Models of held devices.
    pub models: BTreeSet<String>,
    /// What is in its way.
    pub blocked: Option<(Reason, Text)>,
    /// What goes wrong.
    pub fault: Option<Fault>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            prepare: Duration::from_secs(20),
            jump: Duration::from_secs(5),
            blackout: Duration::from_millis(800),
            renews: false,
            models: BTreeSet::new(),
            blocked: None,
            fault: None,
        }
    }
}

/// What goes wrong with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Attempts are undone while they prepare.
    Aborts,
    /// Attempts end badly in the commit.
    Fails(Reason),
    /// Another kernel comes up.
    WrongKernel,
    /// It never comes back.
    NeverReturns,
    /// It comes back and is not Ready.
    NotReady,
    /// Its agent names another boot than its kernel.
    LiesAboutBoot,
    /// Its agent does not answer.
    Silent,
    /// Its agent talks nonsense.
    Misbehaves,
}

/// One pretended node.
#[derive(Clone, Debug)]
pub struct Machine {
    /// How it behaves.
    pub behaviour: Behaviour,
    /// The boot that runs.
    pub boot_id: Text,
    /// Its kernel.
    pub release: Text,
    /// Digest of its kernel's bundle.
    pub digest: Text,
    /// The controller has heard from its agent since it was started.
    pub(super) said: bool,
    pub(super) attempt: Option<AttemptFacts>,
    /// The attempt of which it keeps files in quarantine, and its sentence about it: nothing else begins here
    /// before they are given up.
    pub(super) kept: Option<(Text, Text)>,
    pub(super) verdict: Option<Verdict>,
    pub(super) due: Option<Time>,
    /// Release and digest that the attempt jumps to.
    pub(super) target: (Text, Text),
    /// Attempts that began here.
    pub(super) began: BTreeSet<Text>,
    uid: String,
    boots: u32,
}

impl Machine {
    pub(super) fn new(uid: &str, release: Text, behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            boot_id: format!("{uid}-boot-1").into(),
            release,
            digest: Text::default(),
            said: false,
            attempt: None,
            kept: None,
            verdict: None,
            due: None,
            target: (Text::default(), Text::default()),
            began: BTreeSet::new(),
            uid: uid.to_string(),
            boots: 1,
        }
    }

    /// When it goes on by itself.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// Its attempt and how far that is.
    pub fn attempt(&self) -> Option<(&str, &AttemptState)> {
        self.attempt.as_ref().map(|facts| (facts.attempt.as_str(), &facts.state))
    }

    /// It answers at all, and with sense.
    pub(super) fn answers(&self) -> bool {
        !matches!(self.behaviour.fault, Some(Fault::Silent | Fault::Misbehaves))
    }

    /// What the controller hears when it asks now; true when that is news.
    pub(super) fn tell(&self, agent: &mut Agent, now: Time) -> bool {
        let said = match (self.behaviour.fault, &mut *agent) {
            (Some(Fault::Silent), Agent::Unreachable { .. }) => return false,
            (Some(Fault::Silent), before) => {
                let never = matches!(before, Agent::Unasked) && self.attempt.is_none();
                Agent::Unreachable { since: now, never, why: Text::fixed("no answer") }
            }
            (Some(Fault::Misbehaves), Agent::Misbehaves { .. }) => return false,
            (Some(Fault::Misbehaves), _) => {
                Agent::Misbehaves { why: Text::fixed("its answer is for another node") }
            }
            (_, Agent::Answered(facts)) => return self.correct(facts),
            (..) => {
                let mut facts = AgentFacts::default();
                self.correct(&mut facts);
                Agent::Answered(facts)
            }
        };
        *agent = said;
        true
    }

    /// Corrects what is not so any more; true when that was anything.
    fn correct(&self, facts: &mut AgentFacts) -> bool {
        fn one<T: Clone + PartialEq>(known: &mut T, is: &T) -> bool {
            let wrong = known != is;
            if wrong {
                known.clone_from(is);
            }
            wrong
        }
        one(&mut facts.boot_id, &self.claimed_boot())
            | one(&mut facts.release, &self.release)
            | one(&mut facts.digest, &self.digest)
            | one(&mut facts.models, &self.behaviour.models)
            | one(&mut facts.verdict, &self.verdict)
            | one(&mut facts.attempt, &self.attempt)
            | one(&mut facts.kept, &self.kept)
    }

    fn claimed_boot(&self) -> Text {
        match (self.behaviour.fault, self.boots) {
            (Some(Fault::LiesAboutBoot), 2..) => format!("{}-made-up", self.uid).into(),
            _ => self.boot_id.clone(),
        }
    }

    /// What never came back comes back at `at` after all.
    pub fn come_to_life(&mut self, at: Time) {
        let jumping = matches!(self.attempt(), Some((_, AttemptState::Jumping { .. })));
        if jumping && self.due.is_none() {
            self.due = Some(at);
        }
    }

    /// It crashes, and this kernel comes up.
    pub fn crash_into(&mut self, node: &mut Node, release: &str) {
        self.boot();
        self.release = Text::copy(release);
        self.digest = format!("sha256:{release}").into();
        node.boot_id.clone_from(&self.boot_id);
        node.release.clone_from(&self.release);
    }

    fn boot(&mut self) {
        self.boots += 1;
        self.boot_id = format!("{}-boot-{}", self.uid, self.boots).into();
    }

    pub(super) fn begin(&mut self, attempt: &Text, target: (Text, Text), now: Time) {
        self.began.insert(attempt.clone());
        self.target = target;
        self.attempt = Some(AttemptFacts { attempt: attempt.clone(), state: AttemptState::Preparing });
        self.due = Some(now.after(self.behaviour.prepare));
    }

    /// By an operator's word; what is not there any more is given up already.
    pub(super) fn give_up(&mut self, attempt: &Text) {
        self.kept = None;
        let why = format!("{KEPT}; an operator gave up the files that were kept").into();
        let state = AttemptState::Failed { reason: Reason::Quarantined, why };
        self.attempt = Some(AttemptFacts { attempt: attempt.clone(), state });
    }

    pub(super) fn permitted(&mut self, now: Time) {
        let fault = self.behaviour.fault;
        let Some(attempt) = &mut self.attempt else { return };
        if let Some(Fault::Fails(reason)) = fault {
            let why = Text::fixed(if reason == Reason::Quarantined { KEPT } else { "" });
            self.kept = (reason == Reason::Quarantined).then(|| (attempt.attempt.clone(), why.clone()));
            attempt.state = AttemptState::Failed { reason, why };
            return;
        }
        attempt.state = AttemptState::Jumping { since: now };
        self.due = (fault != Some(Fault::NeverReturns)).then(|| now.after(self.behaviour.jump));
    }

    /// Goes on if it is time; true when something changed.
    pub(super) fn go_on(&mut self, node: &mut Node, now: Time) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.due = None;
        let Some(attempt) = &mut self.attempt else { return true };
        match attempt.state {
            AttemptState::Preparing if self.behaviour.fault == Some(Fault::Aborts) => {
                attempt.state =
                    AttemptState::Aborted { reason: Reason::AttemptAborted, why: "a holder voted no".into() };
            }
            AttemptState::Preparing => {
                let receipt = format!("receipt of {}", attempt.attempt);
                attempt.state = AttemptState::AsksPermission { receipt, boot_id: self.boot_id.to_string() };
            }
            AttemptState::Jumping { .. } => self.come_back(node, now),
            _ => {}
        }
        true
    }

    /// Another kernel runs; its kubelet says so.
    fn come_back(&mut self, node: &mut Node, now: Time) {
        let before = core::mem::take(&mut self.boot_id);
        self.boot();
        if self.behaviour.fault != Some(Fault::WrongKernel) {
            (self.release, self.digest) = self.target.clone();
        }
        node.boot_id.clone_from(&self.boot_id);
        node.release.clone_from(&self.release);
        node.ready = self.behaviour.fault != Some(Fault::NotReady);
        node.lease_renewed = self.behaviour.renews;
        let proof = Proof {
            boot_id: self.claimed_boot().to_string(),
            boot_id_before: before.to_string(),
            release: self.release.as_str().into(),
            nonce_returned: true,
        };
        let number = u32::try_from(self.behaviour.models.len()).unwrap_or(u32::MAX);
        if let Some(attempt) = &mut self.attempt {
            attempt.state = AttemptState::Returned {
                since: now,
                proof,
                blackout: Some(self.behaviour.blackout),
                simulated: true,
                devices: [(Outcome::Paused, number)].into_iter().collect(),
            };
        }
    }
}
