//! The running kernel: what it is, how it was started and built.

use super::boot_parameters::BootParameters;
use super::root::{ReadError, Root};
use crate::image::Config;

/// Where the running kernel shows its configuration, if it was built with it.
pub const CONFIG: &str = "/proc/config.gz";
/// Its command line.
pub const COMMAND_LINE: &str = "/proc/cmdline";

/// The running kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `uname -r`
    pub release: Result<String, ReadError>,
    /// `uname -m`; kernels before 6.1 do not show it in a file.
    pub architecture: Result<String, ReadError>,
    /// Changes with each boot.
    pub boot_id: Result<String, ReadError>,
    /// Its command line.
    pub parameters: Result<BootParameters, ReadError>,
    /// Its configuration, from itself alone: a file in `/boot` proves nothing.
    pub config: Result<Config, ReadError>,
}

impl Kernel {
    /// Reads it.
    pub fn read(root: &Root) -> Self {
        Self {
            release: root.line("/proc/sys/kernel/osrelease"),
            architecture: root.line("/proc/sys/kernel/arch"),
            boot_id: root.line("/proc/sys/kernel/random/boot_id"),
            parameters: root.text(COMMAND_LINE).map(|text| BootParameters::parse(&text)),
            config: config(root),
        }
    }

    /// A switch of the command line; none when it is not given or the command line cannot be read.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.parameters.as_ref().ok()?.switch(name)
    }

    /// A line of its configuration for evidence; none when that cannot be read.
    pub fn config_line(&self, option: &str) -> Option<String> {
        Some(format!("{CONFIG}: {}", self.config.as_ref().ok()?.line(option)))
    }
}

fn config(root: &Root) -> Result<Config, ReadError> {
    let packed = root.bytes(CONFIG, 4 << 20)?;
    Config::from_gzip(&packed).map_err(|why| ReadError::Unreadable {
        path: CONFIG.to_owned(),
        why: format!("cannot be unpacked: {why}"),
    })
}
