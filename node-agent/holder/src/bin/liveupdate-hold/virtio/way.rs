//! A NIC on its way through an update: it stands, and it goes on, here or in the next kernel.

use std::time::{Duration, Instant};

use liveupdate_host::linux::ticks;
use liveupdate_proto::causes::chain;

use super::counts::Counts;
use super::layout::PAGES;
use super::nic::{Nic, Returning};
use super::queue::Queue;
use super::state::State;
use super::transport::{Transport, VECTORS};
use crate::driver::{Faults, Found};
use crate::misbehaviour::BadStop;
use crate::opened::Bound;

/// For a frame that shows that the vector signals; a network may as well be silent.
const MAYBE: Duration = Duration::from_millis(50);
const MOMENT: Duration = Duration::from_micros(500);
/// Frames after a return, before it is told of.
const ENOUGH: u64 = 32;

impl Nic {
    /// Nothing new is asked of it.
    pub(crate) fn halt(&mut self) {
        self.stands = true;
        self.returns = None;
        self.state.before = self.state.counts.received;
    }

    /// No interrupt comes any more; frames do. It cannot be told to do no DMA without being reset.
    pub(crate) fn stand(&mut self, bad: Option<BadStop>) -> Result<bool, String> {
        self.halt();
        if bad != Some(BadStop::Interrupts) {
            // Not by its pin either, which it has when it has no vectors.
            Queue::interrupts(&self.opened.memory, false);
            self.opened.disarm()?;
            self.opened.controller.quiet_pin();
        }
        self.take();
        self.state.off = ticks::now().unwrap_or_default();
        self.state.before = self.state.counts.received;
        // From now on as many frames may come as there are buffers.
        self.told();
        // Last: its registers cannot be reached from then on.
        if bad == Some(BadStop::Asleep) {
            self.opened.sleep(true)?;
        }
        Ok(false)
    }

    /// Takes a device back after a jump, with its part of the memory: neither reset nor set up anew.
    pub(crate) fn back(bound: Bound, state: State, faults: Faults) -> Result<(Self, Found), String> {
        let mut found = Found::default();
        let opened = bound.open(PAGES, VECTORS, Transport::of)?;
        if faults.resets_device {
            found.said.push(match opened.device.reset() {
                Ok(()) => "was reset, as asked to misbehave".into(),
                Err(error) => format!("could not be reset: {}", chain(&error)),
            });
        }
        if faults.resets_controller {
            let reset = opened.controller.reset();
            found.said.push(format!("was reset by its register, as asked to misbehave: {reset:?}"));
        }
        let attached = match opened.pages {
            Some(_) => "attached anew",
            None => "still attached, by who had it before",
        };
        found.check("device", &state.address, true, attached);
        let mut nic = Self::left(opened, state);
        nic.relatch(faults, &mut found);
        Ok((nic, found))
    }

    /// Interrupts on again, and its vector signalled once. Before that, a look at what came while nobody ran.
    pub(crate) fn relatch(&mut self, faults: Faults, found: &mut Found) {
        let (address, waiting) = (self.address().to_owned(), self.state.queue.outstanding());
        if let Err(error) = self.opened.sleep(false) {
            found.said.push(format!("it cannot be woken: {error}"));
        }
        let counts = self.state.counts;
        found.said.extend(self.take());
        self.state.returned = self.state.counts.received;
        let mastered = self.opened.switch_on();
        self.opened.controller.quiet_pin();
        let (passed, detail) = self.opened.latch(!faults.forgets_kick, self.state.off, self.state.khz);
        found.check("interrupts", &address, passed, detail);
        self.signals = 0;
        // From here on each frame signals; what came before that is seen now.
        Queue::interrupts(&self.opened.memory, true);
        found.said.extend(self.take());
        let armed = self.state.counts;
        self.returns = Some(Returning { counts, waiting, armed, mastered });
    }

    /// It is seen to work on; or, where it has forgotten what it was told, it is set up anew.
    pub(crate) fn settle(&mut self, found: &mut Found) {
        let Some(Returning { counts, waiting, armed, mastered }) = self.returns.take() else { return };
        let address = self.address().to_owned();
        let blackout = self.state.returned - counts.received;
        let mut changed = self.changed();
        if changed.is_none() {
            self.told();
            found.said.extend(self.wait(armed));
            // To be kicked is the kernel's doing alone: what the device itself signals may be lost all the same.
            let owed = [self.state.counts.given() > armed.given()];
            let unheard = self.opened.unheard(&owed, &mut self.signals);
            if !unheard.is_empty() {
                let why = format!("frames came, and vectors {unheard:?} were not signalled");
                found.check("interrupts", &address, false, why);
            }
            changed = self.changed();
        }
        let later = self.state.counts.received - self.state.returned;
        let bad = self.state.counts.bad() - counts.bad();
        let mut dma = format!(
            "{waiting} buffers were posted: {blackout} frames came in the blackout, {later} later, the next is {}",
            self.state.counts.next
        );
        match mastered {
            Ok(true) => {}
            Ok(false) => dma += "; its bus mastering had been off",
            Err(error) => dma += &format!("; its bus mastering is not known: {error}"),
        }
        if bad > 0 {
            dma += &format!(", {bad} lost or not as they should be");
        }
        let state = match &changed {
            None => {
                let status = self.opened.controller.status();
                format!("status {status:#x}, it works on with the queue that it had")
            }
            Some(why) => {
                let anew = match self.restart() {
                    Ok(()) => "set up anew".to_owned(),
                    Err(error) => format!("it could not be set up anew: {error}"),
                };
                found.said.push(format!("{anew}: {why}"));
                format!("{why}; {anew}")
            }
        };
        found.check("dma", &address, changed.is_none() && bad == 0, dma);
        found.check("state", &address, changed.is_none(), state);
        self.keep();
    }

    /// Works again, and tells of it once enough is seen.
    pub(crate) fn go_on(&mut self) -> Vec<String> {
        self.stands = false;
        // Not before: who dies until then leaves a gap that has not ended.
        self.state.off = 0;
        self.tell_at = Some(self.state.counts.received + ENOUGH);
        let said = self.turn();
        self.keep();
        said
    }

    /// How it went, once enough frames came after its return.
    pub(crate) fn summary(&mut self) -> Option<String> {
        let Counts { next, received, lost, late, wrong, others, strange } = self.state.counts;
        self.tell_at.take_if(|at| *at <= received)?;
        let (before, blackout) = (self.state.before, self.state.returned.saturating_sub(self.state.before));
        let (after, signals) = (received.saturating_sub(self.state.returned), self.signals);
        Some(format!(
            "summary before={before} blackout={blackout} after={after} received={received} next={next} interrupts={signals} lost={lost} late={late} wrong={wrong} others={others} strange={strange}"
        ))
    }

    /// Waits a while for something to come after that.
    fn wait(&mut self, armed: Counts) -> Vec<String> {
        let (begun, mut said) = (Instant::now(), Vec::new());
        loop {
            said.extend(self.turn());
            if self.state.counts.given() > armed.given() || begun.elapsed() > MAYBE {
                return said;
            }
            std::thread::sleep(MOMENT);
        }
    }

    /// What is not as it was left; none: all is.
    fn changed(&self) -> Option<String> {
        if let Some(stopped) = self.opened.controller.stopped() {
            return Some(stopped);
        }
        let (was, is) = (self.state.told, self.opened.controller.told());
        if was != is {
            return Some(format!("it was told {was:x?}, and has {is:x?}"));
        }
        self.broken.clone().or_else(|| self.opened.moved(&self.state.pages))
    }
}
