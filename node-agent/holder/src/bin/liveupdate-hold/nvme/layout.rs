//! What one device has of the memory: pages at fixed places, so that a successor finds them.
//!
//! ```text
//!  page 0 state | 1 admin commands | 2 admin answers | 3 commands | 4 answers | 5 identify | 6.. a page for each command
//! ```

use crate::memory::PAGE;

use super::flight::MOST;

pub(crate) const IDENTIFY: usize = 5;
pub(crate) const DATA: usize = 6;
/// Pages of one device.
pub(crate) const PAGES: usize = DATA + MOST;

/// The queues that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    Admin,
    Io,
}

impl Queue {
    /// Its number at the device.
    pub(crate) fn id(self) -> usize {
        match self {
            Queue::Admin => 0,
            Queue::Io => 1,
        }
    }

    /// The page of its commands; that of its answers follows.
    pub(crate) fn commands(self) -> usize {
        1 + 2 * self.id()
    }

    pub(crate) fn answers(self) -> usize {
        self.commands() + 1
    }
}

/// Where a page begins in the device's memory.
pub(crate) fn at(page: usize) -> usize {
    page * PAGE
}
