//! The kernel that watches the driver, and what it is tried with: many devices that do nothing, and the kernel's own tests.
//!
//! ```text
//!  driver/debug-kernel.sh ─► DebugKernel      pcie.0 ── 00:10.0 … 00:12.7 root ports ── 01:00.0 … 18:00.0 nvme
//!  driver/debug-driver.sh ─► module           pcie.0 ── 00:18.0 root port ── eight switches ── nvme
//!                                             pcie.0 ── 00:19.0 root port ── edu, edu
//!  driver/selftests.sh    ─► the kernel's own tests
//!  driver/calls.sh        ─► a program for calls that safe Rust cannot make
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::driver::MODULE;
use super::{GuestOptions, Kernels, Variant};
use crate::{Error, Result};

/// Memory in MiB: an eighth is the watchers', and handover areas are set aside besides.
const MEMORY: u32 = 2048;
/// The first root port's slot, ports in each, and the slot of the one above the switches.
const FIRST_SLOT: usize = 0x10;
const FUNCTIONS: usize = 8;
const DEEP_SLOT: usize = 0x18;
/// That of the one above the device of conventional PCI.
const PLAIN_SLOT: usize = 0x19;
/// Switches below it: seventeen bridges with it, and sixteen can be handed over.
const SWITCHES: usize = 8;

/// The kernel that watches.
#[derive(Clone, Debug)]
pub struct DebugKernel {
    /// What `uname -r` says under it.
    pub release: String,
    /// Its bzImage.
    pub image: PathBuf,
}

impl DebugKernel {
    /// It, built first when it is missing: a quarter of an hour, once.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn find() -> Result<DebugKernel> {
        let folder = crate::built::by("driver/debug-kernel.sh", "the debug kernel")?;
        let path = folder.join("release");
        let release = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        Ok(DebugKernel { release: release.trim().to_owned(), image: folder.join("bzImage") })
    }

    /// A guest that boots it.
    ///
    /// # Errors
    /// When the lab's kernels cannot be found.
    pub fn guest(&self, name: &str, initrd: &Path) -> Result<GuestOptions> {
        let plain = GuestOptions::new(name, &Kernels::find()?.kernel(Variant::Lu1)?, initrd);
        Ok(GuestOptions { kernel: self.image.clone(), memory: MEMORY, ..plain })
    }
}

/// The driver for it.
///
/// # Errors
/// When it cannot be built.
pub fn module() -> Result<PathBuf> {
    Ok(crate::built::by("driver/debug-driver.sh", "the driver for the debug kernel")?.join(MODULE))
}

/// The driver with defects that its parameter `defect` turns on (`driver/defects.patch`).
///
/// # Errors
/// When it cannot be built.
pub fn defective_module() -> Result<PathBuf> {
    let what = "the defective driver for the debug kernel";
    Ok(crate::built::with("driver/debug-driver.sh", &["--defective"], what)?.join(MODULE))
}

/// The folder with the kernel's own tests of live update.
///
/// # Errors
/// When they cannot be built.
pub fn selftests() -> Result<PathBuf> {
    crate::built::by("driver/selftests.sh", "the kernel's own tests")
}

/// The program that calls a device as the trial cannot by itself: with addresses at which nothing is, and the like.
///
/// # Errors
/// When it cannot be built.
pub fn calls() -> Result<PathBuf> {
    Ok(crate::built::by("driver/calls.sh", "the program with the trial's own calls")?.join("calls"))
}

/// Devices of a guest that is to try the driver.
#[derive(Clone, Debug)]
pub struct Idle {
    /// NVMe controllers, each behind a root port of its own.
    pub devices: Vec<String>,
    /// One below more bridges than can be handed over.
    pub deep: Option<String>,
    /// One of conventional PCI, with plain MSI.
    pub plain: Option<String>,
    /// Another such in the same slot: neither can be reset alone.
    pub beside: Option<String>,
    arguments: Vec<OsString>,
}

impl Idle {
    /// So many NVMe controllers, and with others one that is too deep and two of conventional PCI.
    pub fn new(count: usize, with_others: bool) -> Idle {
        let mut arguments: Vec<String> = Vec::new();
        let mut device = |text: String| arguments.extend(["-device".to_owned(), text]);
        for number in 0..count {
            let (slot, function) = (FIRST_SLOT + number / FUNCTIONS, number % FUNCTIONS);
            device(format!(
                "pcie-root-port,id=port{number},bus=pcie.0,addr={slot:#x}.{function},multifunction=on,chassis={number},slot={number}"
            ));
            device(nvme(number, &format!("port{number}")));
        }
        let mut bus = count + 1;
        if with_others {
            device(format!("pcie-root-port,id=deep,bus=pcie.0,addr={DEEP_SLOT:#x},chassis=100,slot=100"));
            let mut above = "deep".to_owned();
            for number in 0..SWITCHES {
                device(format!("x3130-upstream,id=up{number},bus={above}"));
                let chassis = 101 + number;
                device(format!("xio3130-downstream,id=down{number},bus=up{number},chassis={chassis}"));
                above = format!("down{number}");
            }
            device(nvme(count, &above));
            bus += 2 * SWITCHES;
            device(format!("pcie-root-port,id=plain,bus=pcie.0,addr={PLAIN_SLOT:#x},chassis=120,slot=120"));
            device("edu,bus=plain,addr=0.0,multifunction=on".to_owned());
            device("edu,bus=plain,addr=0.1".to_owned());
        }
        let all = count + usize::from(with_others);
        let disks = (0..all).flat_map(|number| {
            ["-blockdev".to_owned(), format!("driver=null-co,node-name=null{number},size=1048576")]
        });
        let arguments = disks.chain(arguments).map(OsString::from).collect();
        let at = |bus: usize| format!("0000:{bus:02x}:00.0");
        let [deep, plain] = [bus, bus + 1].map(|bus| with_others.then(|| at(bus)));
        let beside = plain.as_ref().map(|plain| plain.replace(".0", ".1"));
        Idle { devices: (1..=count).map(at).collect(), deep, plain, beside, arguments }
    }

    /// Gives them to a guest.
    pub fn pass(&self, options: &mut GuestOptions) {
        options.qemu.extend(self.arguments.iter().cloned());
    }
}

fn nvme(number: usize, bus: &str) -> String {
    format!("nvme,serial=idle{number},drive=null{number},bus={bus}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_as_the_guest_will_count_buses() {
        let idle = Idle::new(9, true);
        assert_eq!((idle.devices[0].as_str(), idle.devices[8].as_str()), ("0000:01:00.0", "0000:09:00.0"));
        // Bus 10 is below the root port, and each switch has one between its ports and one below.
        assert_eq!(
            (idle.deep.as_deref(), idle.plain.as_deref()),
            (Some("0000:1a:00.0"), Some("0000:1b:00.0"))
        );
        assert!(idle.arguments.iter().any(|argument| argument.to_string_lossy().contains("addr=0x11.0")));
        assert_eq!(Idle::new(1, false).deep, None);
    }
}
