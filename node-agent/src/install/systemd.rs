//! How the host's systemd is spoken with.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The host's systemd.
pub trait Systemd {
    /// Asks it, in the words of `systemctl`, and waits until it is done.
    ///
    /// # Errors
    /// What it said, or why it could not be asked.
    fn ask(&self, arguments: &[&str]) -> Result<(), String>;
}

/// The host, once this process has entered it. From then on all paths are the host's.
#[derive(Debug)]
pub struct Host(());

impl Host {
    /// Enters the host whose files are under a folder. What this process has to read of its own container it must
    /// have read before. A link of the host that begins at its root leads where it does on the host.
    ///
    /// # Errors
    /// There is no such folder, or the process may not (`CAP_SYS_CHROOT`).
    pub fn enter(folder: &Path) -> io::Result<Host> {
        rustix::process::chroot(folder)?;
        std::env::set_current_dir("/")?;
        Ok(Host(()))
    }
}

impl Systemd for Host {
    fn ask(&self, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new("systemctl")
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            // It would do nothing where it sees that its root is not process 1's.
            .env("SYSTEMD_IGNORE_CHROOT", "1")
            .env("SYSTEMD_COLORS", "0")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
    }
}
