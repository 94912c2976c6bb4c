//! PCI devices in user space: VFIO devices by their own files, iommufd for the memory that they reach, and maps of both.
//!
//! ```text
//!  Map ──► Space ──► Iommufd          Device::open / from_file
//!            ▲                          │ bind(Iommufd) ─► attach(Space) ─► map(BAR0), arm(eventfds)
//!            └──────────────────────────┘
//! ```
//! Groups and type1 containers have no place here: they cannot be handed to another kernel.

mod device;
mod error;
mod interrupts;
mod ioctl;
mod iommufd;
mod map;

pub use device::{BAR0, Device};
pub use error::VfioError;
pub use iommufd::{Iommufd, Space};
pub use map::Map;
