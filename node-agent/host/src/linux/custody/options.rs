use std::path::PathBuf;

use crate::linux::root::Root;

/// What a [`super::Custodian`] needs to know of its machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub socket: PathBuf,
    /// Where to tell what is known of holders; only root can read it.
    pub published: PathBuf,
    /// The orchestrator's device.
    pub device: PathBuf,
    /// `/proc` and `/sys/fs/cgroup` are read under it.
    pub root: Root,
    /// Of the running kernel.
    pub boot_id: String,
    /// Frequency of the CPU's invariant counter in kHz; none when there is no such counter, or it is measured later.
    pub counter_khz: Option<u64>,
}
