//! Everything that changes the machine, behind one trait: tests hand in one that writes down what it was
//! asked, and in which order.

// FIFREEZE and FITHAW have no safe form.
#![allow(unsafe_code, reason = "ioctl(2) to freeze a file system")]

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SendError};
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
    /// Time since this boot. Here because what is called may take it all.
    fn clock(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let part = |part: i64| u64::try_from(part).unwrap_or(0);
        Duration::from_secs(part(now.tv_sec)) + Duration::from_nanos(part(now.tv_nsec))
    }
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
    /// EOPNOTSUPP where it cannot be frozen, EBUSY when it is already, and that it took longer than `limit`: then it is
    /// thawed as soon as it is frozen.
    fn freeze(&self, place: &Path, limit: Duration) -> io::Result<()>;
    /// Undoes [`Calls::freeze`].
    ///
    /// # Errors
    /// EINVAL when it is not frozen, and that it took longer than `limit`.
    fn thaw(&self, place: &Path, limit: Duration) -> io::Result<()>;
    /// Mounts it read-only or writable; the other options stay.
    ///
    /// # Errors
    /// EBUSY while somebody writes, and that it took longer than `limit`: what was to be read-only is made writable again
    /// as soon as it is.
    fn remount(&self, place: &Path, read_only: bool, options: &str, limit: Duration) -> io::Result<()>;
    /// Keeps all memory of this process where it is: it may need some while nothing can be written.
    ///
    /// # Errors
    /// Not permitted, or more than is allowed.
    fn lock_memory(&self) -> io::Result<()>;
    /// Undoes [`Calls::lock_memory`].
    ///
    /// # Errors
    /// What the system says.
    fn unlock_memory(&self) -> io::Result<()>;
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

    fn freeze(&self, place: &Path, limit: Duration) -> io::Result<()> {
        let place = place.to_owned();
        let freeze = move || {
            let folder = File::open(place)?;
            // SAFETY: FIFREEZE takes an int that it does not look at, and writes nothing.
            unsafe { ioctl(&folder, Setter::<FIFREEZE, i32>::new(0)) }?;
            Ok(folder)
        };
        undone_after(&LATE, limit, freeze, |folder| thaw(&folder))
    }

    fn thaw(&self, place: &Path, limit: Duration) -> io::Result<()> {
        let place = place.to_owned();
        within(limit, move || thaw(&File::open(place)?))
    }

    fn remount(&self, place: &Path, read_only: bool, options: &str, limit: Duration) -> io::Result<()> {
        let (place, flags) = (place.to_owned(), kept(options));
        if !read_only {
            return within(limit, move || remount(&place, flags));
        }
        let stop = move || remount(&place, flags | MountFlags::RDONLY).map(|()| place);
        undone_after(&LATE, limit, stop, move |place: PathBuf| remount(&place, flags))
    }

    fn lock_memory(&self) -> io::Result<()> {
        Ok(rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)?)
    }

    fn unlock_memory(&self) -> io::Result<()> {
        Ok(rustix::mm::munlockall()?)
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

fn thaw(folder: &File) -> io::Result<()> {
    // SAFETY: FITHAW takes an int that it does not look at, and writes nothing.
    Ok(unsafe { ioctl(folder, Setter::<FITHAW, i32>::new(0)) }?)
}

fn remount(place: &Path, flags: MountFlags) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(place, flags, c"")?)
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

/// How many calls outlived their limit and are still to be undone. Whoever finds a file system frozen meanwhile would take
/// it for somebody else's (EBUSY), and jump while it goes on.
static LATE: AtomicUsize = AtomicUsize::new(0);

/// A call that may never come back: it is left alone then, in a thread of its own.
pub(super) fn within(
    limit: Duration,
    call: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    hand_over(limit, call, drop, || {})
}

/// The same; what it has done when nobody waits any more is undone by its own thread, since nobody else can: the kernel
/// thaws nothing that is still on its way to be frozen.
fn undone_after<T: Send + 'static>(
    late: &'static AtomicUsize,
    limit: Duration,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
    undo: impl FnOnce(T) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    if late.load(Ordering::SeqCst) > 0 {
        return Err(io::Error::other("what an earlier jump called has not come back yet: wait for it"));
    }
    let left = move |done: io::Result<T>| {
        if let Err(error) = done.and_then(undo) {
            eprintln!(
                "liveupdate: a file system came to rest too late or not at all, and does not go on: {error}"
            );
        }
        late.fetch_sub(1, Ordering::SeqCst);
    };
    hand_over(limit, call, left, || {
        late.fetch_add(1, Ordering::SeqCst);
    })
}

/// What a thread's call comes to; or, when that takes too long, `leave` now and `left` in the thread afterwards.
fn hand_over<T: Send + 'static>(
    limit: Duration,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
    left: impl FnOnce(io::Result<T>) + Send + 'static,
    leave: impl FnOnce(),
) -> io::Result<()> {
    // With room for nothing: what is sent is either received or comes back, also in the moment in which the limit passes.
    let (sender, receiver) = mpsc::sync_channel(0);
    std::thread::Builder::new().name("disk".into()).stack_size(STACK).spawn(move || {
        if let Err(SendError(done)) = sender.send(call()) {
            left(done);
        }
    })?;
    match receiver.recv_timeout(limit) {
        Ok(done) => done.map(drop),
        Err(RecvTimeoutError::Timeout) => {
            leave();
            let why = format!("not done within {:.1} s", limit.as_secs_f64());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("its thread ended without an answer")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    fn until(holds: impl Fn() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < LONG);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_comes_to_rest_too_late_is_undone_and_until_then_nothing_else_is_begun() {
        static LATE: AtomicUsize = AtomicUsize::new(0);
        static UNDONE: AtomicBool = AtomicBool::new(false);
        let undo = |(): ()| {
            UNDONE.store(true, Ordering::SeqCst);
            Ok(())
        };
        undone_after(&LATE, LONG, || Ok(()), undo).unwrap();
        assert!(!UNDONE.load(Ordering::SeqCst) && LATE.load(Ordering::SeqCst) == 0, "it was in time");

        let (go_on, hangs) = mpsc::channel();
        let call = move || {
            let _ = hangs.recv();
            Ok(())
        };
        let late = undone_after(&LATE, SHORT, call, undo).unwrap_err();
        assert_eq!(
            (late.kind(), late.to_string().as_str()),
            (io::ErrorKind::TimedOut, "not done within 0.0 s")
        );
        let refused = undone_after(&LATE, LONG, || Ok(()), |()| Ok(())).unwrap_err();
        assert!(refused.to_string().contains("has not come back yet"), "{refused}");
        assert!(!UNDONE.load(Ordering::SeqCst));
        go_on.send(()).unwrap();
        until(|| LATE.load(Ordering::SeqCst) == 0);
        assert!(UNDONE.load(Ordering::SeqCst));
        undone_after(&LATE, LONG, || Ok(()), |()| Ok(())).unwrap();
    }

    #[test]
    fn what_fails_too_late_is_not_undone_and_what_takes_its_time_is_left_alone() {
        static LATE: AtomicUsize = AtomicUsize::new(0);
        static UNDONE: AtomicBool = AtomicBool::new(false);
        let (go_on, hangs) = mpsc::channel::<()>();
        let call = move || {
            let _ = hangs.recv();
            Err::<(), _>(io::Error::from(io::ErrorKind::Unsupported))
        };
        let undo = |()| {
            UNDONE.store(true, Ordering::SeqCst);
            Ok(())
        };
        undone_after(&LATE, SHORT, call, undo).unwrap_err();
        drop(go_on);
        until(|| LATE.load(Ordering::SeqCst) == 0);
        assert!(!UNDONE.load(Ordering::SeqCst));

        let (_for_ever, hangs) = mpsc::channel::<()>();
        let late = within(SHORT, move || hangs.recv().map_err(io::Error::other)).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        within(LONG, || Ok(())).unwrap();
    }
}
