//! What a guest is made of.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use super::Kernel;

/// The guest's own address in QEMU's user network.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Under this address the guest reaches this machine's loopback address.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// A TCP port of this machine that leads into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Here; a loopback address.
    pub host: SocketAddrV4,
    /// There.
    pub guest_port: u16,
}

/// What happens when the guest resets itself: by a reboot, a triple fault, or after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// QEMU ends. A kexec is no reset.
    Ends,
    /// The machine boots again as it was started, as real ones do.
    BootsAgain,
}

/// UEFI firmware in flash memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Its code.
    pub code: PathBuf,
    /// Its variables: a file of this guest alone, which keeps them when the machine is turned off.
    pub variables: PathBuf,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct GuestOptions {
    /// Its name in errors, and of its files.
    pub name: String,
    /// The bzImage that it boots.
    pub kernel: PathBuf,
    /// The initrd that it boots with.
    pub initrd: PathBuf,
    /// Added to [`command_line`].
    pub append: Vec<String>,
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub processors: u32,
    /// Raw disks, in order: `/dev/vda`, `/dev/vdb` and so on.
    pub disks: Vec<PathBuf>,
    /// Ports of this machine that lead into it.
    pub forwards: Vec<Forward>,
    /// What happens when it resets itself.
    pub reset: Reset,
    /// Boots from its first disk, by this firmware: kernel, initrd and command line above are of no effect then.
    pub firmware: Option<Firmware>,
    /// More arguments for QEMU, as they are: devices, traces.
    pub qemu: Vec<OsString>,
}

impl GuestOptions {
    /// One GiB, two processors, a network card; ends when it resets.
    pub fn new(name: impl Into<String>, kernel: &Kernel, initrd: &Path) -> GuestOptions {
        GuestOptions {
            name: name.into(),
            kernel: kernel.image(),
            initrd: initrd.to_owned(),
            append: Vec::new(),
            memory: 1024,
            processors: 2,
            disks: Vec::new(),
            forwards: Vec::new(),
            reset: Reset::Ends,
            firmware: None,
            qemu: Vec::new(),
        }
    }

    /// The kernel's command line.
    pub fn command_line(&self) -> String {
        [command_line()].into_iter().chain(self.append.iter().cloned()).collect::<Vec<_>>().join(" ")
    }
}

/// What every kernel of the lab is started with, the first one and those that are jumped into: console,
/// live update, handover areas that hold a kernel and an initrd, network. The check of the timer's way to the processor
/// panics where emulation is kept from its processor for a moment; kernels leave it out on hypervisors that they know.
pub fn command_line() -> String {
    format!(
        "console=ttyS0 panic=-1 no_timer_check kho=on liveupdate=on kho_scratch=64M,256M,64M net.ifnames=0 \
         ip={GUEST_ADDRESS}::{HOST_ADDRESS}:255.255.255.0::eth0:off"
    )
}
