//! A device with the memory that it reaches: opened, or taken back after a jump.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use liveupdate_host::linux::vfio::{BAR0, Device, Iommufd, Map, Space, VfioError};
use liveupdate_proto::causes::chain;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::memory::PAGE;

use super::controller::Controller;
use super::layout::{PAGES, at};

/// Where a device behind an IOMMU finds its memory; nothing else is there on any platform.
const IOVA: u64 = 1 << 32;
/// COMMAND in configuration space, and its bits for registers, for DMA, and against the pin.
const COMMAND: u8 = 4;
const ANSWERS: u16 = 1 << 1;
const MASTERS: u16 = 1 << 2;
const NO_PIN: u16 = 1 << 10;
/// The capability of power management, its register for control, and the state in that: all of its bits are D3hot.
const POWER: u8 = 1;
const POWER_CONTROL: u8 = 4;
const POWER_STATE: u16 = 3;
/// Admin, and reads and writes.
const VECTORS: usize = 2;

/// A device that can be worked with.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: Device,
    pub(crate) controller: Controller,
    pub(crate) memory: Arc<Map>,
    /// What it knows each page by; none: it was bound already, by who had it before.
    pub(crate) pages: Option<Vec<u64>>,
    pub(crate) events: Arc<[OwnedFd; VECTORS]>,
    /// Reached by the device, for as long as it is ours.
    space: Option<Space>,
}

impl Opened {
    /// Binds, maps, attaches: whatever the device was doing goes on.
    pub(crate) fn of(device: Device, memory: Arc<Map>) -> Result<Self, String> {
        let space = match space(&device, &memory) {
            Ok(space) => Some(space),
            // Who took it back before us has died; what it had mapped stays as long as the device's file does.
            Err(error) if error.call == "VFIO_DEVICE_BIND_IOMMUFD" && error.errno() == Some(Errno::INVAL) => {
                None
            }
            Err(error) => return Err(chain(&error)),
        };
        let whole = |error: VfioError| chain(&error);
        let pages = space.as_ref().map(|space| pages(space, &device)).transpose().map_err(whole)?;
        let controller = Controller::new(device.map(BAR0).map_err(whole)?);
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let events = [event(), event()];
        let [Ok(admin), Ok(io)] = events else { return Err("no eventfd can be made".into()) };
        let events = Arc::new([admin, io]);
        Ok(Self { device, controller, memory, pages, events, space })
    }

    /// Lets it answer and do DMA, and not signal its pin. True: it could do DMA already.
    pub(crate) fn switch_on(&self) -> Result<bool, String> {
        let command = self.device.read_config16(COMMAND).map_err(|error| chain(&error))?;
        let wanted = command | ANSWERS | MASTERS | NO_PIN;
        if command != wanted {
            self.device.write_config16(COMMAND, wanted).map_err(|error| chain(&error))?;
        }
        Ok(command & MASTERS != 0)
    }

    /// No vector signals any more, and its pin, which the kernel sets free with the last vector, neither: commands may end
    /// while nobody listens. The pin is off already as far as it was asked for, and only a change is carried out.
    pub(crate) fn disarm(&self) -> Result<(), String> {
        let silent = self.device.disarm().and_then(|()| {
            let command = self.device.read_config16(COMMAND)?;
            self.device.write_config16(COMMAND, command & !NO_PIN)?;
            self.device.write_config16(COMMAND, command | NO_PIN)
        });
        silent.map_err(|error| chain(&error))
    }

    /// Puts it to sleep (D3hot), or wakes it; nothing when it is so already.
    pub(crate) fn sleep(&self, sleeps: bool) -> Result<(), String> {
        let Some(at) = self.device.capability(POWER).map_err(|error| chain(&error))? else {
            // What cannot sleep is awake.
            return if sleeps { Err("it has no power management".into()) } else { Ok(()) };
        };
        let control = self.device.read_config16(at + POWER_CONTROL).map_err(|error| chain(&error))?;
        let wanted = control & !POWER_STATE | if sleeps { POWER_STATE } else { 0 };
        if control != wanted {
            let write = self.device.write_config16(at + POWER_CONTROL, wanted);
            write.map_err(|error| chain(&error))?;
        }
        Ok(())
    }

    /// Each vector signals its own eventfd from here on.
    pub(crate) fn arm(&self) -> Result<(), String> {
        let events = self.events.each_ref().map(AsFd::as_fd);
        self.device.arm(&events).map_err(|error| chain(&error))
    }

    /// How often each vector was signalled since this was asked last.
    pub(crate) fn signals(&self) -> [u64; VECTORS] {
        self.events.each_ref().map(|event| {
            let mut count = [0; 8];
            match rustix::io::read(event, &mut count) {
                Ok(8) => u64::from_ne_bytes(count),
                _ => 0,
            }
        })
    }

    /// Signals every vector once, and looks whether each was. What is not signalled stays unseen.
    pub(crate) fn kick(&self, really: bool) -> Result<usize, String> {
        if really {
            self.device.kick(VECTORS as u32).map_err(|error| chain(&error))?;
        }
        Ok(self.signals().into_iter().filter(|count| *count > 0).count())
    }
}

/// So many vectors there are.
pub(crate) const fn vectors() -> usize {
    VECTORS
}

fn space(device: &Device, memory: &Arc<Map>) -> Result<Space, VfioError> {
    let iommufd = Iommufd::open()?;
    let mut space = iommufd.space()?;
    space.map(IOVA, Arc::clone(memory))?;
    device.bind(&iommufd)?;
    device.attach(&space)?;
    Ok(space)
}

fn pages(space: &Space, device: &Device) -> Result<Vec<u64>, VfioError> {
    let all = (0..PAGES).map(|page| IOVA + at(page) as u64);
    all.map(|iova| if device.confined() { Ok(iova) } else { space.physical(iova) }).collect()
}

/// Memory that no update knows of: a page of its own, which the device reaches as well.
pub(crate) fn stray(opened: &mut Opened) -> Result<(u64, Map), String> {
    let file = rustix::fs::memfd_create("stray", rustix::fs::MemfdFlags::CLOEXEC);
    let file = file.map_err(|error| error.to_string())?;
    rustix::fs::ftruncate(&file, PAGE as u64).map_err(|error| error.to_string())?;
    let map = || Map::shared(&file, 0, PAGE).map_err(|error| error.to_string());
    let (reached, seen) = (Arc::new(map()?), map()?);
    let iova = IOVA + at(PAGES) as u64;
    let space = opened.space.as_mut().ok_or("it was bound by somebody else")?;
    space.map(iova, reached).map_err(|error| chain(&error))?;
    let known = if opened.device.confined() { Ok(iova) } else { space.physical(iova) };
    known.map(|address| (address, seen)).map_err(|error| chain(&error))
}
