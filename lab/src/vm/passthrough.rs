//! Devices that guests hand to their holders: NVMe controllers behind root ports or a switch, slow enough that commands
//! are on their way while the kernel is replaced.
//!
//! ```text
//!  pcie.0 ── 00:10.0 root port ── 01:00.0 nvme
//!  pcie.0 ── 00:10.0 root port ── 01:00.0 upstream ── 02:00.0 downstream ── 03:00.0 nvme
//!  pcie.0 ── 00:10.0 root port ── 01:00.0 nvme, 01:00.1 nvme of the same slot
//! ```
//! A NIC ([`super::nic`]) comes behind them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Guest;
use super::witness::{Watched, Work};
use crate::{Error, Result};

/// Blocks on each disk.
const BLOCKS: u64 = 32 << 10;
/// Bytes of one.
const BLOCK: u64 = 512;
/// The first root port's slot; nothing else of the lab's machines is there.
pub(super) const FIRST_SLOT: u8 = 0x10;

/// What stands between a device and the root complex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// A root port of its own.
    RootPort,
    /// A switch behind a root port of its own.
    Switch,
    /// What stands before the device that comes before it: one more function of that device.
    SameSlot,
}

/// A controller that a guest is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// What stands between it and the root complex.
    pub behind: Behind,
    /// How many commands its disk does.
    pub commands_per_second: u32,
    /// The holder is told of it; else it is bound to the driver, and nobody's.
    pub held: bool,
}

/// An NVMe controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nvme {
    /// Its address in the guest.
    pub address: String,
    /// Those of the bridges on its way, the root port first.
    pub bridges: Vec<String>,
    /// Its holder is told of it.
    pub held: bool,
    number: usize,
    function: usize,
    /// More functions follow.
    shared: bool,
    behind: Behind,
    /// QEMU's name of its disk.
    disk_name: String,
    disk: PathBuf,
    commands_per_second: u32,
    /// Its bus, as the guest numbers it.
    pub(super) bus: usize,
}

/// The controllers of one guest, numbered by the guest as they are here.
///
/// # Errors
/// When a disk cannot be written.
pub fn controllers(folder: &Path, guest: &str, slots: &[Slot]) -> Result<Vec<Nvme>> {
    let (mut bus, mut bridges, mut function) = (0, Vec::new(), 0);
    let mut all = Vec::new();
    for (number, Slot { behind, commands_per_second, held }) in slots.iter().copied().enumerate() {
        let disk = pattern(&folder.join(format!("{guest}.nvme{number}")))?;
        function = if behind == Behind::SameSlot && number > 0 { function + 1 } else { 0 };
        if function == 0 {
            bus += 1;
            bridges = vec![format!("0000:00:{:02x}.0", usize::from(FIRST_SLOT) + number)];
            if behind == Behind::Switch {
                bridges.extend([bus, bus + 1].map(|bus| format!("0000:{bus:02x}:00.0")));
                bus += 2;
            }
        }
        all.push(Nvme {
            address: format!("0000:{bus:02x}:00.{function}"),
            bridges: bridges.clone(),
            held,
            number,
            function,
            shared: slots.get(number + 1).is_some_and(|next| next.behind == Behind::SameSlot),
            behind,
            disk_name: format!("nvme{number}"),
            disk,
            commands_per_second,
            bus,
        });
    }
    Ok(all)
}

impl Nvme {
    /// Lets its disk take so many commands a second from now on, those that wait already among them; none: as many as it was
    /// given at first.
    ///
    /// # Errors
    /// [`crate::Error::Qmp`].
    pub async fn throttle(&self, guest: &Guest, commands_per_second: Option<u32>) -> Result<()> {
        let rate = commands_per_second.unwrap_or(self.commands_per_second);
        let limits = json!({"device": self.disk_name, "iops": rate, "iops_rd": 0, "iops_wr": 0, "bps": 0, "bps_rd": 0,
            "bps_wr": 0});
        guest.qmp("block_set_io_throttle", limits).await.map(drop)
    }

    /// What QEMU has to be told.
    pub fn arguments(&self) -> Vec<OsString> {
        let Nvme { number, function, disk, disk_name: drive, commands_per_second: rate, .. } = self;
        let slot = usize::from(FIRST_SLOT) + number;
        let disk = disk.to_string_lossy().replace(',', ",,");
        let mut args = vec![(
            "-drive",
            format!("if=none,id={drive},format=raw,file={disk},throttling.iops-total={rate}"),
        )];
        if *function == 0 {
            let root_port = format!(
                "pcie-root-port,id=port{number},bus=pcie.0,addr={slot:#x},chassis={number},slot={number}"
            );
            args.push(("-device", root_port));
        }
        let bus = match self.behind {
            Behind::RootPort | Behind::SameSlot => format!("port{}", number - function),
            Behind::Switch => {
                args.push(("-device", format!("x3130-upstream,id=up{number},bus=port{number}")));
                let chassis = 64 + number;
                args.push((
                    "-device",
                    format!("xio3130-downstream,id=down{number},bus=up{number},chassis={chassis}"),
                ));
                format!("down{number}")
            }
        };
        let several = if self.shared { ",multifunction=on" } else { "" };
        let place = format!("bus={bus},addr=0.{function}{several}");
        args.push(("-device", format!("nvme,serial=lab{number},drive={drive},{place}")));
        args.into_iter().flat_map(|(name, value)| [name.into(), value.into()]).collect()
    }
}

impl<'a> From<&'a Nvme> for Watched<'a> {
    fn from(nvme: &'a Nvme) -> Watched<'a> {
        Watched { address: &nvme.address, bridges: &nvme.bridges, work: Work::Disk(&nvme.disk_name) }
    }
}

/// A disk on which each block says its own number, over and over, so that what is read shows where it came from.
fn pattern(path: &Path) -> Result<PathBuf> {
    let failed = Error::file("write", path);
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for block in 0..BLOCKS {
            for _ in 0..BLOCK / 8 {
                file.write_all(&block.to_le_bytes())?;
            }
        }
        file.flush()
    };
    write().map_err(failed)?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunDir;

    #[test]
    fn addresses_follow_the_order_of_the_bridges_and_blocks_say_their_number() {
        let folder = RunDir::create().unwrap();
        let slots = [Behind::Switch, Behind::RootPort, Behind::SameSlot];
        let slots = slots.map(|behind| Slot { behind, commands_per_second: 20, held: true });
        let all = controllers(folder.path(), "g", &slots).unwrap();
        let seen: Vec<_> = all.iter().map(|nvme| (nvme.address.as_str(), nvme.bridges.join(" "))).collect();
        assert_eq!(
            seen,
            [
                ("0000:03:00.0", "0000:00:10.0 0000:01:00.0 0000:02:00.0".to_owned()),
                ("0000:04:00.0", "0000:00:11.0".to_owned()),
                ("0000:04:00.1", "0000:00:11.0".to_owned()),
            ]
        );
        let devices = |nvme: &Nvme| nvme.arguments().into_iter().filter(|word| word == "-device").count();
        assert_eq!(all.iter().map(devices).collect::<Vec<_>>(), [4, 2, 1], "with their bridges");
        let disk = std::fs::read(folder.path().join("g.nvme1")).unwrap();
        assert_eq!(disk.len() as u64, BLOCKS * BLOCK);
        assert_eq!(&disk[512 * 7..512 * 7 + 16], [7, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
    }
}
