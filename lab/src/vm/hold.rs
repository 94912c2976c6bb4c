//! The reference holder in a guest.

/// What `liveupdate-hold` says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldReport {
    /// The counter that it keeps writing into its memory.
    pub counter: u64,
    /// Bytes of its memory that are not the pattern's.
    pub wrong: u64,
    /// It went on from the value at which it stopped.
    pub unbroken: bool,
}
