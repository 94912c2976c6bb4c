//! Devices of a test's guest.

use liveupdate_lab::vm::passed::Passthrough;
use liveupdate_lab::vm::passthrough::{Behind, Slot};

/// Commands a second of a disk whose commands last until its device is bound again.
pub(crate) const SLOW: u32 = 5;
/// Commands a second of a disk that does some in each part of a jump that is no longer than a tenth of a second.
pub(crate) const FAST: u32 = 40;

/// A slow controller behind a root port.
pub(crate) fn one() -> Passthrough {
    let devices = vec![Slot { behind: Behind::RootPort, commands_per_second: SLOW }];
    Passthrough { devices, ..Passthrough::default() }
}

/// Two controllers behind such bridges, the first one slow.
pub(crate) fn two(behind: Behind) -> Passthrough {
    let devices = [SLOW, FAST].map(|commands_per_second| Slot { behind, commands_per_second }).to_vec();
    Passthrough { devices, ..Passthrough::default() }
}
