//! Facts per device, then one word (DESIGN section 2).

/// What a device really got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Not back with its holder by the end of the attempt.
    Lost,
    /// Same device, same holder; treat it as if it had been reset.
    Reinitialised,
    /// Quiescent over a gap.
    Paused,
    /// Never stopped.
    Uninterrupted,
    /// Never preserved: its holder was stopped.
    Stopped,
    /// Never preserved: nobody held it.
    Untouched,
}
