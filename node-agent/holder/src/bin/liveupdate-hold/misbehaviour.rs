//! What it does wrong when it is asked to, for tests of what the keeper makes of it.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;

/// One fault. To claim another's name is to be started with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Misbehaviour {
    /// Ends soon after it was preserved.
    DieBeforeQuiesce,
    /// Ends when it is told to stop, without an answer.
    DieInQuiesce,
    /// Stops, says so, and ends soon after.
    DieAfterQuiesce,
    /// Goes on as if it had not been told to stop, and hears nothing more.
    NeverAnswer,
    /// Stops half a second after the deadline.
    AnswerLate,
    /// Stops when two thirds of the deadline are over: no misbehaviour, but time for something else to happen.
    StopSlowly,
    /// Refuses to stop.
    VoteNo,
    /// Refuses to be preserved.
    RefusePreserve,
    /// Is not ready to be preserved for as long as it is to do that wrong.
    NotReady,
    /// Declares a file that it does not hold, tells what the keeper says, and ends.
    DeclareUnheld,
    /// Ends when it has its session, without taking anything out.
    DieWhenGranted,
    /// Ends when it has its memory, before it says that it goes on.
    DieBeforeResumed,
    /// Asks the kernel to reset each device that it is granted.
    ResetDevice,
    /// Resets each device that it is granted by the device's own register, which no kernel can refuse.
    ResetController,
    /// Leaves the interrupts of its second device on when it stops, and says that they are off.
    KeepInterrupts,
    /// Puts its second device to sleep when it stops.
    SleepDevice,
    /// Lets each disk write into memory that it does not declare.
    UndeclaredDma,
    /// Signals no vector after it has armed them.
    ForgetKick,
}

impl Misbehaviour {
    /// What stands in a file; none: there is no such file, or nothing of that kind in it.
    pub(crate) fn told_by(file: &Path) -> Option<Self> {
        Self::from_str(std::fs::read_to_string(file).ok()?.trim(), false).ok()
    }
}

/// What is wrong with the second device when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadStop {
    /// Its interrupts are on.
    Interrupts,
    /// It sleeps.
    Asleep,
}

impl BadStop {
    /// What a fault makes of it; none: nothing is wrong.
    pub(crate) fn of(misbehaviour: Option<Misbehaviour>) -> Option<Self> {
        match misbehaviour? {
            Misbehaviour::KeepInterrupts => Some(Self::Interrupts),
            Misbehaviour::SleepDevice => Some(Self::Asleep),
            _ => None,
        }
    }
}

/// What it ends with.
pub(crate) const STATUS: i32 = 9;

/// Ends, after what was said last has gone out.
pub(crate) fn die_soon() {
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(20));
        std::process::exit(STATUS);
    });
}
