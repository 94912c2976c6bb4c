//! An attempt that is being undone.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{AfterCommit, Attempt, Effect, End, Ended, FailReason, Node, StateName, Transition};
use crate::Monotonic;
use crate::outcomes::Outcomes;

/// Being undone: holders are to go on, custody to be given up, the image to be unloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thawing {
    pub(super) attempt: Attempt,
    pub(super) then: Then,
    /// How far the attempt had come.
    pub(super) reached: StateName,
    pub(super) why: String,
    /// Holders that must still say that they go on.
    pub(super) waiting: BTreeSet<String>,
    pub(super) undone: bool,
    /// It was given up while holders were being stopped, and who was is still to be seen: until then nothing is undone, since
    /// who is started again looks like one who was never stopped.
    pub(super) look: bool,
    pub(super) outcomes: Outcomes,
    pub(super) entered: Monotonic,
}

/// What it becomes when all is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Aborted,
    KernelRefused,
}

/// What undoes an attempt that had come that far, in the reverse order of doing it.
fn undo(reached: StateName) -> Vec<Effect> {
    let steps = [
        (StateName::Committing, Effect::ThawFilesystems),
        (StateName::Quiescing, Effect::ResumeHolders),
        (StateName::Settling, Effect::RestartBystanders),
        (StateName::Preserving, Effect::Unpreserve),
        (StateName::Staging, Effect::UnloadImage),
        (StateName::Staging, Effect::ReportUndone),
    ];
    steps.into_iter().filter(|(done, _)| reached >= *done).map(|(_, effect)| effect).collect()
}

impl Thawing {
    /// The attempt.
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Why it is undone.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Holders that must still say that they go on.
    pub fn waiting(&self) -> &BTreeSet<String> {
        &self.waiting
    }

    /// Who was stopped is still to be seen.
    pub fn looks(&self) -> bool {
        self.look
    }

    /// `settled`: Settling had come to its end, if the attempt had come that far.
    pub(super) fn enter(
        attempt: Attempt,
        then: Then,
        reached: StateName,
        settled: bool,
        why: String,
        now: Monotonic,
    ) -> Transition {
        let look = reached == StateName::Settling && !settled && attempt.stops();
        let quiesced = reached >= StateName::Quiescing;
        let waiting = if quiesced { attempt.handed_over() } else { BTreeSet::new() };
        let outcomes = if quiesced {
            attempt.await_outcomes()
        } else if reached >= StateName::Settling {
            attempt.only_stopped()
        } else {
            attempt.nothing_done()
        };
        let thawing =
            Self { attempt, then, reached, why, waiting, undone: false, look, outcomes, entered: now };
        let effects = thawing.effects();
        Transition::to(Node::Thawing(thawing), effects)
    }

    /// What is to be done: on entering, and again after a restart.
    pub(super) fn effects(&self) -> Vec<Effect> {
        if self.look { vec![Effect::SeeStopped] } else { undo(self.reached) }
    }

    /// Of these nobody was stopped; of the others that were to be it has to be taken for true.
    pub(super) fn seen(mut self, held: &BTreeSet<String>) -> Transition {
        self.look = false;
        held.iter().for_each(|address| self.outcomes.still_held(address));
        let effects = self.effects();
        Transition::to(Node::Thawing(self), effects)
    }

    /// Over once all is undone and every holder goes on.
    pub(super) fn settle(self) -> Transition {
        if !self.undone || !self.waiting.is_empty() {
            return Transition::to(Node::Thawing(self), Vec::new());
        }
        let end = match self.then {
            Then::Aborted => End::Aborted,
            Then::KernelRefused => End::Failed(FailReason::KernelRefused),
        };
        self.end(end)
    }

    pub(super) fn end(self, end: End) -> Transition {
        let Self { attempt, why, outcomes, .. } = self;
        let outcomes = outcomes.finish();
        let ended = Ended { attempt, end, message: why, outcomes, proof: None, confirmed: false };
        Transition::to(Node::Ended(ended), Vec::new())
    }

    /// The deadline passed.
    pub(super) fn overdue(mut self, now: Monotonic) -> Transition {
        if self.waiting.is_empty() {
            let why = format!("{}; undoing it was not finished in time: what is preserved is kept", self.why);
            return AfterCommit::quarantine(self.attempt, None, self.outcomes, BTreeSet::new(), why, now);
        }
        let names: Vec<&str> = self.waiting.iter().map(String::as_str).collect();
        self.why =
            format!("{}; after that these holders did not go on in time: {}", self.why, names.join(", "));
        self.end(End::Failed(FailReason::HolderNotResumed))
    }
}
