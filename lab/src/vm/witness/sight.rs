//! What the witness saw of one device between two moments.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::trace::{Event, What};

const COMMAND: u16 = 0x04;
const MEMORY: u32 = 1 << 1;
const MASTER: u32 = 1 << 2;
const INTX_DISABLE: u32 = 1 << 10;
/// Of a bridge.
const BRIDGE_CONTROL: u16 = 0x3e;
const BUS_RESET: u32 = 1 << 6;
/// Message control of MSI-X: where QEMU's NVMe controllers and its virtio NICs have it, and its bits.
const NVME_MSIX_CONTROL: u16 = 0x42;
const NIC_MSIX_CONTROL: u16 = 0xde;
const MSIX_ON: u32 = 1 << 15;
const MSIX_MASKED: u32 = 1 << 14;
const FIRST_BAR: u16 = 0x10;
const LAST_BAR: u16 = 0x24;
/// What a kernel does to a function in any case: it sizes all of its BARs, and tries INTx Disable there and back.
const BARS: usize = 6;
const TOGGLES: usize = 2;

/// Of a virtio device's status: it works.
const DRIVER_OK: u64 = 4;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// A device as the witness knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched<'a> {
    /// `0000:01:00.0`
    pub address: &'a str,
    /// Those on its way, likewise.
    pub bridges: &'a [String],
    /// What it does.
    pub work: Work<'a>,
}

/// What a device does all the time, as it shows in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work<'a> {
    /// Commands for the disk of this name of QEMU's, as an NVMe controller.
    Disk(&'a str),
    /// It receives frames that are all of so many bytes with their headers, as a virtio NIC: its queue is the one into which
    /// nothing else comes.
    Frames(u64),
}

impl Work<'_> {
    fn msix_control(self) -> u16 {
        match self {
            Work::Disk(_) => NVME_MSIX_CONTROL,
            Work::Frames(_) => NIC_MSIX_CONTROL,
        }
    }
}

/// All of it is about the time between the two moments that [`Sight::of`] was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Writes that took bus mastering from the device or from a bridge on its way: when, and whose.
    pub cleared: Vec<(SystemTime, String)>,
    /// Resets of the device, by its function, its bus or its status; and of any NVMe controller by its own register, which
    /// tells no name.
    pub resets: usize,
    /// What the device could not do.
    pub errors: Vec<String>,
    /// Accesses that the IOMMU stopped.
    pub faults: Vec<String>,
    /// When translation was switched off.
    pub translation_off: Vec<SystemTime>,
    /// Times that its memory was not decoded: every kernel does so while it sizes BARs.
    pub decoding_off: usize,
    /// BARs that were sized, by all-ones.
    pub sized: usize,
    /// Changes of INTx Disable.
    pub intx_toggles: usize,
    /// MSI-X, as it was written last: on, and not masked as a whole. None: nobody wrote to it.
    pub signals: Option<bool>,
    /// When commands for its disk were done, or frames written into memory.
    pub completions: Vec<SystemTime>,
    /// Pages that those read or wrote, by the guest's own addresses. Numbers of commands are one controller's: of several
    /// controllers that work at once, each may be shown with pages of the others.
    pub reached: BTreeSet<u64>,
}

impl Sight {
    /// Of one device.
    pub fn of(events: &[Event], device: Watched<'_>, from: SystemTime, to: SystemTime) -> Sight {
        let Watched { address, bridges, work } = device;
        let nic = NicInTrace::find(events, work);
        let mut sight = Sight::default();
        let mut command = None;
        // A reset from outside follows the write that asks for it, and tells no name of its own.
        let mut written = None;
        // What each command reaches that was fetched last under its number: long before it is done, maybe.
        let (mut fetched, mut targets) = (None, BTreeMap::<u16, Vec<u64>>::new());
        for event in events.iter().filter(|event| event.at <= to) {
            let within = event.at >= from;
            if let What::Config { address, .. } = &event.what {
                written = Some(address);
            }
            match &event.what {
                What::Config { address: whose, offset, value } if whose == address => {
                    let before = if *offset == COMMAND { command.replace(*value) } else { None };
                    if within {
                        sight.own_write(event.at, device, *offset, *value, before);
                    }
                }
                What::Config { address: whose, offset, value } if within && bridges.contains(whose) => {
                    match *offset {
                        COMMAND if value & MASTER == 0 => sight.cleared.push((event.at, whose.clone())),
                        BRIDGE_CONTROL if value & BUS_RESET != 0 => sight.resets += 1,
                        _ => {}
                    }
                }
                What::Command { id } => {
                    fetched = Some(*id);
                    targets.insert(*id, Vec::new());
                }
                What::Target { address, length } => {
                    if let Some(pages) = fetched.and_then(|id| targets.get_mut(&id)) {
                        let end = address.saturating_add(*length);
                        pages.extend((address / PAGE..end.div_ceil(PAGE)).map(|page| page * PAGE));
                    }
                }
                _ if !within => {}
                What::NvmeReset => {
                    let own = written.is_none_or(|written| written == address || bridges.contains(written));
                    sight.resets += usize::from(own);
                }
                What::NvmeStopped => sight.resets += 1,
                What::NvmeError(what) => sight.errors.push(what.clone()),
                What::Fault(what) => sight.faults.push(what.clone()),
                What::Translation(false) => sight.translation_off.push(event.at),
                What::Filled { queue, .. } if nic.queue == Some(*queue) => sight.completions.push(event.at),
                What::Status { device, value } if nic.device == Some(*device) && value & DRIVER_OK == 0 => {
                    sight.resets += 1;
                }
                What::Completion { id, disk } if work == Work::Disk(disk) => {
                    sight.completions.push(event.at);
                    sight.reached.extend(targets.get(id).into_iter().flatten());
                }
                _ => {}
            }
        }
        sight
    }

    fn own_write(
        &mut self,
        at: SystemTime,
        device: Watched<'_>,
        offset: u16,
        value: u32,
        before: Option<u32>,
    ) {
        match offset {
            COMMAND => {
                if value & MASTER == 0 {
                    self.cleared.push((at, device.address.to_owned()));
                }
                if value & MEMORY == 0 {
                    self.decoding_off += 1;
                }
                if before.is_some_and(|before| (before ^ value) & INTX_DISABLE != 0) {
                    self.intx_toggles += 1;
                }
            }
            _ if offset == device.work.msix_control() => {
                self.signals = Some(value & (MSIX_ON | MSIX_MASKED) == MSIX_ON);
            }
            FIRST_BAR..=LAST_BAR if value == u32::MAX => self.sized += 1,
            _ => {}
        }
    }

    /// What of a device's outcome and facts, as `NodeLiveUpdate` has them, the witness cannot agree with; empty when it
    /// agrees.
    pub fn contradictions(&self, outcome: &str, facts: &str) -> Vec<String> {
        let mut against = Vec::new();
        let says = |fact: &str| facts.split_whitespace().any(|word| word == fact);
        if says("reset=none") && self.resets > 0 {
            against.push(format!("reset=none, and {} resets were seen", self.resets));
        }
        if says("dma=continuous") && !self.cleared.is_empty() {
            against.push(format!("dma=continuous, and bus mastering was cleared: {:?}", self.cleared));
        }
        if facts.contains("interrupts=relatched(") && self.signals == Some(false) {
            against.push("interrupts=relatched, and MSI-X was left off or masked".to_owned());
        }
        if outcome == "Uninterrupted" {
            if self.resets > 0 || !self.cleared.is_empty() {
                against
                    .push(format!("Uninterrupted with {} resets, cleared {:?}", self.resets, self.cleared));
            }
            if !self.errors.is_empty() || !self.faults.is_empty() {
                against
                    .push(format!("Uninterrupted with errors {:?}, faults {:?}", self.errors, self.faults));
            }
        }
        against
    }

    /// It saw what every kernel does to every device when it comes up, and vectors set up anew: a witness that did not
    /// was looking away.
    pub fn saw_enumeration(&self) -> bool {
        self.sized >= BARS && self.decoding_off > 0 && self.intx_toggles >= TOGGLES && self.signals.is_some()
    }

    /// The longest time without a completion.
    pub fn longest_gap(&self) -> Option<std::time::Duration> {
        self.completions.windows(2).filter_map(|pair| pair[1].duration_since(pair[0]).ok()).max()
    }
}

/// What QEMU calls a NIC.
#[derive(Clone, Copy, Debug, Default)]
struct NicInTrace {
    queue: Option<u64>,
    device: Option<u64>,
}

impl NicInTrace {
    fn find(events: &[Event], work: Work<'_>) -> NicInTrace {
        let Work::Frames(frame) = work else { return NicInTrace::default() };
        let mut only = BTreeMap::<u64, bool>::new();
        for event in events {
            if let What::Filled { queue, length } = event.what {
                *only.entry(queue).or_insert(true) &= length == frame;
            }
        }
        let queue = only.into_iter().find_map(|(queue, only)| only.then_some(queue));
        let device = events.iter().find_map(|event| match event.what {
            What::Notified { device, queue: told } if Some(told) == queue => Some(device),
            _ => None,
        });
        NicInTrace { queue, device }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trace::parse;
    use super::*;
    use std::time::Duration;

    const FACTS: &str = "reset=none dma=continuous interrupts=relatched(40ms) config=same state=probed";

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn sight_of(work: Work<'_>, lines: &[&str]) -> Sight {
        let text: String =
            lines.iter().enumerate().map(|(second, line)| format!("1@{second}.000000:{line}\n")).collect();
        let bridges = ["0000:00:02.0".to_owned()];
        let device = Watched { address: "0000:01:00.0", bridges: &bridges, work };
        Sight::of(&parse(&text), device, at(1), at(100))
    }

    fn sight(lines: &[&str]) -> Sight {
        sight_of(Work::Disk("nvme0"), lines)
    }

    #[test]
    fn enumeration_is_seen_and_contradicts_nothing() {
        let seen = sight(&[
            "pci_cfg_write nvme 01:00.0 @0x4 <- 0x107",
            "pci_cfg_write nvme 01:00.0 @0x4 <- 0x507",
            "pci_cfg_write nvme 01:00.0 @0x4 <- 0x107",
            "pci_cfg_write nvme 01:00.0 @0x4 <- 0x507",
            "pci_cfg_write nvme 01:00.0 @0x4 <- 0x504",
            "pci_cfg_write nvme 01:00.0 @0x10 <- 0xffffffff",
            "pci_cfg_write nvme 01:00.0 @0x14 <- 0xffffffff",
            "pci_cfg_write nvme 01:00.0 @0x18 <- 0xffffffff",
            "pci_cfg_write nvme 01:00.0 @0x1c <- 0xffffffff",
            "pci_cfg_write nvme 01:00.0 @0x20 <- 0xffffffff",
            "pci_cfg_write nvme 01:00.0 @0x24 <- 0xffffffff",
            "pci_cfg_write nvme 01:00.0 @0x4 <- 0x507",
            "pci_cfg_write nvme 01:00.0 @0x42 <- 0x8040",
            "pci_nvme_rw_complete_cb cid 1 blk 'nvme0'",
            "pci_nvme_rw_complete_cb cid 1 blk 'nvme1'",
            "pci_cfg_write pcie-root-port 00:02.0 @0x4 <- 0x507",
        ]);
        assert!(seen.saw_enumeration(), "{seen:?}");
        assert_eq!(seen.completions.len(), 1);
        assert_eq!(seen.contradictions("Uninterrupted", FACTS), Vec::<String>::new());
    }

    #[test]
    fn pages_are_reached_when_the_command_is_done_whenever_it_was_fetched() {
        let seen = sight(&[
            "pci_nvme_io_cmd cid 1 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'",
            "pci_nvme_map_addr addr 0x7000 len 4096",
            "pci_nvme_io_cmd cid 2 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'",
            "pci_nvme_map_addr addr 0x9200 len 4096",
            "pci_nvme_io_cmd cid 3 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'",
            "pci_nvme_map_addr addr 0xb000 len 4096",
            "pci_nvme_rw_complete_cb cid 2 blk 'nvme0'",
            "pci_nvme_rw_complete_cb cid 1 blk 'nvme0'",
        ]);
        assert_eq!(seen.reached, [0x7000, 0x9000, 0xa000].into(), "one is still on its way");
    }

    #[test]
    fn whatever_stops_the_device_contradicts_that_it_was_not_stopped() {
        for line in [
            "pci_cfg_write nvme 01:00.0 @0x4 <- 0x503",
            "pci_cfg_write pcie-root-port 00:02.0 @0x4 <- 0x103",
            "pci_cfg_write pcie-root-port 00:02.0 @0x3e <- 0x42",
            "pci_nvme_pci_reset PCI reset",
            "pci_nvme_mmio_stopped cleared controller enable bit",
            "pci_nvme_err_cfs controller fatal status",
        ] {
            let seen = sight(&["pci_cfg_write nvme 01:00.0 @0x4 <- 0x507", line]);
            assert!(!seen.contradictions("Uninterrupted", FACTS).is_empty(), "{line}");
            let before = sight(&[line, "pci_cfg_write nvme 01:00.0 @0x4 <- 0x507"]);
            assert_eq!(before.contradictions("Uninterrupted", FACTS), Vec::<String>::new());
        }
        let other =
            sight(&["before", "pci_cfg_write nvme 02:00.0 @0x88 <- 0x8000", "pci_nvme_pci_reset FLR"]);
        assert_eq!(other.resets, 0, "another one's: {other:?}");
        let other =
            sight(&["pci_cfg_write edu 00:03.0 @0x4 <- 0x503", "pci_cfg_write edu 00:03.0 @0x4 <- 0x503"]);
        assert!(other.cleared.is_empty(), "{other:?}");
    }

    #[test]
    fn a_nic_is_known_by_its_frames_and_no_reset_of_another_one_is_its_own() {
        let lines = [
            "virtqueue_fill vq 0x11 elem 0x1 len 112 idx 0",
            "virtqueue_fill vq 0x11 elem 0x1 len 66 idx 0",
            "virtio_queue_notify vdev 0x10 n 0 vq 0x11",
            "virtqueue_fill vq 0x21 elem 0x1 len 112 idx 0",
            "virtio_queue_notify vdev 0x20 n 0 vq 0x21",
            "virtqueue_fill vq 0x21 elem 0x1 len 112 idx 1",
            "virtio_set_status vdev 0x10 val 0",
            "virtio_set_status vdev 0x20 val 15",
            "pci_cfg_write virtio-net-pci 01:00.0 @0xde <- 0x8003",
        ];
        let seen = sight_of(Work::Frames(112), &lines);
        assert_eq!((seen.completions.len(), seen.resets, seen.signals), (2, 0, Some(true)), "{seen:#?}");
        for status in ["0", "11"] {
            let reset = format!("virtio_set_status vdev 0x20 val {status}");
            let seen = sight_of(Work::Frames(112), &[lines.as_slice(), &[&reset]].concat());
            assert!(!seen.contradictions("Uninterrupted", FACTS).is_empty(), "{seen:#?}");
        }
    }

    #[test]
    fn vectors_that_were_armed_and_masked_again_contradict_that_interrupts_came_back() {
        let armed =
            ["pci_cfg_write nvme 01:00.0 @0x42 <- 0xc040", "pci_cfg_write nvme 01:00.0 @0x42 <- 0x8040"];
        let seen = sight(&[&["before"], armed.as_slice()].concat());
        assert_eq!(seen.contradictions("Reinitialised", FACTS), Vec::<String>::new());
        let masked =
            [&["before"], armed.as_slice(), &["pci_cfg_write nvme 01:00.0 @0x42 <- 0xc040"]].concat();
        assert_eq!(sight(&masked).contradictions("Reinitialised", FACTS).len(), 1);
    }
}
