//! The agent's requests.

use std::time::Duration;

use liveupdate_node_core::Monotonic;
use liveupdate_node_core::fence::{Call, Fence};
use liveupdate_node_core::node::{
    Attempt, Effect, Event, Go, NoPermission, Node, Permission, Phase, Receipt,
};
use liveupdate_proto::common::v1::Subject;
use liveupdate_proto::keeper::v1::refusal::Cause;
use liveupdate_proto::keeper::v1::{Idle, Jump, Preserve, Reply, Request, reply, request::Message};
use liveupdate_proto::{MINOR_VERSION, convert, understands};

use crate::intake;
use crate::journal::Notes;
use crate::keeper::{Claim, Keeper};
use crate::refusal::Refused;
use crate::report::{confirmed, kept};

/// For what is under way to end: a file that is being preserved cannot be
/// interrupted, and pinning memory takes seconds per GiB.
const LONG_PATIENCE: Duration = Duration::from_secs(120);

impl Keeper {
    /// Answers one request. Blocks for as long as what it asks for takes; Status and Abort may be asked
    /// meanwhile from other threads.
    pub fn handle(&self, request: &Request) -> Reply {
        self.answer(request).unwrap_or_else(Refused::reply)
    }

    fn answer(&self, request: &Request) -> Result<Reply, Refused> {
        let message = request.message.as_ref().ok_or_else(|| Refused::malformed("the request is empty"))?;
        if self.lock().jumped {
            return Err(liveupdate_host::HostError::PoweredOff.into());
        }
        if matches!(message, Message::Status(_)) {
            return self.status();
        }
        let subject = request.subject.as_ref().ok_or_else(|| Refused::malformed("no subject"))?;
        let found = subject.minor_version;
        if !understands(found) {
            let why = format!("version {found} of the contract, this is {MINOR_VERSION}");
            return Err(Refused::malformed(why));
        }
        convert::subject(subject)?;
        self.pass(subject, matches!(message, Message::Abort(_)))?;
        match message {
            Message::Status(_) => self.status(),
            Message::Preserve(preserve) => self.begin(subject, preserve),
            Message::Settle(_) => self.settle_attempt(subject),
            Message::Jump(jump) => self.jump_attempt(subject, jump),
            Message::Abort(abort) => self.abort(subject, &abort.reason),
            Message::Confirm(_) => self.confirm(subject),
            Message::Release(_) => self.release(subject),
            Message::Uninstall(uninstall) => self.uninstall(uninstall.dry_run),
        }
    }

    /// A higher epoch is on disk before anything else is looked at, unless it comes to undo: that waits for no disk.
    fn pass(&self, subject: &Subject, undoes: bool) -> Result<(), Refused> {
        let now = self.now()?;
        let mut state = self.lock();
        let mut next = state.journal.clone();
        next.fence.check(&convert::epoch(subject)?, Call::Look)?;
        if next.fence == state.journal.fence {
            return Ok(());
        }
        if undoes {
            state.journal = next;
            state.write(now)?;
        } else {
            let patience = state.patience(now);
            state.scribe.save(&next, patience)?;
            (state.journal, state.unwritten) = (next, None);
        }
        Ok(())
    }

    fn status(&self) -> Result<Reply, Refused> {
        match self.try_tick() {
            Err(refused) if refused.cause == Cause::PoweredOff => Err(refused),
            // Being busy is no error; what went wrong is in the report.
            _ => Ok(self.reply()),
        }
    }

    fn reply(&self) -> Reply {
        let simulated = self.host.simulated();
        let state = self.lock();
        // Told for as long as it stands in the way of another one.
        let over = matches!(state.journal.node, Node::Ended(_))
            && confirmed(&state.journal.node)
            && !state.journal.notes.open;
        let message = match state.report(simulated) {
            Some(report) if !over => reply::Message::Attempt(report),
            _ => reply::Message::Idle(Idle {
                epoch: state.journal.fence.highest().map(Into::into),
                open: state.journal.notes.open,
            }),
        };
        Reply { message: Some(message) }
    }

    /// The report even when it is confirmed.
    fn full_reply(&self) -> Reply {
        let report = self.lock().report(self.host.simulated());
        match report {
            Some(report) => Reply { message: Some(reply::Message::Attempt(report)) },
            None => self.reply(),
        }
    }

    fn begin(&self, subject: &Subject, preserve: &Preserve) -> Result<Reply, Refused> {
        let claim = self.claim_for(subject)?;
        if self.joins(subject)? {
            return Ok(self.reply());
        }
        let attempt = intake::attempt(&*self.host, subject, preserve)?;
        let effects = self.apply_with(&claim, Event::Take(Box::new(attempt)), |journal| {
            may_begin(&mut journal.fence, subject)?;
            journal.notes = Notes { node_uid: subject.node_uid.clone(), ..Notes::default() };
            Ok(())
        })?;
        let events = self.carry_all(effects)?;
        self.drive_all(&claim, events)?;
        Ok(self.reply())
    }

    /// The claim; whoever asks about the attempt that is being worked on waits for that to end, as its agent
    /// may have been started again meanwhile.
    fn claim_for(&self, subject: &Subject) -> Result<Claim<'_>, Refused> {
        let own = self.lock().journal.node.attempt().is_some_and(|attempt| attempt.id == subject.attempt);
        if own { self.claim_within(LONG_PATIENCE, |_| {}) } else { self.claim() }
    }

    /// True: the attempt has begun and can still be gone on with. False: it may begin now.
    fn joins(&self, subject: &Subject) -> Result<bool, Refused> {
        let kept = self.host.keeps()?;
        let state = self.lock();
        let node = &state.journal.node;
        let known = node.attempt().map(|attempt| attempt.id.clone()).unwrap_or_default();
        if known == subject.attempt && matches!(node, Node::Before(_) | Node::Thawing(_)) {
            return Ok(true);
        }
        if known == subject.attempt && !node.is_free() {
            let message = format!("attempt {known} is {} and runs at most once", node.name());
            return Err(Refused::new(Cause::AttemptRepeated, message));
        }
        // Asked of a copy: it is written down with the attempt itself.
        may_begin(&mut state.journal.fence.clone(), subject)?;
        if kept || state.journal.notes.open {
            let notes = &state.journal.notes;
            let why = if notes.trouble.is_empty() { String::new() } else { format!(" ({})", notes.trouble) };
            let message =
                format!("holders may still come for files of {}; wait, or release them{why}", of(&known));
            return Err(Refused::new(Cause::OtherAttempt, message));
        }
        Ok(false)
    }

    /// The attempt under way, if the subject speaks of it. It may be of an earlier Node of this name: who is
    /// that now may undo and confirm it, because nobody else ever will.
    fn this_attempt(&self, subject: &Subject) -> Result<Attempt, Refused> {
        let state = self.lock();
        let attempt = state.journal.node.attempt();
        attempt.filter(|attempt| attempt.id == subject.attempt).cloned().ok_or_else(|| {
            let known = attempt.map_or("none", |attempt| attempt.id.as_str());
            let message = format!("the attempt here is {known}, not {}", subject.attempt);
            Refused::new(Cause::OtherAttempt, message)
        })
    }

    /// The attempt under way, if the subject speaks of it as the Node that it began on.
    fn own_attempt(&self, subject: &Subject) -> Result<Attempt, Refused> {
        let attempt = self.this_attempt(subject)?;
        let state = self.lock();
        if state.journal.notes.node_uid != subject.node_uid {
            let message = format!("the attempt is for Node UID {}", state.journal.notes.node_uid);
            return Err(Refused::new(Cause::WrongNode, message));
        }
        Ok(attempt)
    }

    fn settle_attempt(&self, subject: &Subject) -> Result<Reply, Refused> {
        let claim = self.claim_for(subject)?;
        self.own_attempt(subject)?;
        if self.in_phase("Settle", |phase| matches!(phase, Phase::Settling { settled: true })).is_ok() {
            return Ok(self.reply());
        }
        self.in_phase("Settle", |phase| matches!(phase, Phase::Settling { settled: false }))?;
        let events = self.settle()?;
        self.drive_all(&claim, events)?;
        Ok(self.reply())
    }

    fn jump_attempt(&self, subject: &Subject, jump: &Jump) -> Result<Reply, Refused> {
        let claim = self.claim()?;
        let attempt = self.own_attempt(subject)?;
        self.in_phase("Jump", |phase| matches!(phase, Phase::Settling { settled: true }))?;
        let go = self.go(&attempt, jump)?;
        // While guests run: at the last moment it is looked again, and they stand still.
        let event = self.against(&attempt, true)?.map_or(Event::Go(go), Event::Abort);
        self.drive(&claim, event)?;
        Ok(self.reply())
    }

    /// Receipt and permission. The gates are read here once more: the agent's receipt is not believed, but
    /// has to be the one that is made of them, since the permission was given for it.
    fn go(&self, attempt: &Attempt, jump: &Jump) -> Result<Go, Refused> {
        let no_receipt = |message: String| Refused::new(Cause::NoReceipt, message);
        let boot_id = self.host.boot_id()?;
        if jump.receipt.is_empty() {
            return Err(no_receipt("the request carries no receipt".into()));
        }
        if jump.receipt_boot_id != boot_id {
            return Err(no_receipt(format!(
                "the receipt is for boot {:?}, which is over",
                jump.receipt_boot_id
            )));
        }
        if self.host.staged()?.as_ref() != Some(&attempt.target) {
            return Err(no_receipt(format!("the image of {} is not loaded", attempt.target.release)));
        }
        let gates = self.host.gates(Some(&attempt.target))?;
        let receipt =
            Receipt::check(attempt, &boot_id, &gates).map_err(|error| no_receipt(error.to_string()))?;
        if jump.receipt != receipt.id() {
            return Err(no_receipt(format!(
                "the receipt {:?} is not the one of this attempt, this boot and the gates as they are now, {}",
                jump.receipt,
                receipt.id()
            )));
        }
        let no_permission = |error: NoPermission| Refused::new(Cause::NoPermission, error.to_string());
        let now = self.now()?;
        let until = Monotonic::from_millis(jump.permission_until_ms);
        if until <= now {
            return Err(no_permission(NoPermission::RanOut));
        }
        let left = until.since(now);
        let (id, boot) = (&attempt.id, &jump.permission_boot_id);
        let permission =
            Permission::grant(&receipt, id, &jump.receipt, boot, now, left).map_err(no_permission)?;
        Ok(Go { receipt, permission })
    }

    fn in_phase(&self, request: &str, fits: impl Fn(&Phase) -> bool) -> Result<(), Refused> {
        let state = self.lock();
        match &state.journal.node {
            Node::Before(before) if fits(before.phase()) => Ok(()),
            node => {
                let message = format!("{request} does not fit: the attempt is {}", node.name());
                Err(Refused::new(Cause::WrongState, message))
            }
        }
    }

    fn abort(&self, subject: &Subject, reason: &str) -> Result<Reply, Refused> {
        if matches!(self.lock().journal.node, Node::Idle) {
            return Ok(self.reply());
        }
        self.this_attempt(subject)?;
        let why = if reason.is_empty() { "aborted by request" } else { reason };
        let claim = self.claim_within(LONG_PATIENCE, |state| state.abort = Some(why.to_owned()));
        self.lock().abort = None;
        let claim = claim?;
        if matches!(self.lock().journal.node, Node::After(_)) {
            let message = "the attempt is committed: it cannot be undone any more";
            return Err(Refused::new(Cause::WrongState, message));
        }
        self.drive(&claim, Event::Abort(why.to_owned()))?;
        Ok(self.full_reply())
    }

    fn confirm(&self, subject: &Subject) -> Result<Reply, Refused> {
        if matches!(self.lock().journal.node, Node::Idle) {
            return Ok(self.reply());
        }
        let claim = self.claim()?;
        self.this_attempt(subject)?;
        let mut effects = self.apply(&claim, Event::Confirm)?;
        // The next tick's: copying a kernel takes longer than a controller waits for an answer.
        effects.retain(|effect| *effect != Effect::Persist);
        let events = self.carry_all(effects)?;
        self.drive_all(&claim, events)?;
        Ok(self.full_reply())
    }

    fn release(&self, subject: &Subject) -> Result<Reply, Refused> {
        let claim = self.claim()?;
        let (over, kept, known) = {
            let state = self.lock();
            let node = &state.journal.node;
            let over = matches!(node, Node::Idle | Node::Ended(_));
            (over, state.journal.notes.open, !matches!(node, Node::Idle))
        };
        // A journal that was lost names no attempt, and what it began is there all the same.
        if known || !kept {
            self.own_attempt(subject)?;
        }
        if over && !kept {
            // Asked again, or all holders came meanwhile.
            return Ok(self.full_reply());
        }
        let effects = if over {
            vec![Effect::ReleaseCustody]
        } else {
            // Open until the machine has let go of it: what a keeper that is killed here finds is given up again.
            self.apply_with(&claim, Event::Release, |journal| {
                journal.notes.open = true;
                Ok(())
            })?
        };
        let events = self.carry_all(effects)?;
        self.drive_all(&claim, events)?;
        let state = self.lock();
        if state.journal.notes.open {
            let message = format!(
                "the files of attempt {} are still kept: {}",
                subject.attempt, state.journal.notes.trouble
            );
            return Err(Refused::new(Cause::HostFailed, message));
        }
        drop(state);
        Ok(self.full_reply())
    }

    /// Removes the keeper. From here on it only ends. A dry run finds the same objections and changes nothing.
    fn uninstall(&self, dry_run: bool) -> Result<Reply, Refused> {
        let _claim = self.claim()?;
        let busy = |why: String| Err(Refused::new(Cause::WrongState, format!("the keeper stays: {why}")));
        {
            let state = self.lock();
            let node = &state.journal.node;
            let attempt = node.attempt().map(|attempt| attempt.id.clone()).unwrap_or_default();
            match node {
                _ if kept(&state.journal) => {
                    return busy(format!(
                        "holders may still come for files of {}; wait, or release them",
                        of(&attempt)
                    ));
                }
                Node::Idle => {}
                Node::Ended(_) if confirmed(node) => {}
                Node::Ended(_) => {
                    return busy(format!("nobody has confirmed the outcome of attempt {attempt}"));
                }
                Node::Before(_) | Node::Thawing(_) | Node::After(_) => {
                    return busy(format!("attempt {attempt} is {}; wait, or abort it", node.name()));
                }
            }
        }
        if self.host.preserved()?.is_some() {
            return busy("something is in custody".into());
        }
        if dry_run {
            self.host.may_uninstall()?;
            return Ok(self.reply());
        }
        self.host.uninstall()?;
        self.lock().removed = true;
        Ok(self.reply())
    }
}

/// Whose files they are, where that is known.
fn of(attempt: &str) -> String {
    if attempt.is_empty() { "a jump".to_owned() } else { format!("attempt {attempt}") }
}

fn may_begin(fence: &mut Fence, subject: &Subject) -> Result<(), Refused> {
    fence.check(&convert::epoch(subject)?, Call::Begin(&subject.attempt))?;
    Ok(())
}
