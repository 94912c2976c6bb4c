//! Everything that changes the machine, behind one trait: tests hand in one that writes down what it was
//! asked, and in which order.

// FIFREEZE and FITHAW have no safe form.
#![allow(unsafe_code, reason = "ioctl(2) to freeze a file system")]

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};
use rustix::mm::MlockAllFlags;
use rustix::mount::MountFlags;
use rustix::process::{Pid, Signal};

use crate::linux::kexec::{self, CommandLine, KexecError};

/// How a process is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM.
    Asked,
    /// SIGKILL.
    Forced,
}

/// What `systemctl` said.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// It was content.
    pub well: bool,
    /// Its output.
    pub output: String,
    /// Its complaints.
    pub complaint: String,
}

/// What changes the machine. Paths are where they are to be found, the root folder included.
pub trait Calls: Send + Sync {
    /// kexec_file_load(2).
    ///
    /// # Errors
    /// [`KexecError`]; what was loaded before is still loaded.
    fn load(
        &self,
        kernel: BorrowedFd<'_>,
        initrd: Option<BorrowedFd<'_>>,
        command_line: &CommandLine,
    ) -> Result<(), KexecError>;
    /// Unloads what is loaded.
    ///
    /// # Errors
    /// [`KexecError`].
    fn unload(&self) -> Result<(), KexecError>;
    /// reboot(2) into the loaded kernel; comes back only when it is refused.
    ///
    /// # Errors
    /// [`KexecError`].
    fn reboot(&self) -> Result<Infallible, KexecError>;
    /// sync(2) of everything, also of what is mounted where we cannot see it.
    ///
    /// # Errors
    /// It took longer than `limit`, as a server that is gone does.
    fn sync_all(&self, limit: Duration) -> io::Result<()>;
    /// syncfs(2), which also tells of what could not be written since the last time.
    ///
    /// # Errors
    /// What the file system says, or that it took longer than `limit`.
    fn sync(&self, place: &Path, limit: Duration) -> io::Result<()>;
    /// Lets nobody write there any more, and puts it into a state that needs no repair.
    ///
    /// # Errors
    /// EOPNOTSUPP where it cannot be frozen, EBUSY when it is already.
    fn freeze(&self, place: &Path) -> io::Result<()>;
    /// Undoes [`Calls::freeze`].
    ///
    /// # Errors
    /// EINVAL when it is not frozen.
    fn thaw(&self, place: &Path) -> io::Result<()>;
    /// Mounts it read-only or writable; the other options stay.
    ///
    /// # Errors
    /// EBUSY while somebody writes.
    fn remount(&self, place: &Path, read_only: bool, options: &str) -> io::Result<()>;
    /// Keeps all memory of this process where it is: it may need some while nothing can be written.
    ///
    /// # Errors
    /// Not permitted, or more than is allowed.
    fn lock_memory(&self) -> io::Result<()>;
    /// Asks a process to end.
    ///
    /// # Errors
    /// ESRCH when it has ended.
    fn end(&self, pid: u32, how: Ending) -> io::Result<()>;
    /// Asks systemd.
    ///
    /// # Errors
    /// It could not be asked.
    fn systemctl(&self, arguments: &[&str]) -> io::Result<Said>;
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

const FIFREEZE: Opcode = opcode::read_write::<i32>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<i32>(b'X', 120);

impl Calls for Kernel {
    fn load(
        &self,
        kernel: BorrowedFd<'_>,
        initrd: Option<BorrowedFd<'_>>,
        command_line: &CommandLine,
    ) -> Result<(), KexecError> {
        kexec::load(kernel, initrd, command_line)
    }

    fn unload(&self) -> Result<(), KexecError> {
        kexec::unload()
    }

    fn reboot(&self) -> Result<Infallible, KexecError> {
        kexec::jump()
    }

    fn sync_all(&self, limit: Duration) -> io::Result<()> {
        within(limit, || {
            rustix::fs::sync();
            Ok(())
        })
    }

    fn sync(&self, place: &Path, limit: Duration) -> io::Result<()> {
        let place = place.to_owned();
        within(limit, move || Ok(rustix::fs::syncfs(File::open(place)?)?))
    }

    fn freeze(&self, place: &Path) -> io::Result<()> {
        let folder = File::open(place)?;
        // SAFETY: FIFREEZE takes an int that it does not look at, and writes nothing.
        Ok(unsafe { ioctl(folder, Setter::<FIFREEZE, i32>::new(0)) }?)
    }

    fn thaw(&self, place: &Path) -> io::Result<()> {
        let folder = File::open(place)?;
        // SAFETY: as FIFREEZE.
        Ok(unsafe { ioctl(folder, Setter::<FITHAW, i32>::new(0)) }?)
    }

    fn remount(&self, place: &Path, read_only: bool, options: &str) -> io::Result<()> {
        let mut flags = kept(options);
        flags.set(MountFlags::RDONLY, read_only);
        Ok(rustix::mount::mount_remount(place, flags, c"")?)
    }

    fn lock_memory(&self) -> io::Result<()> {
        Ok(rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
    }

    fn end(&self, pid: u32, how: Ending) -> io::Result<()> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let signal = match how {
            Ending::Asked => Signal::TERM,
            Ending::Forced => Signal::KILL,
        };
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    fn systemctl(&self, arguments: &[&str]) -> io::Result<Said> {
        let output = Command::new("systemctl").args(arguments).env("SYSTEMD_COLORS", "0").output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Ok(Said {
            well: output.status.success(),
            output: text(&output.stdout),
            complaint: text(&output.stderr),
        })
    }
}

/// Options of a mount that a remount would drop unless they are given again.
fn kept(options: &str) -> MountFlags {
    let flags = options.split(',').map(|option| match option {
        "nosuid" => MountFlags::NOSUID,
        "nodev" => MountFlags::NODEV,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        "sync" => MountFlags::SYNCHRONOUS,
        _ => MountFlags::empty(),
    });
    flags.collect()
}

/// For a thread that makes one call: it is locked in memory, too.
const STACK: usize = 64 << 10;

/// A call that may never come back: it is left alone then, in a thread of its own.
fn within(limit: Duration, call: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("sync".into()).stack_size(STACK).spawn(move || {
        // Nobody waits any more when the limit has passed.
        let _ = sender.send(call());
    })?;
    receiver.recv_timeout(limit).unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("not done within {} s", limit.as_secs())))
    })
}
