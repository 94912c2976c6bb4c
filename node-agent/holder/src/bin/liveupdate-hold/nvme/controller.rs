//! The controller itself: its registers, and queues in memory that it knows by its own addresses.

use std::time::{Duration, Instant};

use liveupdate_host::linux::vfio::{BAR0, Device, Map};
use liveupdate_proto::causes::chain;

use super::command::{self, Answered, Entry};
use super::layout::{DATA, IDENTIFY, Queue, at};
use super::ring::{ENTRIES, Ring};
use super::state::Registers;

const CAPABILITIES: usize = 0x00;
const CONFIGURATION: usize = 0x14;
const STATUS: usize = 0x1c;
const SIZES: usize = 0x24;
const COMMANDS: usize = 0x28;
const ANSWERS: usize = 0x30;
const DOORBELLS: usize = 0x1000;

/// CC: on, pages of 4096 bytes, commands of 64 bytes, answers of 16.
const ON: u32 = 1 | 6 << 16 | 4 << 20;
const ENABLED: u32 = 1;
/// CSTS: takes commands.
const READY: u32 = 1;
/// CSTS: has failed for good.
const FATAL: u32 = 1 << 1;
/// Bytes of a command, and of an answer.
const COMMAND: usize = 64;
const ANSWER: usize = 16;
/// Admin, and reads and writes.
pub(crate) const VECTORS: usize = 2;
/// The vector of the queue for reads and writes.
const VECTOR: u16 = 1;
/// Between two looks at what a device shall come to.
const MOMENT: Duration = Duration::from_micros(200);
/// For commands that no disk has to be read for.
const SOON: Duration = Duration::from_secs(5);

/// A disk as the controller describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) bytes: u64,
    pub(crate) sector: u64,
}

/// Registers and memory.
#[derive(Debug)]
pub(crate) struct Controller {
    registers: Map,
}

impl Controller {
    pub(crate) fn of(device: &Device) -> Result<Self, String> {
        device.map(BAR0).map(|registers| Self { registers }).map_err(|error| chain(&error))
    }

    /// What it was told last, as it remembers.
    pub(crate) fn told(&self) -> Registers {
        Registers {
            configuration: self.registers.load32(CONFIGURATION),
            sizes: self.registers.load32(SIZES),
            commands: self.registers.load64(COMMANDS),
            answers: self.registers.load64(ANSWERS),
        }
    }

    /// What keeps it from working on; none: nothing.
    pub(crate) fn stopped(&self) -> Option<String> {
        let (told, status) = (self.registers.load32(CONFIGURATION), self.registers.load32(STATUS));
        let why = match () {
            () if status == u32::MAX => "its registers do not answer",
            () if status & FATAL != 0 => "it has failed",
            () if told & ENABLED == 0 => "it was switched off",
            () if status & READY == 0 => "it is not ready",
            () => return None,
        };
        Some(format!("{why}: CC {told:#x}, CSTS {status:#x}"))
    }

    /// Switches it off and on: it forgets every queue and every command.
    pub(crate) fn restart(&self, pages: &[u64]) -> Result<(), String> {
        let capabilities = self.registers.load64(CAPABILITIES);
        let most = (capabilities & 0xffff) + 1;
        if most < u64::from(ENTRIES) {
            return Err(format!("its queues have at most {most} places, {ENTRIES} are needed"));
        }
        let patience = Duration::from_millis(500 * ((capabilities >> 24 & 0xff) + 1));
        self.switch_off();
        self.comes_to(0, patience)?;
        let address = |page: usize| pages.get(page).copied().unwrap_or_default();
        self.registers.store32(SIZES, u32::from(ENTRIES - 1) << 16 | u32::from(ENTRIES - 1));
        // As two words: not every controller takes one of 64 bits.
        for (at, page) in [(COMMANDS, Queue::Admin.commands()), (ANSWERS, Queue::Admin.answers())] {
            self.registers.store32(at, address(page) as u32);
            self.registers.store32(at + 4, (address(page) >> 32) as u32);
        }
        self.registers.store32(CONFIGURATION, ON);
        self.comes_to(READY, patience)
    }

    /// Its own reset.
    pub(crate) fn switch_off(&self) {
        self.registers.store32(CONFIGURATION, self.registers.load32(CONFIGURATION) & !ENABLED);
    }

    /// Makes the queues for reads and writes, and finds out about the disk.
    pub(crate) fn set_up(&self, memory: &Map, pages: &[u64], ring: &mut Ring) -> Result<Disk, String> {
        let page = |page: usize| pages.get(page).copied().unwrap_or_default();
        self.ask(memory, ring, command::identify(0, page(IDENTIFY)))?;
        let word = |offset: usize| memory.load32(at(IDENTIFY) + offset);
        let format = (word(24) >> 16 & 0xf) as usize;
        let sector = 1_u64 << (word(128 + 4 * format) >> 16 & 0x1f);
        let bytes = memory.load64(at(IDENTIFY)).saturating_mul(sector);
        if !(512..=4096).contains(&sector) || bytes < 4096 {
            return Err(format!("its disk has {bytes} bytes in sectors of {sector}"));
        }
        let (queue, answers) = (Queue::Io.id() as u16, page(Queue::Io.answers()));
        self.ask(memory, ring, command::create_answers(1, answers, queue, ENTRIES, VECTOR))?;
        self.ask(memory, ring, command::create_commands(2, page(Queue::Io.commands()), queue, ENTRIES))?;
        Ok(Disk { bytes, sector })
    }

    /// Puts a command into its queue; the device sees it once [`Controller::ring`] told it.
    pub(crate) fn put(&self, memory: &Map, queue: Queue, ring: &mut Ring, entry: Entry) -> bool {
        let Some(place) = ring.push() else { return false };
        let start = at(queue.commands()) + usize::from(place) * COMMAND;
        for (word, value) in entry.0.into_iter().enumerate() {
            memory.store32(start + 4 * word, value);
        }
        true
    }

    /// Tells it how far commands were put, and answers seen.
    pub(crate) fn ring(&self, memory: &Map, queue: Queue, ring: Ring) {
        memory.written_before();
        let stride = 4_usize << (self.registers.load64(CAPABILITIES) >> 32 & 0xf);
        let doorbell = DOORBELLS + 2 * queue.id() * stride;
        self.registers.store32(doorbell, ring.tail.into());
        self.registers.store32(doorbell + stride, ring.next.into());
    }

    /// The next answer, when it has come.
    pub(crate) fn answer(&self, memory: &Map, queue: Queue, ring: &mut Ring) -> Option<Answered> {
        let start = at(queue.answers()) + usize::from(ring.next) * ANSWER;
        let fourth = memory.load32(start + 12);
        if !ring.is_new(Answered::of(0, fourth).phase) {
            return None;
        }
        memory.read_before();
        let answered = Answered::of(memory.load32(start + 8), fourth);
        ring.took(answered.head);
        Some(answered)
    }

    /// One command that is waited for.
    pub(crate) fn ask(&self, memory: &Map, ring: &mut Ring, entry: Entry) -> Result<(), String> {
        let opcode = entry.0[0] & 0xff;
        if !self.put(memory, Queue::Admin, ring, entry) {
            return Err(format!("there is no room for admin command {opcode:#x}"));
        }
        self.ring(memory, Queue::Admin, *ring);
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            let Some(answered) = self.answer(memory, Queue::Admin, ring) else {
                std::thread::sleep(MOMENT);
                continue;
            };
            self.ring(memory, Queue::Admin, *ring);
            return match answered.status {
                0 => Ok(()),
                status => Err(format!("admin command {opcode:#x} ended with status {status:#x}")),
            };
        }
        Err(format!("admin command {opcode:#x} was not answered within {SOON:?}"))
    }

    fn comes_to(&self, ready: u32, patience: Duration) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let status = self.registers.load32(STATUS);
            if status != u32::MAX && status & READY == ready {
                return Ok(());
            }
            if begun.elapsed() > patience {
                return Err(format!("it does not come to CSTS.RDY={ready}: CSTS {status:#x}"));
            }
            std::thread::sleep(MOMENT);
        }
    }
}

/// The page of data of a command.
pub(crate) fn data(id: u16) -> usize {
    DATA + usize::from(id)
}
