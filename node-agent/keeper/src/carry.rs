//! Carries out what the core wants done, and says what became of it.

use liveupdate_host::{HostError, JumpIntent, ReclaimedDevice};
use liveupdate_node_core::Monotonic;
use liveupdate_node_core::node::{Attempt, Effect, Event, Plan};

use crate::keeper::Keeper;
use crate::refusal::Refused;

impl Keeper {
    /// Carries out effects in their order. What is to be undone or given back and cannot be is noted and
    /// tried again; the machine being gone ends everything.
    pub(crate) fn carry_all(&self, effects: Vec<Effect>) -> Result<Vec<Event>, Refused> {
        let mut events = Vec::new();
        let mut trouble = String::new();
        let some = !effects.is_empty();
        for effect in effects {
            if effect == Effect::ReportUndone && !trouble.is_empty() {
                continue;
            }
            match self.carry(effect) {
                Ok(more) => events.extend(more),
                Err(HostError::PoweredOff) => return Err(HostError::PoweredOff.into()),
                Err(error) => trouble = error.to_string(),
            }
        }
        if some {
            self.note(|notes| notes.trouble = trouble);
        }
        Ok(events)
    }

    pub(crate) fn attempt(&self) -> Result<Attempt, HostError> {
        let attempt = self.lock().journal.node.attempt().cloned();
        attempt.ok_or(HostError::WrongMoment { operation: "this", why: "there is no attempt".into() })
    }

    fn carry(&self, effect: Effect) -> Result<Vec<Event>, HostError> {
        let nothing = Ok(Vec::new());
        match effect {
            Effect::Preserve => self.preserve(),
            Effect::QuiesceHolders => self.quiesce(),
            Effect::ReadShortList => self.read_short_list(),
            // The journal that was just written holds the intent with its nonce; the host writes the index
            // and freezes as a part of the jump, so that nothing comes between.
            Effect::WriteIntent => Ok(vec![Event::IntentWritten]),
            Effect::Jump { until } => self.jump(until),
            Effect::ResumeHolders => self.resume(),
            Effect::SeeStopped => self.see_stopped(),
            Effect::RestartBystanders => self.restart().map(|()| Vec::new()),
            Effect::Unpreserve => self.host.unpreserve().map(|()| Vec::new()),
            Effect::UnloadImage => self.host.unstage().map(|()| Vec::new()),
            Effect::ReportUndone => Ok(vec![Event::Undone]),
            Effect::RetrieveSessions => Ok(vec![Event::Retrieved]),
            Effect::GrantHolders => self.grant(),
            Effect::FinishSessions => self.host.finish().and_then(|()| self.closed()),
            Effect::ReleaseCustody => self.give_up().and_then(|()| self.closed()),
            // Asked for by the agent, each with a request of its own.
            Effect::Settle | Effect::MakeReceipt => nothing,
            // The agent's part, before the keeper takes the attempt.
            Effect::ReadGates | Effect::LoadImage => nothing,
            Effect::Persist => self.persist(),
            // Thawed by the host when the reboot call fails; the agent asks and knocks.
            Effect::ThawFilesystems | Effect::Knock => nothing,
        }
    }

    /// False when somebody wants the attempt undone or its state has lasted too long.
    fn go_on(&self) -> bool {
        self.lock().abort.is_none() && self.in_time()
    }

    fn in_time(&self) -> bool {
        let now = self.now();
        let state = self.lock();
        now.is_ok_and(|now| state.journal.node.deadline().is_none_or(|deadline| now < deadline.at))
    }

    /// What an operation before the commit leads to. Cancelled: a wish to abort goes before any event, and a
    /// deadline that has passed shows at a tick.
    fn led(&self, result: Result<(), HostError>, done: Event) -> Result<Vec<Event>, HostError> {
        match result {
            Ok(()) => Ok(vec![done]),
            Err(HostError::Cancelled) => Ok(vec![Event::Tick]),
            Err(HostError::PoweredOff) => Err(HostError::PoweredOff),
            Err(error) => Ok(vec![Event::Abort(error.to_string())]),
        }
    }

    fn preserve(&self) -> Result<Vec<Event>, HostError> {
        let attempt = self.attempt()?;
        let devices = attempt.preserved().map(|(device, _)| device.address.clone()).collect::<Vec<_>>();
        if attempt.handed_over().is_empty() {
            return Ok(vec![Event::Preserved]);
        }
        let result = self.host.preserve(&attempt.id, &devices, &mut || self.go_on());
        self.led(result, Event::Preserved)
    }

    pub(crate) fn settle(&self) -> Result<Vec<Event>, HostError> {
        let attempt = self.attempt()?;
        if let Some(why) = self.against(&attempt, false)? {
            return Ok(vec![Event::Abort(why)]);
        }
        let stopped = attempt.devices.iter().filter(|device| device.plan == Plan::Stop);
        let stop = stopped.map(|device| device.address.clone()).collect::<Vec<_>>();
        // Nobody is ended any more for an attempt that has lost a holder.
        let adopts = attempt.handed_over().is_empty();
        let whole = || adopts || matches!(self.host.preserved(), Ok(Some(_)));
        match self.host.settle(&stop, &mut || self.go_on() && whole()) {
            Ok(()) => Ok(vec![self.against(&attempt, true)?.map_or(Event::Settled, Event::Abort)]),
            Err(HostError::Cancelled) if self.go_on() => {
                Ok(vec![self.against(&attempt, false)?.map_or(Event::Tick, Event::Abort)])
            }
            result => self.led(result, Event::Settled),
        }
    }

    /// Starts again what Settling stopped. What cannot be is owed, whatever becomes of the attempt.
    pub(crate) fn restart(&self) -> Result<(), HostError> {
        let started = self.host.thaw();
        let mut state = self.lock();
        match &started {
            Ok(()) => state.owed = None,
            Err(_) => {
                state.owed.get_or_insert_default();
            }
        }
        started
    }

    fn quiesce(&self) -> Result<Vec<Event>, HostError> {
        let attempt = self.attempt()?;
        if attempt.handed_over().is_empty() {
            return Ok(vec![Event::Quiesced]);
        }
        let answers = match self.host.quiesce(&attempt.id, attempt.deadlines.quiesce) {
            Ok(answers) => answers,
            Err(HostError::PoweredOff) => return Err(HostError::PoweredOff),
            Err(error) => return Ok(vec![Event::Abort(error.to_string())]),
        };
        self.note(|notes| {
            for answer in &answers {
                notes.stamps.entry(answer.holder.clone()).or_default().quiesced = answer.counter;
            }
        });
        let silent = attempt.handed_over().into_iter().find(|h| !answers.iter().any(|a| a.holder == *h));
        let against = answers.iter().find_map(|a| Some(format!("{}: {}", a.holder, a.vote.as_ref().err()?)));
        let why = against.or_else(|| silent.map(|holder| format!("{holder}: is not in custody")));
        Ok(vec![
            why.map_or(Event::Quiesced, |why| Event::Abort(format!("a holder cannot be quiesced: {why}"))),
        ])
    }

    fn read_short_list(&self) -> Result<Vec<Event>, HostError> {
        let attempt = self.attempt()?;
        let mut wrong = Vec::new();
        if self.host.boot_id()? != attempt.boot_id {
            wrong.push("the machine runs another boot".to_owned());
        }
        match self.host.staged() {
            Ok(Some(staged)) if staged == attempt.target => {}
            Ok(Some(other)) => wrong.push(format!("the image of {} is loaded instead", other.release)),
            Ok(None) => wrong.push("the image is not loaded any more".to_owned()),
            Err(HostError::PoweredOff) => return Err(HostError::PoweredOff),
            // Holders stand still: nobody waits for what may be known later.
            Err(error) => wrong.push(format!("whether the image is loaded is not known: {error}")),
        }
        wrong.extend(self.against(&attempt, true)?);
        if wrong.is_empty() {
            return Ok(vec![Event::ShortListPassed]);
        }
        Ok(vec![Event::Abort(wrong.join("; "))])
    }

    fn jump(&self, until: Monotonic) -> Result<Vec<Event>, HostError> {
        let attempt = self.attempt()?;
        let intent = JumpIntent {
            attempt: attempt.id.clone(),
            nonce: attempt.nonce.to_string(),
            target: attempt.target.clone(),
            until: until.0,
        };
        match self.host.jump(&intent) {
            Ok(_) => {
                self.lock().jumped = true;
                Ok(Vec::new())
            }
            Err(refused) => Ok(vec![Event::KernelRefused(refused.to_string())]),
        }
    }

    fn resume(&self) -> Result<Vec<Event>, HostError> {
        let why = self.lock().journal.node.name().to_string();
        let answers = self.host.resume(&why)?;
        let ours = self.attempt()?.handed_over();
        let mut events = Vec::new();
        for answer in answers {
            // A host that has no custody any more tells of everybody whom it knows.
            if answer.result.is_err() || !ours.contains(&answer.holder) {
                continue;
            }
            self.note(|notes| {
                let stamps = notes.stamps.entry(answer.holder.clone()).or_default();
                stamps.resumed = stamps.resumed.or(answer.counter);
            });
            self.note_evidence(&answer.devices);
            events.extend(answer.devices.into_iter().map(told));
            events.push(Event::HolderResumed(answer.holder));
        }
        Ok(events)
    }

    fn grant(&self) -> Result<Vec<Event>, HostError> {
        let (holders, devices) = self.host.reclaim()?;
        self.note(|notes| {
            for holder in &holders {
                let stamps = notes.stamps.entry(holder.holder.clone()).or_default();
                stamps.quiesced = stamps.quiesced.or(holder.quiesced);
                stamps.resumed = stamps.resumed.or(holder.resumed_at);
            }
            let lost = holders.iter().filter_map(|h| Some(format!("{}: {}", h.holder, h.lost.as_ref()?)));
            notes.lost = lost.collect::<Vec<_>>().join("; ");
        });
        self.note_evidence(&devices);
        let back = devices.into_iter().filter(|device| device.facts.returned).map(told);
        let resumed = holders.into_iter().filter(|h| h.resumed).map(|h| Event::HolderResumed(h.holder));
        Ok(back.chain(resumed).collect())
    }

    fn note_evidence(&self, devices: &[ReclaimedDevice]) {
        if devices.iter().all(|device| device.evidence.is_empty()) {
            return;
        }
        self.note(|notes| {
            for device in devices.iter().filter(|device| !device.evidence.is_empty()) {
                notes.evidence.insert(device.address.clone(), device.evidence.clone());
            }
        });
    }

    /// What cannot be done is told and not tried again: a full partition does not empty itself.
    fn persist(&self) -> Result<Vec<Event>, HostError> {
        let attempt = self.attempt()?;
        let said = match self.host.persist(&attempt.target, &mut || self.in_time()) {
            Err(HostError::PoweredOff) => return Err(HostError::PoweredOff),
            Err(error) => format!("a power cut starts what it would have before: {error}"),
            Ok(entry) => format!("a power cut starts it: {entry}"),
        };
        Ok(vec![Event::Persisted(said)])
    }

    /// What never jumped is still its holders': they keep all that they have, and our hold on it goes.
    fn give_up(&self) -> Result<(), HostError> {
        self.host.unpreserve()?;
        self.host.release_custody()
    }

    /// Nothing that came through the jump is in custody any more.
    fn closed(&self) -> Result<Vec<Event>, HostError> {
        let now = self.now()?;
        let mut state = self.lock();
        state.journal.notes.open = false;
        state.write(now)?;
        Ok(Vec::new())
    }
}

fn told(device: ReclaimedDevice) -> Event {
    Event::Device { address: device.address, facts: device.facts }
}
