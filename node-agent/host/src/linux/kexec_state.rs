//! What stands in the way of a kexec, and whether something is loaded.

use super::root::{ReadError, Root};

/// Where each is read.
pub mod at {
    /// 1 when a kernel is loaded.
    pub const LOADED: &str = "/sys/kernel/kexec_loaded";
    /// 1 when a crash kernel is loaded.
    pub const CRASH_LOADED: &str = "/sys/kernel/kexec_crash_loaded";
    /// Bytes reserved for a crash kernel.
    pub const CRASH_SIZE: &str = "/sys/kernel/kexec_crash_size";
    /// 1: no kernel can be loaded until the next boot.
    pub const DISABLED: &str = "/proc/sys/kernel/kexec_load_disabled";
    /// How many more loads are permitted; -1: any number.
    pub const LIMIT: &str = "/proc/sys/kernel/kexec_load_limit_reboot";
    /// The lockdown mode, in brackets.
    pub const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
    /// Y when only signed modules are loaded.
    pub const MODULES_SIGNED: &str = "/sys/module/module/parameters/sig_enforce";
}

/// The kernel's own restraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lockdown {
    /// None.
    None,
    /// Nobody may change the running kernel: a next one has to be signed.
    Integrity,
    /// Nor read its secrets.
    Confidentiality,
}

/// State of kexec.
#[derive(Clone, Debug)]
pub struct KexecState {
    /// A kernel is loaded.
    pub loaded: Result<bool, ReadError>,
    /// A crash kernel is loaded.
    pub crash_loaded: Result<bool, ReadError>,
    /// Bytes reserved for a crash kernel.
    pub crash_size: Result<u64, ReadError>,
    /// Loading is forbidden until the next boot.
    pub disabled: Result<bool, ReadError>,
    /// Loads still permitted; negative: any number.
    pub limit: Result<i64, ReadError>,
    /// Lockdown; absent where securityfs is not mounted or the kernel has no lockdown.
    pub lockdown: Result<Lockdown, ReadError>,
    /// Only signed modules are loaded.
    pub modules_signed: Result<bool, ReadError>,
}

impl KexecState {
    /// Reads it.
    pub fn read(root: &Root) -> Self {
        Self {
            loaded: root.flag(at::LOADED),
            crash_loaded: root.flag(at::CRASH_LOADED),
            crash_size: root.number(at::CRASH_SIZE),
            disabled: root.flag(at::DISABLED),
            limit: root.number(at::LIMIT),
            lockdown: lockdown(root),
            modules_signed: root.flag(at::MODULES_SIGNED),
        }
    }
}

fn lockdown(root: &Root) -> Result<Lockdown, ReadError> {
    let text = root.line(at::LOCKDOWN)?;
    let chosen = text.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(mode, _)| mode);
    match chosen {
        Some("none") => Ok(Lockdown::None),
        Some("integrity") => Ok(Lockdown::Integrity),
        Some("confidentiality") => Ok(Lockdown::Confidentiality),
        _ => Err(ReadError::malformed(at::LOCKDOWN, &text, "a lockdown mode in brackets")),
    }
}
