//! What a VMM has to be able to do.

use std::time::Duration;

use liveupdate_proto::handover::v1::{Check, Declare, Grant, Resumed, Verdict};

/// What a VMM does when it is asked.
pub trait Guest {
    /// A file as the transport carries it.
    type File;

    /// What it has, and the files in the same order.
    fn declare(&mut self) -> (Declare, Vec<Self::File>);
    /// The keeper takes its files into custody; the guest runs on.
    ///
    /// # Errors
    /// Why not.
    fn preserve(&mut self) -> Result<(), String>;
    /// Stops vCPUs, switches VFIO interrupts off, writes its state.
    ///
    /// # Errors
    /// Why not; then the guest runs on.
    fn quiesce(&mut self, deadline: Duration) -> Result<Stopped, String>;
    /// Goes on, on the same kernel or, after [`Guest::attach`], with its files back. Never called for a guest that runs:
    /// again only after it failed, where the files came back after another `attach`.
    ///
    /// # Errors
    /// Why not; the keeper is told nothing then, and keeps what it has.
    fn resume(&mut self, cause: &str) -> Result<Resumed, String>;
    /// Takes its files out of the session, opens its devices again. Never called for a guest that runs: once it and
    /// [`Guest::resume`] have succeeded, a keeper that asks for this jump again is told the same without it.
    ///
    /// # Errors
    /// Why not; it is asked again, also for what it has taken out already.
    fn attach(&mut self, grant: &Grant, session: Self::File) -> Result<Vec<Check>, String>;
    /// What would happen to it, by the keeper's word.
    fn verdict(&mut self, verdict: &Verdict);
}

/// A guest that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The invariant counter when its first vCPU stopped.
    pub counter: u64,
    /// Its VFIO interrupts are off.
    pub interrupts_off: bool,
    /// Its devices do no DMA.
    pub dma_quiescent: bool,
    /// Bytes of state that it wrote.
    pub state_length: u64,
}
