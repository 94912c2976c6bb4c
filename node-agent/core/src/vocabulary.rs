//! Words that the whole product shares (DESIGN section 2).

use alloc::string::String;

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

/// Which cluster speaks, and which leadership of its controller. Comparable within one cluster only, so
/// that it is not `Ord`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// UID of the `kube-system` namespace.
    pub cluster: String,
    /// From 1; raised by compare-and-swap on each takeover.
    pub counter: u64,
}
