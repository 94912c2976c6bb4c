//! A disk at work: so many commands on their way all the time, each answer checked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use liveupdate_host::linux::ticks;
use liveupdate_host::linux::vfio::Map;

use super::command::{self, Answered};
use super::controller::{Controller, Disk, VECTORS, data};
use super::flight::{Answer, BYTES, Command, Counts, Flight, word_at};
use super::layout::{PAGES, Queue, at};
use super::ring::Ring;
use super::state::State;
use crate::copies::Copied;
use crate::memory::PAGE;
use crate::opened::{Bound, Opened};

/// Between two looks at commands that are waited for.
pub(super) const MOMENT: Duration = Duration::from_micros(500);

/// Over how long the counter's frequency is measured.
const MEASURED: Duration = Duration::from_millis(50);

/// How it is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    /// Commands on their way at once.
    pub(crate) depth: usize,
    /// Some write what is there.
    pub(crate) writes: bool,
    /// A buffer is outside of the memory that is declared.
    pub(crate) stray: bool,
}

/// What was seen when a disk came back, until it has settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Returning {
    pub(super) counts: Counts,
    /// On their way when it stood.
    pub(super) waiting: usize,
    /// When its vectors had been armed: what comes after that is signalled.
    pub(super) armed: Counts,
    /// It did DMA all the time, as far as configuration space tells.
    pub(super) mastered: Result<bool, String>,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Drive {
    pub(super) opened: Opened<Controller>,
    pub(super) state: State,
    /// Nothing new is asked of it.
    pub(super) stands: bool,
    /// Between its return and all that has to be seen of it.
    pub(super) returns: Option<Returning>,
    /// By the device's vectors, since it was looked at.
    pub(super) signals: u64,
    /// Until so much is done, the last return is not told of to its end.
    pub(super) tell_at: Option<u64>,
    stray: Option<Map>,
}

impl Drive {
    /// Opens a device that nobody uses, and sets it up in an empty part of the memory.
    pub(crate) fn open(bound: Bound, used: Use) -> Result<Self, String> {
        let mut opened = bound.open(PAGES, VECTORS, Controller::of)?;
        opened.switch_on()?;
        let mut pages = opened.pages.clone().ok_or("it is bound already")?;
        let mut outside = None;
        if used.stray {
            let (address, map) = opened.stray()?;
            if let Some(page) = pages.get_mut(data(0)) {
                *page = address;
            }
            outside = Some(map);
        }
        let khz = ticks::khz(MEASURED).ok_or("the CPU's counter cannot be measured")?;
        let state = State {
            number: 0,
            address: opened.device.address().into(),
            khz,
            disk: 0,
            sector: 0,
            writes: used.writes,
            registers: opened.controller.told(),
            admin: Ring::NEW,
            io: Ring::NEW,
            off: 0,
            before: 0,
            returned: 0,
            flight: Flight::new(used.depth),
            pages,
        };
        let mut drive =
            Self { opened, state, stands: true, returns: None, signals: 0, tell_at: None, stray: outside };
        drive.opened.arm()?;
        drive.restart()?;
        Ok(drive)
    }

    /// One that somebody had, as it was left.
    pub(super) fn left(opened: Opened<Controller>, state: State) -> Self {
        Self { opened, state, stands: true, returns: None, signals: 0, tell_at: None, stray: None }
    }

    pub(crate) fn address(&self) -> &str {
        &self.state.address
    }

    pub(crate) fn flight(&self) -> &Flight {
        &self.state.flight
    }

    /// Takes what was answered, and asks for more. Sentences on what is not as it should be.
    pub(crate) fn turn(&mut self) -> Vec<String> {
        let before = self.state.io;
        let said = self.take();
        while !self.stands
            && let Some(command) = self.state.flight.start()
        {
            self.ask(command);
        }
        // What it was told already it takes for a mistake.
        if self.state.io != before {
            self.told();
        }
        said
    }

    /// Makes the controller anew, and asks again for what it has forgotten.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        let lost = self.state.flight.lose();
        self.opened.controller.switch_off();
        // Where its memory is now: what it knew may be somebody else's.
        if let Some(pages) = self.opened.pages.as_ref().filter(|_| self.stray.is_none()) {
            self.state.pages.clone_from(pages);
        }
        let memory = Arc::clone(&self.opened.memory);
        for queue in [Queue::Admin, Queue::Io] {
            // Answers of another life would be taken for new ones.
            (0..PAGE / 8).for_each(|word| memory.store64(at(queue.answers()) + 8 * word, 0));
        }
        (self.state.admin, self.state.io) = (Ring::NEW, Ring::NEW);
        self.opened.controller.restart(&self.state.pages)?;
        let set_up = self.opened.controller.set_up(&memory, &self.state.pages, &mut self.state.admin);
        let Disk { bytes, sector } = set_up?;
        (self.state.disk, self.state.sector) = (bytes, sector);
        self.state.registers = self.opened.controller.told();
        for command in lost {
            self.ask(command);
        }
        self.told();
        Ok(())
    }

    /// Waits until nothing is on its way; false: something still is.
    pub(super) fn drain(&mut self, patience: Duration) -> (bool, Vec<String>) {
        let (begun, mut said) = (Instant::now(), Vec::new());
        loop {
            let before = self.state.io;
            said.extend(self.take());
            if self.state.io != before {
                self.told();
            }
            if self.state.flight.len() == 0 {
                return (true, said);
            }
            if begun.elapsed() > patience || self.opened.controller.stopped().is_some() {
                return (false, said);
            }
            std::thread::sleep(MOMENT);
        }
    }

    /// Says again how far both queues are: who left them may have died before it did.
    pub(super) fn told(&mut self) {
        let memory = &self.opened.memory;
        self.state.save(memory);
        self.opened.controller.ring(memory, Queue::Io, self.state.io);
    }

    /// Writes down what has changed without a command.
    pub(super) fn keep(&mut self) {
        self.state.save(&self.opened.memory);
    }

    pub(super) fn take(&mut self) -> Vec<String> {
        let memory = Arc::clone(&self.opened.memory);
        let mut said = Vec::new();
        while let Some(answered) = self.opened.controller.answer(&memory, Queue::Io, &mut self.state.io) {
            said.extend(self.ended(answered));
        }
        said
    }

    fn ended(&mut self, answered: Answered) -> Option<String> {
        let Some(command) = self.state.flight.find(answered.id) else {
            return Some(format!("answers {}, which nobody asked", answered.id));
        };
        let offset = command.offset(self.state.disk);
        let (answer, said) = if answered.status != 0 {
            let why =
                format!("command {} at {offset} ended with status {:#x}", command.number, answered.status);
            (Answer::Failed, Some(why))
        } else if let Some(why) = self.differs(command, offset) {
            (Answer::Wrong, Some(why))
        } else {
            (Answer::Right, None)
        };
        self.state.flight.end(command, answer);
        said
    }

    /// What is in the memory of a command that is not on the disk.
    fn differs(&self, command: Command, offset: u64) -> Option<String> {
        let (memory, start) = self.buffer(command.id);
        (0..BYTES / 8).find_map(|word| {
            let (found, wanted) = (memory.load64(start + 8 * word), word_at(offset + 8 * word as u64));
            (found != wanted).then(|| {
                let number = command.number;
                format!("command {number} at {offset}: word {word} is {found:#x} and not {wanted:#x}")
            })
        })
    }

    fn ask(&mut self, command: Command) {
        let offset = command.offset(self.state.disk);
        let write = command.writes(self.state.writes);
        let (memory, start) = self.buffer(command.id);
        for word in 0..BYTES / 8 {
            // What the device does not write stays what it cannot have written.
            let value = if write { word_at(offset + 8 * word as u64) } else { u64::MAX };
            memory.store64(start + 8 * word, value);
        }
        let page = self.state.pages.get(data(command.id)).copied().unwrap_or_default();
        let sector = self.state.sector.max(512);
        let sectors = (BYTES as u64 / sector) as u32;
        let entry = command::transfer(write, command.id, page, offset / sector, sectors);
        let memory = Arc::clone(&self.opened.memory);
        // There is always room: fewer commands are on their way than the ring has places.
        self.opened.controller.put(&memory, Queue::Io, &mut self.state.io, entry);
    }

    fn buffer(&self, id: u16) -> (&Map, usize) {
        match &self.stray {
            Some(stray) if id == 0 => (stray, 0),
            _ => (&self.opened.memory, at(data(id))),
        }
    }
}
