//! What is asked of every device of this holder, whatever it is.
//!
//! ```text
//!  open ─► go_on ─► turn, turn, … ─► halt ─► stand ══ jump ══► back: relatch ─► settle ─► go_on ─► turn, …
//!                                               └── or no jump: relatch ─► settle ─► go_on ─┘
//! ```

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use liveupdate_holder::messages::Check;

use crate::misbehaviour::BadStop;

/// One device at work.
pub(crate) trait Driver: Debug + Send {
    /// Its PCI address.
    fn address(&self) -> &str;

    /// Another descriptor of its file.
    fn file(&self) -> std::io::Result<OwnedFd>;

    /// One for each of its vectors.
    fn events(&self) -> Arc<[OwnedFd]>;

    /// What it is, for who reads along.
    fn description(&self) -> Vec<String>;

    /// What it has done, and what it has to do yet.
    fn progress(&self) -> (u64, usize);

    /// Nothing is asked of it.
    fn stands(&self) -> bool;

    /// Takes note of what was signalled, so that the next signal wakes again.
    fn signalled(&mut self);

    /// Takes what came, and asks for more. Sentences on what is not as it should be.
    fn turn(&mut self) -> Vec<String>;

    /// How its last return went, once there is enough to tell.
    fn summary(&mut self) -> Option<String>;

    /// Nothing new is asked of it.
    fn halt(&mut self);

    /// No interrupt comes any more. True: the device does no DMA, either, for which it waits where there is a `drains`.
    fn stand(&mut self, drains: Option<Duration>, bad: Option<BadStop>) -> Result<bool, String>;

    /// Interrupts on again, and each vector signalled once. Before that, a look at what came while nobody ran.
    fn relatch(&mut self, faults: Faults, found: &mut Found);

    /// All that was on its way when it stood has come; or it is set up anew.
    fn settle(&mut self, found: &mut Found);

    /// Works again.
    fn go_on(&mut self) -> Vec<String>;
}

/// What a successor does wrong, for tests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Asks the kernel to reset the device.
    pub(crate) resets_device: bool,
    /// Resets the device by its own register.
    pub(crate) resets_controller: bool,
    /// Signals no vector.
    pub(crate) forgets_kick: bool,
}

/// What became of a device, for the keeper and for those who read along.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) checks: Vec<Check>,
    pub(crate) said: Vec<String>,
}

impl Found {
    pub(crate) fn check(&mut self, what: &str, address: &str, passed: bool, detail: impl Into<String>) {
        self.checks.push(Check { name: format!("{what} {address}"), passed, detail: detail.into() });
    }
}
