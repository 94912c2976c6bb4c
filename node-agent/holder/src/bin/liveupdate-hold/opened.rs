//! A device with the memory that it reaches: opened, or taken back after a jump.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use liveupdate_host::linux::ticks;
use liveupdate_host::linux::vfio::{Device, Iommufd, Map, Space, VfioError};
use liveupdate_proto::causes::chain;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::memory::PAGE;

/// Where a device behind an IOMMU finds its memory; nothing else is there on any platform.
const IOVA: u64 = 1 << 32;
/// COMMAND in configuration space, and its bits for registers, for DMA, and against the pin.
const COMMAND: u8 = 4;
const ANSWERS: u16 = 1 << 1;
const MASTERS: u16 = 1 << 2;
const NO_PIN: u16 = 1 << 10;
/// Vendor, device, and class with subclass in configuration space.
const VENDOR: u8 = 0;
const DEVICE: u8 = 2;
const CLASS: u8 = 10;
/// The capability of power management, its register for control, and the state in that: all of its bits are D3hot.
const POWER: u8 = 1;
const POWER_CONTROL: u8 = 4;
const POWER_STATE: u16 = 3;
/// Between two looks at what is waited for.
const MOMENT: Duration = Duration::from_micros(500);
/// For a vector that a device has signalled already.
const SOON: Duration = Duration::from_secs(5);

/// A device with the memory that it reaches, whatever it is.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) device: Device,
    pub(crate) memory: Arc<Map>,
    /// Reached by the device, for as long as it is ours; none: it was bound already, by who had it before.
    space: Option<Space>,
}

/// What a device is, by its configuration space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) vendor: u16,
    pub(crate) device: u16,
    /// Base class and subclass.
    pub(crate) class: u16,
}

/// One that can be worked with, by its registers.
#[derive(Debug)]
pub(crate) struct Opened<C> {
    pub(crate) device: Device,
    pub(crate) controller: C,
    pub(crate) memory: Arc<Map>,
    /// What it knows each page by; none: it was bound already, by who had it before.
    pub(crate) pages: Option<Vec<u64>>,
    /// One for each vector.
    pub(crate) events: Arc<[OwnedFd]>,
    space: Option<Space>,
}

impl Bound {
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
        Ok(Self { device, memory, space })
    }

    pub(crate) fn identity(&self) -> Result<Identity, String> {
        let word = |at| self.device.read_config16(at).map_err(|error| chain(&error));
        Ok(Identity { vendor: word(VENDOR)?, device: word(DEVICE)?, class: word(CLASS)? })
    }

    /// With so many pages of its memory in use, so many vectors, and its registers.
    pub(crate) fn open<C>(
        self,
        pages: usize,
        vectors: usize,
        controller: impl FnOnce(&Device) -> Result<C, String>,
    ) -> Result<Opened<C>, String> {
        let Self { device, memory, space } = self;
        let known = space.as_ref().map(|space| known(space, &device, pages)).transpose();
        let known = known.map_err(|error| chain(&error))?;
        let controller = controller(&device)?;
        let event = |_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let events: Result<Arc<[OwnedFd]>, _> = (0..vectors).map(event).collect();
        let events = events.map_err(|error| format!("no eventfd can be made: {error}"))?;
        Ok(Opened { device, controller, memory, pages: known, events, space })
    }
}

impl<C> Opened<C> {
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
        let events: Vec<BorrowedFd<'_>> = self.events.iter().map(AsFd::as_fd).collect();
        self.device.arm(&events).map_err(|error| chain(&error))
    }

    /// How often each vector was signalled since this was asked last.
    pub(crate) fn signals(&self) -> Vec<u64> {
        let count = |event: &OwnedFd| {
            let mut count = [0; 8];
            match rustix::io::read(event, &mut count) {
                Ok(8) => u64::from_ne_bytes(count),
                _ => 0,
            }
        };
        self.events.iter().map(count).collect()
    }

    /// Interrupts on again after they were off since that moment of a counter of so many kHz; and every vector signalled
    /// once, unless `kicks` says otherwise. Whether each was, and a sentence.
    pub(crate) fn latch(&self, kicks: bool, off: u64, khz: u64) -> (bool, String) {
        // What came before they went off is no sign of life.
        self.signals();
        let all = self.events.len();
        let signalled = self.arm().and_then(|()| {
            if kicks {
                self.device.kick(all as u32).map_err(|error| chain(&error))?;
            }
            Ok(self.signals().into_iter().filter(|count| *count > 0).count())
        });
        let gap = match off {
            // They were never off, or who had them off has died after it went on.
            0 => "for how long they were off is not known".to_owned(),
            off => {
                let ticks = ticks::now().unwrap_or_default().saturating_sub(off);
                format!("gap={}ms", ticks.div_ceil(khz.max(1)))
            }
        };
        match signalled {
            Ok(count) => (count == all, format!("{count} of {all} vectors were signalled, {gap}")),
            Err(error) => (false, error),
        }
    }

    /// Those of the vectors for which something came that are not signalled soon. All signals are counted.
    pub(crate) fn unheard(&self, owed: &[bool], signals: &mut u64) -> Vec<usize> {
        let (begun, mut heard) = (Instant::now(), vec![0; self.events.len()]);
        loop {
            for (heard, more) in heard.iter_mut().zip(self.signals()) {
                *heard += more;
            }
            let silent =
                owed.iter().zip(&heard).enumerate().filter(|(_, (owed, heard))| **owed && **heard == 0);
            let silent: Vec<usize> = silent.map(|(vector, _)| vector).collect();
            if silent.is_empty() || begun.elapsed() > SOON {
                *signals += heard.iter().sum::<u64>();
                return silent;
            }
            std::thread::sleep(MOMENT);
        }
    }

    /// The memory that it is to reach, as the device knows it: each run of pages by its first and how many there are.
    pub(crate) fn reaches(&self) -> String {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for page in self.pages.iter().flatten().copied() {
            match runs.last_mut() {
                Some((first, count)) if *first + *count * PAGE as u64 == page => *count += 1,
                _ => runs.push((page, 1)),
            }
        }
        let runs: Vec<String> = runs.iter().map(|(first, count)| format!("{first:#x}+{count}")).collect();
        format!("reaches {}", runs.join(","))
    }

    /// The page of its memory that is no longer where the device was told that it is.
    pub(crate) fn moved(&self, told: &[u64]) -> Option<String> {
        let moved = told.iter().zip(self.pages.as_ref()?).position(|(was, is)| was != is)?;
        Some(format!("page {moved} of its memory is no longer where the device knows it"))
    }

    /// Memory that no update knows of: a page of its own, which the device reaches as well.
    pub(crate) fn stray(&mut self) -> Result<(u64, Map), String> {
        let file = rustix::fs::memfd_create("stray", rustix::fs::MemfdFlags::CLOEXEC);
        let file = file.map_err(|error| error.to_string())?;
        rustix::fs::ftruncate(&file, PAGE as u64).map_err(|error| error.to_string())?;
        let map = || Map::shared(&file, 0, PAGE).map_err(|error| error.to_string());
        let (reached, seen) = (Arc::new(map()?), map()?);
        let iova = IOVA + self.memory.len() as u64;
        let space = self.space.as_mut().ok_or("it was bound by somebody else")?;
        space.map(iova, reached).map_err(|error| chain(&error))?;
        let known = if self.device.confined() { Ok(iova) } else { space.physical(iova) };
        known.map(|address| (address, seen)).map_err(|error| chain(&error))
    }
}

fn space(device: &Device, memory: &Arc<Map>) -> Result<Space, VfioError> {
    let iommufd = Iommufd::open()?;
    let mut space = iommufd.space()?;
    space.map(IOVA, Arc::clone(memory))?;
    device.bind(&iommufd)?;
    device.attach(&space)?;
    Ok(space)
}

fn known(space: &Space, device: &Device, pages: usize) -> Result<Vec<u64>, VfioError> {
    let all = (0..pages).map(|page| IOVA + (page * PAGE) as u64);
    all.map(|iova| if device.confined() { Ok(iova) } else { space.physical(iova) }).collect()
}
