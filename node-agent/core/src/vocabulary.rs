//! Words that the whole product shares (docs/concepts.md: words).

use alloc::string::String;
use core::time::Duration;

/// How much of a device's life goes on over an update; ordered, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Continuity {
    /// Same device, same holder; treat it as if it had been reset.
    Reinitialised,
    /// Quiescent while the kernel was replaced; went on from the same state.
    Paused,
    /// DMA never stopped, no reset, interrupts latched again.
    Uninterrupted,
}

impl Continuity {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Reinitialised, Self::Paused, Self::Uninterrupted];

    /// As it is written in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reinitialised => "Reinitialised",
            Self::Paused => "Paused",
            Self::Uninterrupted => "Uninterrupted",
        }
    }
}

/// Result of one gate. Unknown is not a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GateResult {
    /// It was found, with evidence, that it holds.
    Pass,
    /// It was found that it does not.
    Fail,
    /// It could not be found out.
    Unknown,
}

impl GateResult {
    /// As it is written in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "Pass",
            Self::Fail => "Fail",
            Self::Unknown => "Unknown",
        }
    }
}

/// Whole milliseconds of a duration, as records and messages have them; saturates.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A point on the node's monotonic clock (`CLOCK_BOOTTIME`); means nothing on another boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Monotonic(pub Duration);

impl Monotonic {
    /// That many milliseconds after the clock's zero.
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// Milliseconds since the clock's zero; saturates.
    pub fn as_millis(self) -> u64 {
        millis(self.0)
    }

    /// That much later; saturates.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// How long ago `earlier` was; zero when it is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The kernel to update to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// What `uname -r` must say afterwards.
    pub release: String,
    /// Name of the bundle.
    pub bundle: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
}

/// Which cluster speaks, and which leadership of its controller. Comparable within one cluster only, so
/// that it is not `Ord`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// UID of the `kube-system` namespace.
    pub cluster: String,
    /// From 1; raised by compare-and-swap on each takeover.
    pub counter: u64,
}
