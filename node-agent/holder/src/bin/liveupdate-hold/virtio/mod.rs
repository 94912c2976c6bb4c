//! A virtio NIC of version 1 driven from here, through VFIO: its receive queue alone, kept full.
//!
//! The queue and its buffers are in the memory that is preserved, so that frames go on coming in while no kernel runs.
//! Frames of the lab have a number, so that one that is missing is missed. Section numbers are those of the virtio
//! specification 1.2.

mod counts;
mod driver;
mod frame;
mod layout;
mod nic;
mod queue;
mod state;
mod transport;
mod way;

/// PCI ids of such NICs. Transitional ones have others, and reset on another way.
pub(crate) const VENDOR: u16 = 0x1af4;
pub(crate) const NIC: u16 = 0x1041;

pub(crate) use layout::PAGES;
pub(crate) use nic::Nic;
pub(crate) use state::State;
