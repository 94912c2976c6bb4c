//! Devices work on through a jump: by the moments at which this machine saw QEMU end their commands.
//!
//! ```text
//!  quiesced ─ rest ─ freeze ─ Starting new kernel ══ Linux version … bound again … resumed
//!              └─ the fast one: some ──┘└─ the fast one: some ─┘└─ the slow one: some ─┘
//!  └────────────── the slow one: no hole that its throttle does not explain ─────────┘
//! ```

use std::time::{Duration, SystemTime};

use liveupdate_lab::vm::witness::Sight;

use crate::devices::Seen;
use crate::passthrough::SLOW;

/// How late a command may be ended beside its turn. QEMU ends commands in one thread, which shares two CPUs with the vCPUs of
/// two guests, with the control plane and with whatever else the machine does, and which waits for the vCPU that is at a
/// device's registers; and the console's lines, which are the edges, are stamped by one more thread of the kind.
/// 590 ms were seen, with guests on both CPUs.
const LATE: Duration = Duration::from_millis(800);

/// Between two commands of a disk that does so many a second: its throttle starts the next one when the share of the one before
/// is over.
fn turn(commands_per_second: u32) -> Duration {
    Duration::from_secs(1) / commands_per_second
}

fn within(sight: &Sight, from: SystemTime, to: SystemTime) -> usize {
    sight.completions.iter().filter(|at| from <= **at && **at < to).count()
}

/// The longest time within those moments in which it ended nothing; the edges count as if it had ended something there.
fn longest_hole(sight: &Sight, from: SystemTime, to: SystemTime) -> Duration {
    let ended = sight.completions.iter().copied().filter(|at| from <= *at && *at < to);
    let all: Vec<SystemTime> = std::iter::once(from).chain(ended).chain([to]).collect();
    all.windows(2).filter_map(|pair| pair[1].duration_since(pair[0]).ok()).max().unwrap_or_default()
}

/// Of a disk that has commands on its way all the time.
pub(crate) fn no_hole(sight: &Sight, commands_per_second: u32, from: SystemTime, to: SystemTime) {
    let (hole, most) = (longest_hole(sight, from, to), turn(commands_per_second) + LATE);
    println!("the longest hole: {hole:?} of {most:?}");
    assert!(hole < most, "a hole of {hole:?} between {from:?} and {to:?}: {:?}", sight.completions);
}

/// The slow one of two did something all the time until its holder went on, and the fast one, whose commands are all done
/// before, in each part of the way that is short.
pub(crate) fn never_still(seen: &Seen) {
    let [(_, slow), (_, fast), ..] = seen.devices.as_slice() else { panic!("two devices") };
    let moments = &seen.moments;
    let bound = moments.bound[0].unwrap();
    let parts = [
        ("before the jump", fast, moments.rest, moments.jump),
        ("in the jump", fast, moments.jump, moments.first_line),
        ("in the next kernel", slow, moments.first_line, bound),
    ];
    for (part, sight, from, to) in parts {
        let ended = within(sight, from, to);
        println!("{part}: {ended} commands ended in {:?}", to.duration_since(from));
        assert!(ended > 0, "{part}, from {from:?} to {to:?}: {:?}", sight.completions);
    }
    no_hole(slow, SLOW, moments.quiesced, moments.resumed);
}
