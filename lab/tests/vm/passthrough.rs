//! Devices of a test's guest.

use std::future::pending;

use liveupdate_lab::vm::GuestOptions;
use liveupdate_lab::vm::passed::Passthrough;
use liveupdate_lab::vm::passthrough::{Behind, Slot};

use crate::bed::{Bed, ENOUGH};

/// Commands a second of a disk whose commands last until its device is bound again.
pub(crate) const SLOW: u32 = 5;
/// Commands a second of a disk that does some in each part of a jump that is no longer than a tenth of a second.
pub(crate) const FAST: u32 = 40;

/// Commands a second when nobody looks at them any more.
const RESTING: u32 = 1000;

/// Throttles its disks as they were at first.
pub(crate) async fn throttle(bed: &Bed) {
    for device in &bed.passed.devices {
        device.throttle(bed.guest(), None).await.unwrap();
    }
}

/// Takes the throttles off once their holder has its memory back: it goes on when all that was on its way is answered, and
/// what the jump has to do with it is over. Never ends.
pub(crate) async fn unthrottled_when_reclaimed(bed: &Bed, mark: usize) {
    let reclaimed = format!("liveupdate-hold: {}: reclaimed ", bed.hold.name);
    bed.guest().serial().wait_for_after(mark, &reclaimed, ENOUGH).await.unwrap();
    for device in &bed.passed.devices {
        device.throttle(bed.guest(), Some(RESTING)).await.unwrap();
    }
    pending::<()>().await;
}

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

/// Of a controller that can have a virtual function, and has none yet; and of that one.
pub(crate) const PHYSICAL: &str = "0000:00:1d.0";
pub(crate) const VIRTUAL: &str = "0000:00:1d.1";

/// Gives a guest that controller, beside those that are passed through.
pub(crate) fn with_virtual_functions(options: &mut GuestOptions) {
    let controller = "nvme,serial=virtual,subsys=virtual,bus=pcie.0,addr=0x1d,\
                      sriov_max_vfs=1,sriov_vq_flexible=2,sriov_vi_flexible=1";
    options.qemu.extend(["-device", "nvme-subsys,id=virtual", "-device", controller].map(Into::into));
}

fn of(all: &[(Behind, u32)]) -> Passthrough {
    let slot = |&(behind, commands_per_second)| Slot { behind, commands_per_second, held: true };
    Passthrough { devices: all.iter().map(slot).collect(), ..Passthrough::default() }
}
