//! How far a run is in its steps, as steps.rs finds it out.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Where a run is in its steps.
#[derive(Default)]
pub(crate) struct Progress {
    /// From 0.
    pub(crate) step: u32,
    pub(crate) of: u32,
    pub(crate) name: String,
    /// Nodes to be updated for the step to pass.
    pub(crate) target: u32,
    /// Nodes that the step still lets start.
    pub(crate) open: u32,
    /// Members to start before others.
    pub(crate) first: Vec<usize>,
    pub(crate) waits: Waits,
    /// Bake times of this step and those after it.
    pub(crate) bakes: Duration,
}

/// What a step waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Nodes.
    #[default]
    Nodes,
    /// More eligible nodes than there are.
    Eligible,
    /// Agents that have not said which devices their nodes hold.
    Models,
    /// Its bake time.
    Bake(Duration),
    /// So many updated nodes that are not Ready: a bake does not end with them.
    Ready(u32),
    /// A person.
    Approval,
    /// Nothing: the last step has passed.
    Nothing,
}
