//! A disk on its way through an update: it stands, and it goes on, here or in the next kernel.

use std::sync::Arc;
use std::time::Duration;

use liveupdate_host::linux::ticks;
use liveupdate_proto::causes::chain;

use super::command;
use super::controller::{Controller, VECTORS};
use super::drive::{Drive, Returning};
use super::flight::Counts;
use super::layout::{IDENTIFY, PAGES};
use super::state::State;
use crate::driver::{Faults, Found};
use crate::misbehaviour::BadStop;
use crate::opened::Bound;

/// For commands that were on their way when it had to stand: a slow disk is no lost one.
const PATIENCE: Duration = Duration::from_secs(10);

impl Drive {
    /// Nothing new is asked of it.
    pub(crate) fn halt(&mut self) {
        self.stands = true;
        self.returns = None;
        self.state.before = self.state.flight.counts.done;
    }

    /// No interrupt comes any more. True: the device does no DMA, either.
    pub(crate) fn stand(&mut self, drains: Option<Duration>, bad: Option<BadStop>) -> Result<bool, String> {
        self.halt();
        if let Some(patience) = drains
            && !self.drain(patience).0
        {
            let still = self.flight().len();
            return Err(format!("device {}: {still} commands are not answered in time", self.address()));
        }
        self.take();
        if bad != Some(BadStop::Interrupts) {
            self.opened.disarm()?;
        }
        self.state.off = ticks::now().unwrap_or_default();
        self.state.before = self.state.flight.counts.done;
        self.told();
        // Last: its registers cannot be reached from then on.
        if bad == Some(BadStop::Asleep) {
            self.opened.sleep(true)?;
        }
        Ok(self.flight().len() == 0)
    }

    /// Takes a device back after a jump, with its part of the memory.
    pub(crate) fn back(bound: Bound, state: State, faults: Faults) -> Result<(Self, Found), String> {
        let mut found = Found::default();
        let opened = bound.open(PAGES, VECTORS, Controller::of)?;
        if faults.resets_device {
            found.said.push(match opened.device.reset() {
                Ok(()) => "was reset, as asked to misbehave".into(),
                Err(error) => format!("could not be reset: {}", chain(&error)),
            });
        }
        if faults.resets_controller {
            opened.controller.switch_off();
            found.said.push("its controller was switched off, as asked to misbehave".into());
        }
        let attached = match opened.pages {
            Some(_) => "attached anew",
            None => "still attached, by who had it before",
        };
        found.check("device", &state.address, true, attached);
        let mut drive = Self::left(opened, state);
        drive.relatch(faults, &mut found);
        Ok((drive, found))
    }

    /// Interrupts on again, and each vector signalled once. Before that, a look at what came while nobody ran.
    pub(crate) fn relatch(&mut self, faults: Faults, found: &mut Found) {
        let (address, waiting) = (self.address().to_owned(), self.flight().len());
        if let Err(error) = self.opened.sleep(false) {
            found.said.push(format!("it cannot be woken: {error}"));
        }
        let counts = self.state.flight.counts;
        found.said.extend(self.take());
        self.state.returned = self.state.flight.counts.done;
        let mastered = self.opened.switch_on();
        let (passed, detail) = self.opened.latch(!faults.forgets_kick, self.state.off, self.state.khz);
        found.check("interrupts", &address, passed, detail);
        found.said.extend(self.take());
        self.opened.signals();
        self.signals = 0;
        let armed = self.state.flight.counts;
        self.returns = Some(Returning { counts, waiting, armed, mastered });
    }

    /// All that was on its way is answered; or, where the device has forgotten it, asked again.
    pub(crate) fn settle(&mut self, found: &mut Found) {
        let Some(Returning { counts, waiting, armed, mastered }) = self.returns.take() else { return };
        let address = self.address().to_owned();
        let blackout = self.state.returned - counts.done;
        let mut changed = self.changed();
        if changed.is_none() {
            self.told();
            let (all, said) = self.drain(PATIENCE);
            found.said.extend(said);
            let still = self.flight().len();
            changed = match self.opened.controller.stopped() {
                None if !all => Some(format!("{still} commands are not answered")),
                stopped => stopped,
            };
        }
        if changed.is_none() {
            let page = self.state.pages.get(IDENTIFY).copied().unwrap_or_default();
            let memory = Arc::clone(&self.opened.memory);
            let asked =
                self.opened.controller.ask(&memory, &mut self.state.admin, command::identify(0, page));
            changed = asked.err();
            // To be kicked is the kernel's doing alone: what the device itself signals may be lost all the same.
            let owed = [changed.is_none(), self.state.flight.counts.answered() > armed.answered()];
            let unheard = self.opened.unheard(&owed, &mut self.signals);
            if !unheard.is_empty() {
                let why = format!("the device answered, and vectors {unheard:?} were not signalled");
                found.check("interrupts", &address, false, why);
            }
        }
        let later = self.state.flight.counts.done - self.state.returned;
        let wrong = wrong(counts, self.state.flight.counts);
        let mut dma =
            format!("{waiting} were on their way: {blackout} answered in the blackout, {later} later");
        match mastered {
            Ok(true) => {}
            Ok(false) => dma += "; its bus mastering had been off",
            Err(error) => dma += &format!("; its bus mastering is not known: {error}"),
        }
        let state = match &changed {
            None => "it works on with the queues that it had".to_owned(),
            Some(why) => {
                let lost = self.flight().len();
                let anew = match self.restart() {
                    Ok(()) => format!("set up anew, {lost} commands asked again"),
                    Err(error) => format!("it could not be set up anew: {error}"),
                };
                found.said.push(format!("{anew}: {why}"));
                dma += &format!(", {lost} lost");
                format!("{why}; {anew}")
            }
        };
        if wrong > 0 {
            dma += &format!(", {wrong} not as they should be");
        }
        found.check("dma", &address, changed.is_none() && wrong == 0, dma);
        found.check("state", &address, changed.is_none(), state);
        self.told();
    }

    /// Works again, and tells of it once all that is new has gone round.
    pub(crate) fn go_on(&mut self) -> Vec<String> {
        self.stands = false;
        // Not before: who dies until then leaves a gap that has not ended.
        self.state.off = 0;
        let counts = self.state.flight.counts;
        self.tell_at = Some(counts.done + self.state.flight.places.len() as u64);
        let said = self.turn();
        self.keep();
        said
    }

    /// How it went, once the first commands that were asked after its return are done.
    pub(crate) fn summary(&mut self) -> Option<String> {
        let Counts { done, wrong, failed, strange, lost } = self.state.flight.counts;
        self.tell_at.take_if(|at| *at <= done)?;
        let (before, blackout) = (self.state.before, self.state.returned.saturating_sub(self.state.before));
        let after = done.saturating_sub(self.state.returned);
        // What was asked, and neither answered nor on its way.
        let signals = self.signals;
        let known = done + wrong + failed + self.flight().len() as u64;
        let holes = self.state.flight.next.abs_diff(known);
        Some(format!(
            "summary before={before} blackout={blackout} after={after} holes={holes} interrupts={signals} lost={lost} wrong={wrong} failed={failed} strange={strange}"
        ))
    }

    /// What is not as it was left; none: all is.
    fn changed(&self) -> Option<String> {
        if let Some(stopped) = self.opened.controller.stopped() {
            return Some(stopped);
        }
        let (was, is) = (self.state.registers, self.opened.controller.told());
        if was != is {
            return Some(format!("it was told {was:x?}, and has {is:x?}"));
        }
        self.opened.moved(&self.state.pages)
    }
}

fn wrong(before: Counts, after: Counts) -> u64 {
    let all = |counts: Counts| counts.wrong + counts.failed + counts.strange;
    all(after) - all(before)
}
