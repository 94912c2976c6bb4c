use std::path::PathBuf;

use crate::linux::luo;
use crate::linux::root::Root;

/// Where holders find the keeper.
pub const SOCKET: &str = "/run/liveupdate/holders.sock";
/// Where the keeper tells what it knows of them.
pub const PUBLISHED: &str = "/run/liveupdate/holders.json";

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

impl Options {
    /// This machine's usual places.
    pub fn machine(boot_id: String, counter_khz: Option<u64>) -> Self {
        Self {
            socket: SOCKET.into(),
            published: PUBLISHED.into(),
            device: luo::DEVICE.into(),
            root: Root::machine(),
            boot_id,
            counter_khz,
        }
    }
}
