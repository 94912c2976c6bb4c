//! An NVMe controller driven from here, through VFIO: the smallest driver that a live update can be tried with.
//!
//! One admin queue, one for reads (and writes, where it may), all in the memory that is preserved. A number of commands
//! is on its way all the time, and every answer's data is checked: the disk's blocks hold their own numbers.

mod command;
mod controller;
mod drive;
mod driver;
mod flight;
mod layout;
mod ring;
mod state;
mod way;

/// Base class and subclass of such controllers.
pub(crate) const CLASS: u16 = 0x0108;

pub(crate) use drive::{Drive, Use};
pub(crate) use flight::MOST;
pub(crate) use layout::PAGES;
pub(crate) use state::State;
