//! kexec: loading the next kernel and jumping into it.
//!
//! Only `kexec_file_load(2)`: what the older `kexec_load(2)` loads knows no handover, and a jump into it
//! loses everything that is preserved.

// kexec_file_load(2) is neither in std nor in rustix.
#![allow(unsafe_code, reason = "syscall(2) for kexec_file_load")]

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_int, c_long, c_ulong};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::RebootCommand;

/// Longest command line that x86 takes, without the final zero.
pub const COMMAND_LINE_LIMIT: usize = 2047;

const UNLOAD: c_ulong = 0x1;
const NO_INITRAMFS: c_ulong = 0x4;

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KexecError {
    /// A call failed.
    #[error("{call} of {thing} failed: {meaning}")]
    Call {
        /// The system call.
        call: &'static str,
        /// On what.
        thing: String,
        /// What this errno says of this call.
        meaning: &'static str,
        /// The kernel's word.
        #[source]
        source: std::io::Error,
    },
    /// No kernel can have this command line.
    #[error("the command line cannot be used: {reason}")]
    CommandLine {
        /// Why.
        reason: String,
    },
    /// The kernel's own account could not be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        #[source]
        source: std::io::Error,
    },
    /// The kernel's own account is not what it should be.
    #[error("{path} holds {text:?}, which is neither 0 nor 1", path = path.display())]
    Account {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

impl KexecError {
    /// The kernel's word, if that is what it is about.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            KexecError::Call { source, .. } | KexecError::Read { source, .. } => Errno::from_io_error(source),
            KexecError::CommandLine { .. } | KexecError::Account { .. } => None,
        }
    }
}

/// A kernel's command line that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine(CString);

impl CommandLine {
    /// # Errors
    /// [`KexecError::CommandLine`] when it is too long or has a zero byte.
    pub fn new(text: &str) -> Result<CommandLine, KexecError> {
        if text.len() > COMMAND_LINE_LIMIT {
            let reason = format!("it has {} bytes, at most {COMMAND_LINE_LIMIT} fit", text.len());
            return Err(KexecError::CommandLine { reason });
        }
        CString::new(text)
            .map(CommandLine)
            .map_err(|_| KexecError::CommandLine { reason: "it has a zero byte".into() })
    }
}

/// Loads a kernel to jump into. What was loaded before is replaced; after an error it is still loaded.
///
/// # Errors
/// [`KexecError::Call`].
pub fn load(
    kernel: impl AsFd,
    initrd: Option<BorrowedFd<'_>>,
    command_line: &CommandLine,
) -> Result<(), KexecError> {
    let flags = if initrd.is_some() { 0 } else { NO_INITRAMFS };
    let initrd = initrd.map_or(-1, |file| file.as_raw_fd());
    file_load(kernel.as_fd().as_raw_fd(), initrd, &command_line.0, flags)
        .map_err(|errno| failed("kexec_file_load", "the next kernel", errno))
}

/// Unloads what is loaded, if anything is.
///
/// # Errors
/// [`KexecError::Call`].
pub fn unload() -> Result<(), KexecError> {
    file_load(-1, -1, c"", UNLOAD).map_err(|errno| failed("kexec_file_load", "nothing (to unload)", errno))
}

/// Whether a kernel is loaded, however it was. `root` is the machine's root folder.
///
/// # Errors
/// [`KexecError::Read`] where the kernel has no kexec, [`KexecError::Account`].
pub fn loaded(root: &Path) -> Result<bool, KexecError> {
    let path = root.join("sys/kernel/kexec_loaded");
    let text =
        std::fs::read_to_string(&path).map_err(|source| KexecError::Read { path: path.clone(), source })?;
    match text.trim_end() {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(KexecError::Account { path, text: other.to_owned() }),
    }
}

/// Jumps into the loaded kernel. All that was not synced, preserved or stopped is gone: the caller has seen
/// to that. Returns only when the kernel refuses, and everything is as it was then.
///
/// # Errors
/// [`KexecError::Call`].
pub fn jump() -> Result<Infallible, KexecError> {
    let errno = match rustix::system::reboot(RebootCommand::Kexec) {
        Err(errno) => errno,
        // The call does not come back with success; whoever sees this has no jump to rely on.
        Ok(()) => Errno::NOTSUP,
    };
    Err(failed("reboot(KEXEC)", "this kernel", errno))
}

fn file_load(kernel: c_int, initrd: c_int, command_line: &CStr, flags: c_ulong) -> Result<(), Errno> {
    // The length that the kernel asks for counts the final zero.
    let length = if flags & UNLOAD == 0 { command_line.count_bytes() as c_ulong + 1 } else { 0 };
    // SAFETY: five arguments as kexec_file_load(2) has them; the kernel reads `length` bytes at the pointer,
    // all within the CStr, which outlives the call, and writes to no memory of ours.
    let result: c_long = unsafe {
        libc::syscall(libc::SYS_kexec_file_load, kernel, initrd, length, command_line.as_ptr(), flags)
    };
    if result == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn failed(call: &'static str, thing: &str, errno: Errno) -> KexecError {
    KexecError::Call { call, thing: thing.to_owned(), meaning: meaning(call, errno), source: errno.into() }
}

/// What kexec_file_load(2), reboot(2) and their implementation say of an errno.
fn meaning(call: &str, errno: Errno) -> &'static str {
    match (call, errno) {
        (_, Errno::PERM) => {
            "not permitted: it needs CAP_SYS_BOOT, kernel.kexec_load_disabled=0 and no lockdown"
        }
        (_, Errno::NOSYS) => "this kernel has no CONFIG_KEXEC_FILE",
        (_, Errno::NOMEM) => "out of memory",
        ("kexec_file_load", Errno::BUSY) => "another load or jump is under way",
        ("kexec_file_load", Errno::NOEXEC) => {
            "the image is no kernel that can be jumped into: it must be a bzImage with CONFIG_RELOCATABLE"
        }
        ("kexec_file_load", Errno::ADDRNOTAVAIL) => {
            "no room: with handover on, kernel and initrd must fit into the scratch area (kho_scratch=)"
        }
        ("kexec_file_load", Errno::KEYREJECTED | Errno::NOKEY | Errno::NODATA | Errno::NOPKG) => {
            "the image has no signature that this kernel trusts"
        }
        ("kexec_file_load", Errno::INVAL) => "the kernel cannot use this image, initrd or command line",
        ("reboot(KEXEC)", Errno::INVAL) => "no kernel is loaded",
        ("reboot(KEXEC)", Errno::BUSY) => "a driver or the orchestrator refused to freeze what is preserved",
        _ => "see the kernel log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_that_do_not_fit_are_refused() {
        assert!(CommandLine::new(&"x".repeat(COMMAND_LINE_LIMIT)).is_ok());
        for bad in ["x".repeat(COMMAND_LINE_LIMIT + 1), "a\0b".into()] {
            assert!(matches!(CommandLine::new(&bad), Err(KexecError::CommandLine { .. })));
        }
    }

    #[test]
    fn what_is_loaded_is_read_under_the_root() {
        let root = std::env::temp_dir().join(format!("liveupdate-kexec-{}", std::process::id()));
        std::fs::create_dir_all(root.join("sys/kernel")).unwrap();
        let mut seen = Vec::new();
        for text in ["0\n", "1\n", "maybe\n"] {
            std::fs::write(root.join("sys/kernel/kexec_loaded"), text).unwrap();
            seen.push(loaded(&root));
        }
        std::fs::remove_dir_all(&root).unwrap();
        assert!(matches!(
            seen.as_slice(),
            [Ok(false), Ok(true), Err(KexecError::Account { text, .. })] if text == "maybe"
        ));
        assert!(matches!(loaded(&root), Err(KexecError::Read { .. })));
    }
}
