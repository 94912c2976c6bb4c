//! The NIC's registers: virtio over PCI (4.1), as its vendor-specific capabilities say where they are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use liveupdate_host::linux::vfio::{Device, Map};
use liveupdate_proto::causes::chain;

/// The id of vendor-specific capabilities, and the parts that they tell of (4.1.4).
const VENDOR_SPECIFIC: u8 = 0x09;
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const INTERRUPTS: u8 = 3;
/// Of the common configuration (4.1.4.3).
const DEVICE_FEATURES_SELECT: usize = 0x00;
const DEVICE_FEATURES: usize = 0x04;
const DRIVER_FEATURES_SELECT: usize = 0x08;
const DRIVER_FEATURES: usize = 0x0c;
const CONFIGURATION_VECTOR: usize = 0x10;
const STATUS: usize = 0x14;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_SIZE: usize = 0x18;
const QUEUE_VECTOR: usize = 0x1a;
const QUEUE_ENABLE: usize = 0x1c;
const QUEUE_NOTIFY: usize = 0x1e;
/// Descriptors, available ring, used ring.
const QUEUE_ADDRESSES: [usize; 3] = [0x20, 0x28, 0x30];
/// Device status (2.1).
const ACKNOWLEDGED: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;
/// VIRTIO_F_VERSION_1; VIRTIO_F_ACCESS_PLATFORM, which says that addresses are those of the platform and not the guest's.
const VERSION_1: u64 = 1 << 32;
const ACCESS_PLATFORM: u64 = 1 << 33;
/// VIRTIO_MSI_NO_VECTOR.
const NO_VECTOR: u16 = 0xffff;
/// receiveq1 of a NIC (5.1.2).
const RECEIVE: u16 = 0;
/// The only vector that there is.
const VECTOR: u16 = 0;
/// How many vectors there are.
pub(crate) const VECTORS: usize = 1;
/// For a reset, which takes a device no time.
const SOON: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_micros(200);

/// What the device was told, as it remembers: all that a reset of it forgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) features: u64,
    pub(crate) entries: u16,
    pub(crate) vector: u16,
    /// 1: the queue is.
    pub(crate) on: u16,
    /// Of descriptors, available ring, used ring.
    pub(crate) addresses: [u64; 3],
}

/// A part of a BAR.
#[derive(Clone, Debug)]
struct Part {
    bar: Arc<Map>,
    offset: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Transport {
    common: Part,
    notify: Part,
    /// Bytes between two queues' places there.
    notify_stride: usize,
    interrupts: Part,
}

/// Where a capability says that a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    kind: u8,
    bar: u8,
    offset: u32,
    notify_stride: u32,
}

impl Transport {
    /// Finds the parts of a device.
    pub(crate) fn of(device: &Device) -> Result<Self, String> {
        let capabilities = device.capabilities(VENDOR_SPECIFIC).map_err(|error| chain(&error))?;
        let places = capabilities.into_iter().map(|at| place(device, at));
        let places = places.collect::<Result<Vec<Place>, String>>()?;
        let mut bars: Vec<(u8, Arc<Map>)> = Vec::new();
        let mut part = |kind: u8, what: &str| {
            // The first that fits is the one that the device prefers.
            let place = places.iter().find(|place| place.kind == kind);
            let place = place.ok_or_else(|| {
                format!("it has no capability for {what}: it is no virtio device of version 1")
            })?;
            let bar = match bars.iter().find(|(bar, _)| *bar == place.bar) {
                Some((_, map)) => Arc::clone(map),
                None => {
                    let map = Arc::new(device.map(place.bar.into()).map_err(|error| chain(&error))?);
                    bars.push((place.bar, Arc::clone(&map)));
                    map
                }
            };
            Ok::<_, String>((Part { bar, offset: place.offset as usize }, place.notify_stride as usize))
        };
        let (common, _) = part(COMMON, "its common configuration")?;
        let (notify, notify_stride) = part(NOTIFY, "notifications")?;
        let (interrupts, _) = part(INTERRUPTS, "interrupts")?;
        Ok(Self { common, notify, notify_stride, interrupts })
    }

    /// Resets it: it forgets queues and features.
    pub(crate) fn reset(&self) -> Result<(), String> {
        self.common.store8(STATUS, 0);
        let begun = Instant::now();
        while self.status() != 0 {
            if begun.elapsed() > SOON {
                return Err(format!("it does not come out of its reset: status {:#x}", self.status()));
            }
            std::thread::sleep(MOMENT);
        }
        Ok(())
    }

    /// Agrees on as little as can be (3.1.1), and gives it the receive queue, whose parts have these addresses. It uses them
    /// from [`Transport::start`] on.
    pub(crate) fn set_up(&self, entries: u16, addresses: [u64; 3]) -> Result<(), String> {
        self.common.store8(STATUS, ACKNOWLEDGED);
        self.common.store8(STATUS, ACKNOWLEDGED | DRIVER);
        let offered = self.halves(DEVICE_FEATURES_SELECT, DEVICE_FEATURES);
        if offered & VERSION_1 == 0 {
            return Err(format!("it is no virtio device of version 1: its features are {offered:#x}"));
        }
        let wanted = VERSION_1 | offered & ACCESS_PLATFORM;
        for half in 0..2 {
            self.common.store32(DRIVER_FEATURES_SELECT, half);
            self.common.store32(DRIVER_FEATURES, (wanted >> (32 * half)) as u32);
        }
        self.common.store8(STATUS, ACKNOWLEDGED | DRIVER | FEATURES_OK);
        if self.status() & FEATURES_OK == 0 {
            return Err(format!("it does not agree to the features {wanted:#x} of {offered:#x}"));
        }
        // Nothing of its configuration is read, so that a change of it is nothing to be told of.
        self.common.store16(CONFIGURATION_VECTOR, NO_VECTOR);
        self.common.store16(QUEUE_SELECT, RECEIVE);
        let most = self.common.load16(QUEUE_SIZE);
        if most < entries {
            return Err(format!("its receive queue has at most {most} places, {entries} are needed"));
        }
        self.common.store16(QUEUE_SIZE, entries);
        self.common.store16(QUEUE_VECTOR, VECTOR);
        if self.common.load16(QUEUE_VECTOR) != VECTOR {
            return Err("it has no vector for its receive queue".into());
        }
        for (at, address) in QUEUE_ADDRESSES.into_iter().zip(addresses) {
            self.common.store32(at, address as u32);
            self.common.store32(at + 4, (address >> 32) as u32);
        }
        self.common.store16(QUEUE_ENABLE, 1);
        Ok(())
    }

    /// It may use its queue.
    pub(crate) fn start(&self) {
        self.common.store8(STATUS, ACKNOWLEDGED | DRIVER | FEATURES_OK | DRIVER_OK);
    }

    /// What it was told last, as it remembers.
    pub(crate) fn told(&self) -> Told {
        self.common.store16(QUEUE_SELECT, RECEIVE);
        let address = |at| u64::from(self.common.load32(at)) | u64::from(self.common.load32(at + 4)) << 32;
        Told {
            features: self.halves(DRIVER_FEATURES_SELECT, DRIVER_FEATURES),
            entries: self.common.load16(QUEUE_SIZE),
            vector: self.common.load16(QUEUE_VECTOR),
            on: self.common.load16(QUEUE_ENABLE),
            addresses: QUEUE_ADDRESSES.map(address),
        }
    }

    /// What keeps it from working on; none: nothing.
    pub(crate) fn stopped(&self) -> Option<String> {
        let status = self.status();
        let why = match () {
            () if status == u8::MAX => "its registers do not answer",
            () if status & (NEEDS_RESET | FAILED) != 0 => "it has failed",
            () if status == 0 => "it was reset",
            // What a device does, too, from which bus mastering is taken.
            () if status & DRIVER_OK == 0 => "it was stopped",
            () => return None,
        };
        Some(format!("{why}: status {status:#x}"))
    }

    pub(crate) fn status(&self) -> u8 {
        self.common.load8(STATUS)
    }

    /// There are new buffers.
    pub(crate) fn notify(&self) {
        self.common.store16(QUEUE_SELECT, RECEIVE);
        let place = usize::from(self.common.load16(QUEUE_NOTIFY)) * self.notify_stride;
        self.notify.store16(place, RECEIVE);
    }

    /// It signals its pin no more for what it has signalled so far: reading is what says so (4.1.4.5).
    pub(crate) fn quiet_pin(&self) {
        self.interrupts.load8(0);
    }

    fn halves(&self, select: usize, value: usize) -> u64 {
        let half = |half: u32| {
            self.common.store32(select, half);
            u64::from(self.common.load32(value))
        };
        half(0) | half(1) << 32
    }
}

impl Part {
    fn load8(&self, at: usize) -> u8 {
        self.bar.load8(self.offset.saturating_add(at))
    }

    fn load16(&self, at: usize) -> u16 {
        self.bar.load16(self.offset.saturating_add(at))
    }

    fn load32(&self, at: usize) -> u32 {
        self.bar.load32(self.offset.saturating_add(at))
    }

    fn store8(&self, at: usize, value: u8) {
        self.bar.store8(self.offset.saturating_add(at), value);
    }

    fn store16(&self, at: usize, value: u16) {
        self.bar.store16(self.offset.saturating_add(at), value);
    }

    fn store32(&self, at: usize, value: u32) {
        self.bar.store32(self.offset.saturating_add(at), value);
    }
}

/// Reads a capability at a place of configuration space.
fn place(device: &Device, at: u8) -> Result<Place, String> {
    let word = |offset: u8| match at.checked_add(offset) {
        Some(at) => device.read_config16(at).map_err(|error| chain(&error)),
        None => Ok(0),
    };
    let double = |offset: u8| Ok::<_, String>(u32::from(word(offset)?) | u32::from(word(offset + 2)?) << 16);
    let [_, kind] = word(2)?.to_le_bytes();
    let [bar, _] = word(4)?.to_le_bytes();
    let notify_stride = if kind == NOTIFY { double(16)? } else { 0 };
    Ok(Place { kind, bar, offset: double(8)?, notify_stride })
}
