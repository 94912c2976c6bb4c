//! One event at a time.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::thaw::{Thawing, Then};
use super::{
    AfterCommit, BeforeCommit, Effect, End, Ended, Event, Evidence, Exit, FailReason, Node, Phase, Proof,
    Stage, StateName, Transition,
};
use crate::Monotonic;

impl Node {
    /// What an event does to the state. Total: an event that does not fit is refused and changes nothing.
    pub fn step(self, event: Event, now: Monotonic) -> Transition {
        let name = event.name();
        if event == Event::Tick {
            return self.tick(now);
        }
        match (self, event) {
            (node, Event::Begin(attempt)) if node.is_free() => {
                BeforeCommit::enter(*attempt, Phase::Preflight, now)
            }
            (node, Event::Take(attempt)) if node.is_free() => {
                BeforeCommit::enter(*attempt, Phase::Preserving, now)
            }
            (Self::Before(before), event) => before.step(event, now),
            (Self::Thawing(thawing), event) => thawing.step(event),
            (Self::After(after), event) => after.step(event, now),
            (Self::Ended(mut ended), Event::Confirm) => {
                ended.confirmed = true;
                Transition::to(Self::Ended(ended), Vec::new())
            }
            // A device that was given up as lost comes back after all.
            (Self::Ended(mut ended), Event::Device { address, facts }) => {
                match ended.outcomes.correct(&address, facts) {
                    Ok(()) => {
                        ended.confirmed = false;
                        Transition::to(Self::Ended(ended), vec![Effect::Knock])
                    }
                    Err(_) => Transition::refuse(Self::Ended(ended), name),
                }
            }
            (node @ (Self::Idle | Self::Ended(_)), Event::Started(_)) => {
                Transition::to(node, vec![Effect::Knock])
            }
            // Asked to abort what is over: it is idempotent.
            (node @ Self::Ended(_), Event::Abort(_)) => Transition::to(node, Vec::new()),
            (node, _) => Transition::refuse(node, name),
        }
    }

    fn tick(self, now: Monotonic) -> Transition {
        let Some(deadline) = self.deadline().filter(|d| now >= d.at) else {
            return Transition::to(self, Vec::new());
        };
        let what = format!("{} took longer than {} s", self.name(), deadline.after.as_secs());
        match (self, deadline.exit) {
            (Self::Before(before), _) => before.abort(what, now),
            (Self::Thawing(thawing), _) => thawing.overdue(now),
            (Self::After(after), Exit::KernelRefused) => after.refused(what, now),
            (Self::After(after), Exit::Quarantine) => after.quarantined(&what, now),
            (Self::After(after), Exit::VerifyFailed) => {
                after.fail(FailReason::VerifyFailed, format!("{what}: the target is not the default kernel"))
            }
            (Self::After(mut after), _) => {
                after.entered = now;
                Transition::to(Self::After(after), vec![Effect::Knock])
            }
            (node @ (Self::Idle | Self::Ended(_)), _) => Transition::to(node, Vec::new()),
        }
    }
}

impl BeforeCommit {
    fn step(self, event: Event, now: Monotonic) -> Transition {
        let name = event.name();
        let Self { attempt, phase, entered } = self;
        match (phase, event) {
            (phase, Event::Abort(why)) => Self { attempt, phase, entered }.abort(why, now),
            (phase, Event::Started(evidence)) => Self { attempt, phase, entered }.restarted(&evidence, now),
            (Phase::Preflight, Event::Clear) => Self::enter(attempt, Phase::Queued, now),
            (Phase::Preflight, Event::Blocked(reason, message)) => {
                let outcomes = attempt.nothing_done().finish();
                let end = End::Blocked(reason);
                let ended = Ended { attempt, end, message, outcomes, proof: None, confirmed: false };
                Transition::to(Node::Ended(ended), Vec::new())
            }
            (Phase::Queued, Event::Stage) => Self::enter(attempt, Phase::Staging, now),
            (Phase::Staging, Event::Staged) => Self::enter(attempt, Phase::Preserving, now),
            (Phase::Preserving, Event::Preserved) => {
                Self::enter(attempt, Phase::Settling { settled: false }, now)
            }
            (Phase::Settling { settled: false }, Event::Settled) => {
                Self::enter(attempt, Phase::Settling { settled: true }, now)
            }
            (Phase::Settling { settled: true }, Event::Go(go)) => {
                // Checked here already, so that no guest is stopped for nothing.
                let fits = go.receipt.is_for(&attempt) && go.permission.answers(&go.receipt);
                if !fits || go.permission.check(now, &attempt.boot_id).is_err() {
                    let phase = Phase::Settling { settled: true };
                    return Transition::refuse(Node::Before(Self { attempt, phase, entered }), name);
                }
                Self::enter(attempt, Phase::Quiescing { go: Some(go) }, now)
            }
            (Phase::Quiescing { go }, Event::Quiesced) => {
                Self::enter(attempt, Phase::Committing { go, intent: false }, now)
            }
            (Phase::Committing { go, intent: false }, Event::ShortListPassed) => {
                let phase = Phase::Committing { go, intent: true };
                let effects = phase.effects();
                Transition::to(Node::Before(Self { attempt, phase, entered }), effects)
            }
            (Phase::Committing { go: Some(go), intent: true }, Event::IntentWritten) => {
                Self { attempt, phase: Phase::Committing { go: None, intent: true }, entered }.commit(go, now)
            }
            (phase @ Phase::Committing { go: None, .. }, Event::IntentWritten) => {
                let why = "there is no receipt or no permission".to_string();
                Self { attempt, phase, entered }.abort(why, now)
            }
            (phase, _) => Transition::refuse(Node::Before(Self { attempt, phase, entered }), name),
        }
    }

    /// A keeper starts and finds this in its journal.
    fn restarted(self, evidence: &Evidence, now: Monotonic) -> Transition {
        let same_boot = evidence.boot_id == self.attempt.boot_id;
        let intent = matches!(self.phase, Phase::Committing { intent: true, .. });
        match (same_boot, self.phase.name()) {
            (true, StateName::Quiescing | StateName::Committing) => {
                self.abort("the keeper was started again while holders stood still".to_string(), now)
            }
            (true, _) => {
                let effects = self.phase.effects();
                Transition::to(Node::Before(self), effects)
            }
            // The last word on disk before the jump: it may have happened.
            (false, _) if intent => AfterCommit::came_up(self.attempt, evidence, now),
            (false, reached) => {
                let outcomes = if reached >= StateName::Preserving {
                    self.attempt.await_outcomes()
                } else {
                    self.attempt.nothing_done()
                };
                let message = format!("the node went down and up while it was {reached}, not by us");
                let node = AfterCommit::end(self.attempt, End::Aborted, message, outcomes, None);
                Transition::to(node, vec![Effect::Knock])
            }
        }
    }
}

impl Thawing {
    fn step(mut self, event: Event) -> Transition {
        let name = event.name();
        match event {
            Event::Abort(_) => Transition::to(Node::Thawing(self), Vec::new()),
            Event::StillHeld(held) if self.look => self.seen(&held),
            Event::Undone if !self.look => {
                self.undone = true;
                self.settle()
            }
            Event::HolderResumed(holder) => {
                self.waiting.remove(&holder);
                self.settle()
            }
            Event::Device { address, facts } => match self.outcomes.take(&address, facts) {
                Ok(()) => Transition::to(Node::Thawing(self), Vec::new()),
                Err(_) => Transition::refuse(Node::Thawing(self), name),
            },
            Event::Started(evidence) if evidence.boot_id == self.attempt.boot_id => {
                let effects = self.effects();
                Transition::to(Node::Thawing(self), effects)
            }
            Event::Started(_) => {
                self.why = format!("{}; then the node went down and up, not by us", self.why);
                let end = match (self.waiting.is_empty(), self.then) {
                    (false, _) => End::Failed(FailReason::HolderNotResumed),
                    (true, Then::KernelRefused) => End::Failed(FailReason::KernelRefused),
                    (true, Then::Aborted) => End::Aborted,
                };
                self.end(end)
            }
            _ => Transition::refuse(Node::Thawing(self), name),
        }
    }
}

impl AfterCommit {
    fn step(self, event: Event, now: Monotonic) -> Transition {
        let name = event.name();
        if let Event::Started(evidence) = &event {
            return self.restarted(evidence, now);
        }
        let Self { attempt, stage, entered } = self;
        match (stage, event) {
            (stage @ Stage::Jumping, Event::KernelRefused(why)) => {
                Self { attempt, stage, entered }.refused(why, now)
            }
            (Stage::Returned { proof }, Event::Retrieved) => {
                let (outcomes, waiting) = (attempt.await_outcomes(), attempt.handed_over());
                if waiting.is_empty() {
                    return Self::enter(attempt, Stage::Verifying { proof, outcomes }, now);
                }
                Self::enter(attempt, Stage::Reclaiming { proof, outcomes, waiting }, now)
            }
            (Stage::Reclaiming { proof, mut outcomes, waiting }, Event::Device { address, facts }) => {
                let taken = outcomes.take(&address, facts).is_ok();
                let stage = Stage::Reclaiming { proof, outcomes, waiting };
                let node = Node::After(Self { attempt, stage, entered });
                if taken { Transition::to(node, Vec::new()) } else { Transition::refuse(node, name) }
            }
            (Stage::Reclaiming { proof, outcomes, mut waiting }, Event::HolderResumed(holder)) => {
                waiting.remove(&holder);
                Self::reclaim(attempt, proof, outcomes, waiting, entered, now)
            }
            // Facts may come after their holder's resumption.
            (Stage::Verifying { proof, mut outcomes }, Event::Device { address, facts }) => {
                let taken = outcomes.take(&address, facts).is_ok();
                let stage = Stage::Verifying { proof, outcomes };
                let node = Node::After(Self { attempt, stage, entered });
                if taken { Transition::to(node, Vec::new()) } else { Transition::refuse(node, name) }
            }
            (Stage::Verifying { proof, outcomes }, Event::Confirm) => {
                if attempt.persist {
                    return Self::enter(attempt, Stage::Persisting { proof, outcomes }, now);
                }
                Transition::to(Self::updated(attempt, outcomes, proof, ""), Vec::new())
            }
            // Idempotent: the confirmation may come again while the target is made permanent.
            (stage @ Stage::Persisting { .. }, Event::Confirm) => {
                Transition::to(Node::After(Self { attempt, stage, entered }), Vec::new())
            }
            (Stage::Persisting { proof, outcomes }, Event::Persisted(said)) => {
                let said = format!("; {said}");
                Transition::to(Self::updated(attempt, outcomes, proof, &said), Vec::new())
            }
            (Stage::Quarantined { proof, outcomes, waiting, why, confirmed }, event) => {
                let held = Held { proof, outcomes, waiting, why, confirmed };
                Self::quarantined_step(attempt, held, entered, event)
            }
            (stage, _) => Transition::refuse(Node::After(Self { attempt, stage, entered }), name),
        }
    }
}

/// What is held in quarantine.
struct Held {
    proof: Option<Proof>,
    outcomes: crate::outcomes::Outcomes,
    waiting: BTreeSet<String>,
    why: String,
    confirmed: bool,
}

impl AfterCommit {
    fn quarantined_step(attempt: super::Attempt, held: Held, entered: Monotonic, event: Event) -> Transition {
        let name = event.name();
        let Held { proof, mut outcomes, mut waiting, why, mut confirmed } = held;
        let mut refused = false;
        match event {
            Event::Release => {
                let message = format!("{why}; an operator gave up the files that were kept");
                let node = Self::end(attempt, End::Failed(FailReason::Quarantined), message, outcomes, proof);
                return Transition::to(node, vec![Effect::ReleaseCustody, Effect::Knock]);
            }
            Event::HolderResumed(holder) if waiting.remove(&holder) && waiting.is_empty() => {
                let message = format!("{why}; they came later and have their files");
                let node = Self::end(attempt, End::Failed(FailReason::Quarantined), message, outcomes, proof);
                return Transition::to(node, vec![Effect::FinishSessions, Effect::Knock]);
            }
            // The undo was late, but came.
            Event::Undone if proof.is_none() => {
                let message = format!("{why}; it was finished later");
                let node = Self::end(attempt, End::Failed(FailReason::Quarantined), message, outcomes, proof);
                return Transition::to(node, vec![Effect::Knock]);
            }
            Event::HolderResumed(_) => {}
            Event::Device { address, facts } => refused = outcomes.take(&address, facts).is_err(),
            Event::Confirm => confirmed = true,
            _ => refused = true,
        }
        let stage = Stage::Quarantined { proof, outcomes, waiting, why, confirmed };
        let node = Node::After(Self { attempt, stage, entered });
        if refused { Transition::refuse(node, name) } else { Transition::to(node, Vec::new()) }
    }

    fn updated(
        attempt: super::Attempt,
        outcomes: crate::outcomes::Outcomes,
        proof: Proof,
        more: &str,
    ) -> Node {
        let message = format!("runs {}{more}", attempt.target.release);
        let outcomes = outcomes.finish();
        Node::Ended(Ended {
            attempt,
            end: End::Updated,
            message,
            outcomes,
            proof: Some(proof),
            confirmed: true,
        })
    }

    /// The kernel did not jump: undo, then fail.
    fn refused(self, why: String, now: Monotonic) -> Transition {
        Thawing::enter(self.attempt, Then::KernelRefused, StateName::Jumping, true, why, now)
    }

    fn quarantined(self, why: &str, now: Monotonic) -> Transition {
        let Self { attempt, stage, .. } = self;
        let waiting = attempt.handed_over();
        match stage {
            Stage::Reclaiming { proof, outcomes, waiting } => {
                let names: Vec<&str> = waiting.iter().map(String::as_str).collect();
                let why = format!("{why}: these holders did not take their files back: {}", names.join(", "));
                Self::quarantine(attempt, Some(proof), outcomes, waiting, why, now)
            }
            Stage::Returned { proof } => {
                let outcomes = attempt.await_outcomes();
                let why = format!("{why}: the sessions were not retrieved");
                Self::quarantine(attempt, Some(proof), outcomes, waiting, why, now)
            }
            stage => Transition::to(Node::After(Self { attempt, stage, entered: now }), vec![Effect::Knock]),
        }
    }

    /// Another boot than the one that the attempt began on.
    fn came_up(attempt: super::Attempt, evidence: &Evidence, now: Monotonic) -> Transition {
        match Proof::check(&attempt, evidence) {
            Ok(proof) => {
                let mut transition = Self::enter(attempt, Stage::Returned { proof }, now);
                transition.effects.push(Effect::Knock);
                transition
            }
            Err(error) => {
                let outcomes = attempt.await_outcomes();
                let end = End::Failed(FailReason::WrongKernel);
                let node = Self::end(attempt, end, error.to_string(), outcomes, None);
                Transition::to(node, vec![Effect::Knock])
            }
        }
    }

    /// A keeper starts and finds this in its journal.
    fn restarted(self, evidence: &Evidence, now: Monotonic) -> Transition {
        let Some(proof) = self.proof() else {
            if matches!(self.stage, Stage::Jumping) && evidence.boot_id != self.attempt.boot_id {
                return Self::came_up(self.attempt, evidence, now);
            }
            if matches!(self.stage, Stage::Jumping) {
                return self.refused("the keeper was started again on the same boot".to_string(), now);
            }
            // In quarantine after an abort: the files live as long as that boot.
            if evidence.boot_id != self.attempt.boot_id {
                return self.fail(FailReason::Quarantined, "the node went down and up again".to_string());
            }
            let effects = self.stage.effects();
            return Transition::to(Node::After(self), effects);
        };
        if proof.boot_id() == evidence.boot_id {
            let effects = self.stage.effects();
            return Transition::to(Node::After(self), effects);
        }
        let reason = match self.stage {
            Stage::Quarantined { .. } => FailReason::Quarantined,
            _ => FailReason::VerifyFailed,
        };
        let message = format!("the node went down and up again while it was {}", self.stage.name());
        self.fail(reason, message)
    }
}
