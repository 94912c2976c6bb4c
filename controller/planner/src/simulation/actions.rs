//! Carries plans out: what the controller's executor does to the API and to agents.

use alloc::format;
use alloc::vec::Vec;

use super::World;
use crate::input::{AttemptState, Node, NodeRecord, Text, Update, Verdict};
use crate::output::{Action, NodeClass, NodeReport, Plan, Reason, Report};

impl World {
    /// Carries out all of a plan.
    pub fn carry_out(&mut self, plan: &Plan) {
        self.carry_out_if(plan, |_| true);
    }

    /// Carries out those of a plan's actions that `succeeds` lets through; the rest fail without effect.
    pub fn carry_out_if(&mut self, plan: &Plan, mut succeeds: impl FnMut(&Action) -> bool) {
        for action in &plan.actions {
            if succeeds(action) {
                self.carry_out_one(action, &plan.report);
            }
        }
        self.write_statuses(&plan.report);
    }

    /// Carries out one action.
    pub fn carry_out_one(&mut self, action: &Action, report: &Report) {
        match action {
            Action::AddFinalizer { update } => self.set_finalizer(update, true),
            Action::RemoveFinalizer { update } => self.set_finalizer(update, false),
            Action::CommitRecord { update } => self.commit(update, report),
            Action::Preflight { node, update } => self.preflight(node, update),
            Action::Mark { node, mark, .. } => self.with(node, "mark", |node| {
                let free = node.mark.is_none();
                if free {
                    node.mark = Some(mark.clone());
                }
                free
            }),
            Action::Unmark { node, mark } => self.with(node, "mark", |node| {
                let ours = node.mark.as_ref() == Some(mark);
                if ours {
                    node.mark = None;
                }
                ours
            }),
            Action::Claim { node, attempt, .. } => self.with(node, "claim", |node| {
                node.record.get_or_insert_default().claimed_attempt.clone_from(attempt);
                true
            }),
            Action::Run { node, update, attempt } => self.run(node, update, attempt),
            Action::Permit { node, attempt, .. } => self.permit(node, attempt),
            Action::Abort { node, attempt, .. } => self.abort(node, attempt),
            Action::AskOutcome { node, .. } => {
                self.hear(node);
            }
            Action::ReadLease { node } => self.with(node, "", |node| {
                let seen = node.lease_renewed;
                node.lease_renewed = true;
                !seen
            }),
            Action::RecordEnd { node, .. } => {
                if let Some(said) = report.nodes.get(node) {
                    self.write_status(node, said, true);
                }
            }
            Action::Confirm { node, attempt } => self.confirm(node, attempt),
            Action::Release { node, attempt, .. } => self.release(node, attempt),
        }
    }

    /// Changes a node; `what` names the write, if it is one.
    fn with(&mut self, name: &str, what: &'static str, change: impl FnOnce(&mut Node) -> bool) {
        let changed = self.node(name).is_some_and(|(node, _)| change(node));
        if changed && what.is_empty() {
            self.changes += 1;
        } else if changed {
            self.wrote(what);
        }
    }

    fn set_finalizer(&mut self, name: &str, on: bool) {
        if let Some(update) = self.update(name) {
            update.has_finalizer = on;
            self.wrote("finalizer");
        }
        // What was deleted goes with its last finalizer.
        self.snapshot.updates.retain(|update| !update.deleting || update.has_finalizer);
    }

    fn commit(&mut self, name: &str, report: &Report) {
        let Some(said) = report.updates.get(name) else { return };
        if let Some(update) = self.update(name) {
            update.record = said.record.clone();
            self.wrote("record");
        }
    }

    /// The agent knocks: the controller hears it without having asked.
    pub fn knock(&mut self, name: &str) {
        self.hear(name);
    }

    /// The controller asks the agent; true when it hears anything new.
    fn hear(&mut self, name: &str) -> bool {
        let now = self.now;
        let Some((node, machine)) = self.node(name) else { return false };
        machine.said = true;
        let news = machine.tell(&mut node.agent, now);
        self.changes += u64::from(news);
        news
    }

    /// Reads every node's gates for the update.
    pub fn ask_all(&mut self, update: &str) {
        let names: Vec<Text> = self.snapshot.nodes.iter().map(|node| node.name.clone()).collect();
        for name in names {
            self.preflight(&name, update);
        }
    }

    fn preflight(&mut self, name: &str, update: &str) {
        let now = self.now;
        let Some(update) = self.update(update) else { return };
        let Ok(spec) = &update.spec else { return };
        let (update_uid, revision) = (update.uid.clone(), spec.revision.clone());
        if let Some((_, machine)) = self.node(name) {
            let blocked = machine.behaviour.blocked.clone();
            machine.verdict = Some(Verdict { update_uid, revision, at: now, blocked });
        }
        self.hear(name);
    }

    fn run(&mut self, name: &str, update: &str, attempt: &Text) {
        let now = self.now;
        let Some(update) = self.update(update) else { return };
        let Ok(spec) = &update.spec else { return };
        let target = (spec.release.clone(), spec.digest.clone());
        let Some((_, machine)) = self.node(name) else { return };
        let (mut violation, mut begins) = (None, false);
        if machine.answers() {
            let busy = machine.kept.is_some()
                || machine.attempt.as_ref().is_some_and(|known| !known.state.is_over());
            let joins = machine.attempt.as_ref().is_some_and(|known| known.attempt == *attempt);
            if !busy && !joins {
                if machine.began.contains(attempt) {
                    violation = Some(format!("attempt {attempt} ran twice"));
                }
                machine.begin(attempt, target, now);
                begins = true;
            }
        }
        self.violations.extend(violation);
        let news = self.hear(name);
        self.begun += u64::from(begins && news);
    }

    fn permit(&mut self, name: &str, attempt: &str) {
        let now = self.now;
        if let Some((node, machine)) = self.node(name) {
            let asks = machine.attempt.as_ref().is_some_and(|known| {
                known.attempt == attempt && matches!(known.state, AttemptState::AsksPermission { .. })
            });
            if asks {
                machine.permitted(now);
                // What will not come back is seen to be down.
                node.ready &= machine.due().is_some()
                    || !matches!(machine.attempt(), Some((_, AttemptState::Jumping { .. })));
            }
        }
        self.hear(name);
    }

    fn abort(&mut self, name: &str, attempt: &str) {
        if let Some((_, machine)) = self.node(name)
            && let Some(known) = &mut machine.attempt
            && known.attempt == attempt
            && known.state.is_before_jump()
        {
            known.state =
                AttemptState::Aborted { reason: Reason::AttemptAborted, why: "it was told to".into() };
            machine.due = None;
        }
        self.hear(name);
    }

    fn confirm(&mut self, name: &str, attempt: &str) {
        if let Some((_, machine)) = self.node(name)
            && machine.attempt.as_ref().is_some_and(|known| known.attempt == attempt && known.state.is_over())
        {
            machine.attempt = None;
        }
        self.hear(name);
    }

    fn release(&mut self, name: &str, attempt: &Text) {
        let mut violation = None;
        if let Some((_, machine)) = self.node(name)
            && machine.answers()
        {
            let other = |known: &&Text| *known != attempt;
            let kept = machine.kept.as_ref().map(|(kept, _)| kept).filter(other);
            let runs = machine.attempt.as_ref().filter(|known| !known.state.is_over());
            match kept.or(runs.map(|known| &known.attempt).filter(other)) {
                Some(it) => violation = Some(format!("files of {attempt} were to be given up, it has {it}")),
                None => machine.give_up(attempt),
            }
        }
        self.violations.extend(violation);
        self.hear(name);
    }

    /// Statuses are written when what they say changes; what is in flight shows in the claim, and ends are
    /// written by an action of their own.
    pub fn write_statuses(&mut self, report: &Report) {
        for (name, said) in &report.nodes {
            if said.class != NodeClass::InFlight {
                self.write_status(name, said, false);
            }
        }
    }

    fn write_status(&mut self, name: &str, said: &NodeReport, end: bool) {
        let Some(node) = self.snapshot.nodes.named_mut(name) else { return };
        if write_status(&self.snapshot.updates, node, said, end) {
            self.wrote("status");
        }
    }
}

/// True when that says anything new.
fn write_status(updates: &[Update], node: &mut Node, said: &NodeReport, end: bool) -> bool {
    let update = said.update.as_ref().and_then(|name| updates.iter().find(|update| update.name == *name));
    let uid = update.map(|update| &update.uid);
    let skipped = (said.class == NodeClass::Skipped).then_some(said.reason);
    let old = node.record.get_or_insert_default();
    let same_attempt = match &said.attempt {
        Some(attempt) => old.attempt == *attempt,
        None => old.attempt.is_empty(),
    };
    let same = same_attempt
        && uid.is_none_or(|uid| old.update_uid == *uid)
        && old.revision == said.revision
        && old.aborts == said.aborts
        && old.last_failure == said.last_failure
        && old.end == said.end
        && old.skipped == skipped;
    let not_yet = said.end.is_some() && !same_attempt && !end;
    if same || not_yet {
        return false;
    }
    *old = NodeRecord {
        claimed_attempt: core::mem::take(&mut old.claimed_attempt),
        update_uid: uid.unwrap_or(&old.update_uid).clone(),
        revision: said.revision.clone(),
        attempt: said.attempt.clone().unwrap_or_default(),
        end: said.end,
        aborts: said.aborts,
        last_failure: said.last_failure.clone(),
        skipped,
    };
    true
}
