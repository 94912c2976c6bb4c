//! Devices of a test's guest.

use liveupdate_lab::vm::passed::Passthrough;
use liveupdate_lab::vm::passthrough::{Behind, Slot};

/// Commands a second of a disk whose commands last until its device is bound again.
pub(crate) const SLOW: u32 = 5;
/// Commands a second of a disk that does some in each part of a jump that is no longer than a tenth of a second.
pub(crate) const FAST: u32 = 40;

/// A slow controller behind a root port.
pub(crate) fn one() -> Passthrough {
    of(&[(Behind::RootPort, SLOW)])
}

/// Two controllers behind such bridges, the first one slow.
pub(crate) fn two(behind: Behind) -> Passthrough {
    of(&[(behind, SLOW), (behind, FAST)])
}

/// Three controllers behind root ports, the first one slow.
pub(crate) fn three() -> Passthrough {
    of(&[(Behind::RootPort, SLOW), (Behind::RootPort, FAST), (Behind::RootPort, FAST)])
}

/// A controller that the holder has, and one in the same slot that nobody has.
pub(crate) fn one_beside_a_strangers() -> Passthrough {
    let mut both = of(&[(Behind::RootPort, SLOW), (Behind::SameSlot, SLOW)]);
    both.devices[1].held = false;
    both
}

fn of(all: &[(Behind, u32)]) -> Passthrough {
    let slot = |&(behind, commands_per_second)| Slot { behind, commands_per_second, held: true };
    Passthrough { devices: all.iter().map(slot).collect(), ..Passthrough::default() }
}
