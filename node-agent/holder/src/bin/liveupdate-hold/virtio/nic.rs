//! A NIC at work: all buffers posted, each frame checked, its buffer posted again.

use std::sync::Arc;
use std::time::Duration;

use liveupdate_host::linux::ticks;

use super::counts::Counts;
use super::frame::Frame;
use super::layout::{AVAILABLE, DESCRIPTORS, ENTRIES, PAGES, USED, buffer};
use super::queue::{Filled, Queue};
use super::state::State;
use super::transport::{Told, Transport, VECTORS};
use crate::copies::Copied;
use crate::opened::{Bound, Opened};

/// Over how long the counter's frequency is measured.
const MEASURED: Duration = Duration::from_millis(50);

/// What was seen when a NIC came back, until it has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Returning {
    pub(super) counts: Counts,
    /// Buffers that it had when it stood.
    pub(super) waiting: u16,
    /// When its vector had been armed: what comes after that is signalled.
    pub(super) armed: Counts,
    /// It did DMA all the time, as far as configuration space tells.
    pub(super) mastered: Result<bool, String>,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Nic {
    pub(super) opened: Opened<Transport>,
    pub(super) state: State,
    /// Nothing is asked of it.
    pub(super) stands: bool,
    /// Between its return and all that has to be seen of it.
    pub(super) returns: Option<Returning>,
    /// By the device's vector, since it was looked at.
    pub(super) signals: u64,
    /// Until so many frames came, the last return is not told of to its end.
    pub(super) tell_at: Option<u64>,
    /// What is wrong with its ring: nothing is read from it any more.
    pub(super) broken: Option<String>,
}

impl Nic {
    /// Opens a device that nobody uses, and sets it up in an empty part of the memory.
    pub(crate) fn open(bound: Bound) -> Result<Self, String> {
        let opened = bound.open(PAGES, VECTORS, Transport::of)?;
        opened.switch_on()?;
        let pages = opened.pages.clone().ok_or("it is bound already")?;
        let khz = ticks::khz(MEASURED).ok_or("the CPU's counter cannot be measured")?;
        let state = State {
            number: 0,
            address: opened.device.address().into(),
            khz,
            told: Told::default(),
            queue: Queue { posted: 0, seen: 0 },
            off: 0,
            before: 0,
            returned: 0,
            counts: Counts::default(),
            pages,
        };
        let mut nic = Self::left(opened, state);
        nic.opened.arm()?;
        nic.restart()?;
        Ok(nic)
    }

    /// One that somebody had, as it was left.
    pub(super) fn left(opened: Opened<Transport>, state: State) -> Self {
        Self { opened, state, stands: true, returns: None, signals: 0, tell_at: None, broken: None }
    }

    pub(crate) fn address(&self) -> &str {
        &self.state.address
    }

    /// Takes the frames that came, and posts their buffers again. Sentences on what is not as it should be.
    pub(crate) fn turn(&mut self) -> Vec<String> {
        let (queue, none) = (self.state.queue, self.state.counts.received == 0);
        let mut said = self.take();
        if self.state.queue != queue {
            self.told();
        }
        if none && self.state.counts.received > 0 {
            said.push(format!("receives, from frame {} on", self.state.counts.next - 1));
        }
        said
    }

    /// Makes the device anew, with all buffers posted.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        let transport = &self.opened.controller;
        transport.reset()?;
        // Where its memory is now: what it knew may be somebody else's.
        if let Some(pages) = &self.opened.pages {
            self.state.pages.clone_from(pages);
        }
        self.broken = None;
        self.state.queue = Queue::fresh(&self.opened.memory, &self.state.pages);
        let address = |page: usize| self.state.pages.get(page).copied().unwrap_or_default();
        transport.set_up(ENTRIES, [DESCRIPTORS, AVAILABLE, USED].map(address))?;
        self.state.told = transport.told();
        transport.start();
        self.told();
        Ok(())
    }

    /// Says again how far the queue is: who left it may have died before it did.
    pub(super) fn told(&mut self) {
        let memory = &self.opened.memory;
        self.state.save(memory);
        if self.state.queue.publish(memory) {
            self.opened.controller.notify();
        }
    }

    /// Writes down what has changed without a frame.
    pub(super) fn keep(&mut self) {
        self.state.save(&self.opened.memory);
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        if self.broken.is_some() {
            return said;
        }
        if let Err(why) = self.take_all(&mut said) {
            said.push(format!("its queue is not used any more: {why}"));
            self.state.counts.strange += 1;
            self.broken = Some(why);
        }
        said
    }

    /// What was posted again is not published yet, so that a buffer that comes twice comes without having been posted.
    fn take_all(&mut self, said: &mut Vec<String>) -> Result<(), String> {
        let memory = Arc::clone(&self.opened.memory);
        let mut back = [false; ENTRIES as usize];
        for _ in 0..self.state.queue.filled(&memory)? {
            let Filled { id, bytes } = self.state.queue.take(&memory)?;
            match back.get_mut(usize::from(id)) {
                Some(seen) if !*seen => *seen = true,
                _ => return Err(format!("its used ring names buffer {id} twice")),
            }
            said.extend(self.state.counts.take(Frame::of(&memory, buffer(id), bytes)));
            Frame::erase(&memory, buffer(id));
            self.state.queue.post(&memory, id);
        }
        Ok(())
    }
}
