//! QEMU's own trace, line by line.
//!
//! ```text
//!  4242@1700000000.123456:pci_cfg_write nvme 01:00.0 @0x4 <- 0x507
//!  4242@1700000000.234567:pci_nvme_io_cmd cid 7 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'
//!  4242@1700000000.234568:pci_nvme_map_addr addr 0x1f2e3000 len 4096
//!  4242@1700000000.434567:pci_nvme_rw_complete_cb cid 7 blk 'nvme0'
//!  4242@1700000000.444567:virtqueue_fill vq 0x55d0c8a0 elem 0x55d0d100 len 112 idx 0
//!  4242@1700000000.454567:virtio_queue_notify vdev 0x55d0c000 n 0 vq 0x55d0c8a0
//!  4242@1700000000.464567:virtio_set_status vdev 0x55d0c000 val 15
//! ```
//! Queues and devices of virtio have no names there, but QEMU's own addresses of them.
//! The stamps are this machine's wall clock, as those of a guest's console lines are.

use std::time::{Duration, SystemTime};

/// Events that QEMU is asked for.
pub(super) const EVENTS: [&str; 10] = [
    "pci_cfg_write",
    "pci_nvme_pci_reset",
    "pci_nvme_err_*",
    "pci_nvme_io_cmd",
    "pci_nvme_map_addr",
    "pci_nvme_rw_complete_cb",
    "pci_nvme_mmio_stopped",
    "pci_nvme_mmio_start_success",
    "vtd_dmar_enable",
    "vtd_dmar_fault",
];

/// Further ones, for guests with a NIC that is passed through: there are many of the guest's other devices among them.
pub(super) const VIRTIO_EVENTS: [&str; 3] = ["virtqueue_fill", "virtio_queue_notify", "virtio_set_status"];

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, by this machine's wall clock.
    pub at: SystemTime,
    /// What.
    pub what: What,
}

/// What the machine, or a device of it, saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The guest wrote into a function's configuration space.
    Config {
        /// `0000:01:00.0`; its bus is the one that the guest gave it.
        address: String,
        /// Where.
        offset: u16,
        /// What.
        value: u32,
    },
    /// The NVMe controller was reset from outside: by its function, its bus or its power.
    NvmeReset,
    /// The NVMe controller was switched off by its own register.
    NvmeStopped,
    /// The NVMe controller was switched on.
    NvmeStarted,
    /// The NVMe controller could not do something, or was asked for nonsense.
    NvmeError(String),
    /// A command for a disk was fetched; what it maps follows.
    Command {
        /// As its guest numbers it.
        id: u16,
    },
    /// Memory that the command fetched last reads or writes, by the guest's own address.
    Target {
        /// Where it begins.
        address: u64,
        /// Bytes.
        length: u64,
    },
    /// A command for a disk is done: all that it had to write into memory is there.
    Completion {
        /// Which.
        id: u16,
        /// QEMU's name of the disk.
        disk: String,
    },
    /// A virtio device filled a buffer of a queue.
    Filled {
        /// The queue.
        queue: u64,
        /// Bytes.
        length: u64,
    },
    /// A virtio device was told that there is something in a queue.
    Notified {
        /// The device.
        device: u64,
        /// The queue.
        queue: u64,
    },
    /// A virtio device's status, as somebody sets it; 0 resets it.
    Status {
        /// The device.
        device: u64,
        /// What.
        value: u64,
    },
    /// The IOMMU's translation was switched on or off.
    Translation(bool),
    /// The IOMMU stopped a device's access.
    Fault(String),
}

/// All lines of a trace that tell something of the above. What QEMU says beside its trace is left out.
pub fn parse(text: &str) -> Vec<Event> {
    text.lines().filter_map(event).collect()
}

fn event(line: &str) -> Option<Event> {
    let (stamp, said) = line.split_once('@')?.1.split_once(':')?;
    let (seconds, micros) = stamp.split_once('.')?;
    let since = Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse().ok()?);
    let (name, rest) = said.split_once(' ').unwrap_or((said, ""));
    let what = match name {
        "pci_cfg_write" => config(rest)?,
        "pci_nvme_pci_reset" => What::NvmeReset,
        "pci_nvme_mmio_stopped" => What::NvmeStopped,
        "pci_nvme_mmio_start_success" => What::NvmeStarted,
        "pci_nvme_io_cmd" => What::Command { id: word_after(rest, "cid")?.parse().ok()? },
        "pci_nvme_map_addr" => What::Target {
            address: word_after(rest, "addr").and_then(hex)?,
            length: word_after(rest, "len")?.parse().ok()?,
        },
        "pci_nvme_rw_complete_cb" => What::Completion {
            id: word_after(rest, "cid")?.parse().ok()?,
            disk: word_after(rest, "blk")?.trim_matches('\'').to_owned(),
        },
        "virtqueue_fill" => What::Filled {
            queue: word_after(rest, "vq").and_then(hex)?,
            length: word_after(rest, "len")?.parse().ok()?,
        },
        "virtio_queue_notify" => What::Notified {
            device: word_after(rest, "vdev").and_then(hex)?,
            queue: word_after(rest, "vq").and_then(hex)?,
        },
        "virtio_set_status" => What::Status {
            device: word_after(rest, "vdev").and_then(hex)?,
            value: word_after(rest, "val")?.parse().ok()?,
        },
        "vtd_dmar_enable" => What::Translation(rest.trim_end().ends_with('1')),
        "vtd_dmar_fault" => What::Fault(rest.to_owned()),
        _ if name.starts_with("pci_nvme_err_") => What::NvmeError(said.to_owned()),
        _ => return None,
    };
    Some(Event { at: SystemTime::UNIX_EPOCH + since, what })
}

/// `nvme 01:00.0 @0x4 <- 0x507`
fn config(rest: &str) -> Option<What> {
    let mut words = rest.split_whitespace().rev();
    let value = u32::try_from(hex(words.next()?)?).ok()?;
    let offset = words.nth(1)?.strip_prefix('@').and_then(hex)?;
    let address = format!("0000:{}", words.next()?);
    Some(What::Config { address, offset: u16::try_from(offset).ok()?, value })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

fn word_after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.split_whitespace().skip_while(|found| *found != word).nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_trace_are_read_and_others_left_out() {
        let text = "qemu-system-x86_64: warning: something\n\
            4242@1700000000.000010:pci_cfg_write nvme 01:00.0 @0x4 <- 0x507\n\
            4242@1700000001.000000:pci_nvme_io_cmd cid 7 nsid 0x1 sqid 1 opc 0x2 opname 'NVME_NVM_CMD_READ'\n\
            4242@1700000001.000001:pci_nvme_map_addr addr 0x1_0000 len 4096\n\
            4242@1700000001.000002:pci_nvme_map_addr addr 0x1f2e3000 len 4096\n\
            4242@1700000001.500000:pci_nvme_rw_complete_cb cid 7 blk 'nvme0'\n\
            4242@1700000002.000000:pci_nvme_pci_reset PCI Function Level Reset\n\
            4242@1700000003.000000:vtd_dmar_enable enable 0\n\
            4242@1700000003.000001:pci_nvme_err_addr_write addr 0x0\n\
            4242@1700000004.000000:virtqueue_fill vq 0x7f01 elem 0x55d0 len 112 idx 0\n\
            4242@1700000004.000001:virtio_queue_notify vdev 0x7e00 n 0 vq 0x7f01\n\
            4242@1700000004.000002:virtio_set_status vdev 0x7e00 val 15\n\
            4242@1700000003.000002:pci_cfg_read nvme 01:00.0 @0x4 -> 0x507\n\
            half a li";
        let at = |micros: u64| SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_000 + micros);
        let config = What::Config { address: "0000:01:00.0".into(), offset: 4, value: 0x507 };
        let wanted = [
            (10, config),
            (1_000_000, What::Command { id: 7 }),
            (1_000_002, What::Target { address: 0x1f2e_3000, length: 4096 }),
            (1_500_000, What::Completion { id: 7, disk: "nvme0".into() }),
            (2_000_000, What::NvmeReset),
            (3_000_000, What::Translation(false)),
            (3_000_001, What::NvmeError("pci_nvme_err_addr_write addr 0x0".into())),
            (4_000_000, What::Filled { queue: 0x7f01, length: 112 }),
            (4_000_001, What::Notified { device: 0x7e00, queue: 0x7f01 }),
            (4_000_002, What::Status { device: 0x7e00, value: 15 }),
        ];
        let wanted: Vec<_> =
            wanted.into_iter().map(|(micros, what)| Event { at: at(micros), what }).collect();
        assert_eq!(parse(text), wanted);
    }
}
