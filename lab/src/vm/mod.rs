//! Real kernels on one machine: QEMU guests under software emulation that boot the lab's kernels and jump
//! from one into another.
//!
//! ```text
//!  kernels/build.sh ──► Kernels ─┐
//!  liveupdate-lab-init ► Initrd ─┼─► Guest ── QEMU on a leash (Process)
//!  disks, forwards ──────────────┤     │
//!  rootfs/build.sh ──► installed ┘     │   (systemd as process 1, started from its disk by firmware)
//!             Serial ◄── console, each line stamped by this machine's clock
//!             Control ◄─► liveupdate-lab-init: run programs, power off; one Hello per kernel that comes up
//!             Qmp ──────► reset, power button, what QEMU itself knows
//! ```
//! A guest's own clocks jump over a kexec: times are those of the lines' stamps.

pub mod control;
pub mod debug;
pub mod disk;
pub mod driver;
pub mod guest;
pub mod hold;
pub mod initrd;
pub mod installed;
pub mod kernels;
pub mod kit;
pub mod kube;
mod monitor;
pub mod nic;
pub mod node;
pub mod options;
pub mod passed;
pub mod passthrough;
pub mod phases;
pub mod qmp;
pub mod serial;
pub mod static_binaries;
pub mod updates;
pub mod witness;

use std::time::Duration;

pub use control::{Boot, Control};
pub use guest::Guest;
pub use hold::{Hold, HoldReport};
pub use initrd::Initrd;
pub use kernels::{Kernel, Kernels, Variant};
pub use kit::{Kit, KitBundle, Programs};
pub use kube::KubeNode;
pub use node::{Manager, NodePlace, Product, VmNode};
pub use options::{Firmware, Forward, GuestOptions, Reset};
pub use serial::{Line, Serial};

/// How long anything in a guest is waited for: what takes a second on an idle machine may take a minute on
/// a busy one, and waiting costs nothing when all is well.
pub const PATIENCE: Duration = Duration::from_secs(300);
