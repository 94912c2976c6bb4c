//! The Live Update Orchestrator: `/dev/liveupdate` and its sessions (`linux/liveupdate.h`).
//!
//! ```text
//!  before the jump:  Orchestrator ─create──► OutgoingSession ─preserve(token, file)…   kept open, then reboot
//!  after it:         Orchestrator ─retrieve► IncomingSession ─retrieve(token)… ─finish
//! ```
//! The kernel ties a session's life to its file: an outgoing one that is closed before the jump gives up
//! all that it preserved, an incoming one that is closed frees what nobody retrieved. Only one process at a
//! time can have the device open; sessions outlive its closing. Sessions cannot be listed: their names and
//! tokens have to be kept elsewhere.

// The ioctls have no safe form: each passes a structure that the kernel reads and writes.
#![allow(unsafe_code, reason = "ioctl(2) on /dev/liveupdate")]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

/// Where the kernel offers it.
pub const DEVICE: &str = "/dev/liveupdate";

const NAME_LENGTH: usize = 64;
const TYPE: u8 = 0xBA;
const CREATE_SESSION: Opcode = opcode::none(TYPE, 0x00);
const RETRIEVE_SESSION: Opcode = opcode::none(TYPE, 0x01);
const PRESERVE_FD: Opcode = opcode::none(TYPE, 0x40);
const RETRIEVE_FD: Opcode = opcode::none(TYPE, 0x41);
const FINISH: Opcode = opcode::none(TYPE, 0x42);
const GET_NAME: Opcode = opcode::none(TYPE, 0x43);

/// What the orchestrator refused.
#[derive(Debug, thiserror::Error)]
pub enum LuoError {
    /// The device cannot be opened.
    #[error("cannot open {path}: {meaning}", path = path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What this errno says of it, and what to do.
        meaning: &'static str,
        /// The kernel's word.
        #[source]
        source: std::io::Error,
    },
    /// A call failed.
    #[error("{call} of {thing} failed: {meaning}")]
    Call {
        /// The ioctl's name in `linux/liveupdate.h`.
        call: &'static str,
        /// The session, and the token where there is one.
        thing: String,
        /// What this errno says of this call.
        meaning: &'static str,
        /// The kernel's word.
        #[source]
        source: std::io::Error,
    },
    /// No session can have this name.
    #[error("{name:?} cannot name a session: 1 to 63 bytes, none of them zero")]
    Name {
        /// As given.
        name: String,
    },
}

impl LuoError {
    /// The errno, for decisions; none for a bad name.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            LuoError::Open { source, .. } | LuoError::Call { source, .. } => Errno::from_io_error(source),
            LuoError::Name { .. } => None,
        }
    }
}

/// A session's name, unique among those that leave and among those that arrived.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(String);

impl SessionName {
    /// # Errors
    /// [`LuoError::Name`] when the kernel could not take it.
    pub fn new(name: impl Into<String>) -> Result<SessionName, LuoError> {
        let name = name.into();
        if name.is_empty() || name.len() >= NAME_LENGTH || name.contains('\0') {
            return Err(LuoError::Name { name });
        }
        Ok(SessionName(name))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn field(&self) -> [u8; NAME_LENGTH] {
        let mut field = [0; NAME_LENGTH];
        // The constructor left room for the final zero.
        for (to, from) in field.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        field
    }
}

/// What a file is known by within its session, on both sides of the jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// The open device. Nobody else can open it until this value goes.
#[derive(Debug)]
pub struct Orchestrator {
    device: File,
}

impl Orchestrator {
    /// Opens the device. The first opening after a jump reads everything that arrived: from then on a
    /// session that holds a file whose driver is not loaded yet is lost until the next reboot.
    ///
    /// # Errors
    /// [`LuoError::Open`].
    pub fn open(path: &Path) -> Result<Orchestrator, LuoError> {
        let device = OpenOptions::new().read(true).write(true).open(path).map_err(|source| {
            let meaning = match Errno::from_io_error(&source) {
                Some(Errno::NOENT) => {
                    "this kernel offers no live update; it needs CONFIG_LIVEUPDATE, kho=on and liveupdate=on"
                }
                Some(Errno::BUSY) => "another process has it open",
                Some(Errno::IO) => {
                    "what arrived could not be read, and stays out of reach until the next reboot; the kernel log says why"
                }
                Some(Errno::ACCESS | Errno::PERM) => "only root may",
                _ => "see the kernel log",
            };
            LuoError::Open { path: path.to_owned(), meaning, source }
        })?;
        Ok(Orchestrator { device })
    }

    /// Begins a session whose files shall go through the next jump.
    ///
    /// # Errors
    /// [`LuoError::Call`]; the name may be taken already.
    pub fn create_session(&self, name: &SessionName) -> Result<OutgoingSession, LuoError> {
        let file = self.session::<CREATE_SESSION>("CREATE_SESSION", name)?;
        Ok(OutgoingSession { file, name: name.clone() })
    }

    /// Takes a session that came through the jump. It can be taken once.
    ///
    /// # Errors
    /// [`LuoError::Call`].
    pub fn retrieve_session(&self, name: &SessionName) -> Result<IncomingSession, LuoError> {
        let file = self.session::<RETRIEVE_SESSION>("RETRIEVE_SESSION", name)?;
        Ok(IncomingSession { file, name: name.clone() })
    }

    fn session<const CODE: Opcode>(
        &self,
        call: &'static str,
        name: &SessionName,
    ) -> Result<OwnedFd, LuoError> {
        let mut session =
            SessionArgument { size: size_of::<SessionArgument>() as u32, fd: -1, name: name.field() };
        // SAFETY: both codes take this structure (`struct liveupdate_ioctl_create_session` and its twin):
        // same fields, same layout, its size in the first one.
        unsafe { control::<CODE, _>(self.device.as_fd(), &mut session) }
            .map_err(|errno| failed(call, format!("session {}", name.as_str()), errno))?;
        // SAFETY: the call succeeded, so the kernel has put a new file into our table under this number,
        // which nobody else knows.
        Ok(unsafe { OwnedFd::from_raw_fd(session.fd) })
    }
}

/// A session that shall go through the next jump. Closing it before gives up what it preserved.
#[derive(Debug)]
pub struct OutgoingSession {
    file: OwnedFd,
    name: SessionName,
}

impl OutgoingSession {
    /// A session's file that was passed by another process or kept by the service manager.
    ///
    /// # Errors
    /// [`LuoError::Call`] when it is no session's file.
    pub fn from_file(file: OwnedFd) -> Result<OutgoingSession, LuoError> {
        let name = name_of(file.as_fd())?;
        Ok(OutgoingSession { file, name })
    }

    /// Its name.
    pub fn name(&self) -> &SessionName {
        &self.name
    }

    /// Takes a file into custody: a memfd, or what a loaded driver can preserve. The memory of a memfd is
    /// pinned, holes are filled, its size is fixed; its contents may still be written until the jump.
    ///
    /// # Errors
    /// [`LuoError::Call`]; nothing of the file is preserved then.
    pub fn preserve(&self, token: Token, file: impl AsFd) -> Result<(), LuoError> {
        let fd = file.as_fd().as_raw_fd();
        let mut argument = FileArgument { size: size_of::<FileArgument>() as u32, fd, token: token.0 };
        // SAFETY: PRESERVE_FD takes this structure (`struct liveupdate_session_preserve_fd`).
        unsafe { control::<PRESERVE_FD, _>(self.file.as_fd(), &mut argument) }
            .map_err(|errno| failed("PRESERVE_FD", self.thing(token), errno))
    }

    fn thing(&self, token: Token) -> String {
        format!("token {} in session {}", token.0, self.name.as_str())
    }
}

impl AsFd for OutgoingSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A session that came through the jump. Closing it ends it, and frees what nobody retrieved.
#[derive(Debug)]
pub struct IncomingSession {
    file: OwnedFd,
    name: SessionName,
}

impl IncomingSession {
    /// A session's file that was passed by another process or kept by the service manager.
    ///
    /// # Errors
    /// [`LuoError::Call`] when it is no session's file.
    pub fn from_file(file: OwnedFd) -> Result<IncomingSession, LuoError> {
        let name = name_of(file.as_fd())?;
        Ok(IncomingSession { file, name })
    }

    /// Its name.
    pub fn name(&self) -> &SessionName {
        &self.name
    }

    /// The file that was preserved under a token. Its memory is charged to the caller's cgroup. May be
    /// called again; a failure stays one.
    ///
    /// # Errors
    /// [`LuoError::Call`].
    pub fn retrieve(&self, token: Token) -> Result<OwnedFd, LuoError> {
        let mut argument = FileArgument { size: size_of::<FileArgument>() as u32, fd: -1, token: token.0 };
        // SAFETY: RETRIEVE_FD takes this structure (`struct liveupdate_session_retrieve_fd`).
        unsafe { control::<RETRIEVE_FD, _>(self.file.as_fd(), &mut argument) }.map_err(|errno| {
            let thing = format!("token {} in session {}", token.0, self.name.as_str());
            failed("RETRIEVE_FD", thing, errno)
        })?;
        // SAFETY: as in `Orchestrator::session`.
        Ok(unsafe { OwnedFd::from_raw_fd(argument.fd) })
    }

    /// Ends custody: retrieved files live on as ordinary ones, others are freed. After an error everything
    /// is as it was.
    ///
    /// # Errors
    /// [`LuoError::Call`]; a driver may refuse until its file is in use again.
    pub fn finish(&self) -> Result<(), LuoError> {
        let mut argument = FinishArgument { size: size_of::<FinishArgument>() as u32, reserved: 0 };
        // SAFETY: FINISH takes this structure (`struct liveupdate_session_finish`).
        unsafe { control::<FINISH, _>(self.file.as_fd(), &mut argument) }
            .map_err(|errno| failed("FINISH", format!("session {}", self.name.as_str()), errno))
    }
}

impl AsFd for IncomingSession {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn name_of(file: BorrowedFd<'_>) -> Result<SessionName, LuoError> {
    let size = size_of::<NameArgument>() as u32;
    let mut argument = NameArgument { size, reserved: 0, name: [0; NAME_LENGTH] };
    // SAFETY: GET_NAME takes this structure (`struct liveupdate_session_get_name`). On a file that is no
    // session, the type byte 0xBA belongs to no other driver, so it answers ENOTTY.
    unsafe { control::<GET_NAME, _>(file, &mut argument) }
        .map_err(|errno| failed("GET_NAME", format!("file {}", file.as_raw_fd()), errno))?;
    let bytes: Vec<u8> = argument.name.iter().copied().take_while(|byte| *byte != 0).collect();
    SessionName::new(String::from_utf8_lossy(&bytes))
}

// The structures of linux/liveupdate.h. `token` is __aligned_u64: at offset 8 without a gap.

#[repr(C)]
struct SessionArgument {
    size: u32,
    fd: i32,
    name: [u8; NAME_LENGTH],
}

#[repr(C)]
struct FileArgument {
    size: u32,
    fd: i32,
    token: u64,
}

#[repr(C)]
struct FinishArgument {
    size: u32,
    reserved: u32,
}

#[repr(C)]
struct NameArgument {
    size: u32,
    reserved: u32,
    name: [u8; NAME_LENGTH],
}

/// # Safety
/// The code must be one that reads and writes at most a `T`.
unsafe fn control<const CODE: Opcode, T>(file: BorrowedFd<'_>, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: the caller's promise; `argument` is a live, exclusive reference for the whole call.
    unsafe { ioctl(file, Updater::<CODE, T>::new(argument)) }
}

fn failed(call: &'static str, thing: String, errno: Errno) -> LuoError {
    LuoError::Call { call, thing, meaning: meaning(call, errno), source: errno.into() }
}

/// What `linux/liveupdate.h` and its implementation say of an errno.
fn meaning(call: &str, errno: Errno) -> &'static str {
    match (call, errno) {
        (_, Errno::NOTTY) => "the file is no live update session, or its kernel does not know this call",
        (_, Errno::TOOBIG) => "the kernel is older than this structure",
        (_, Errno::NOMEM) => "out of memory, or out of what the caller's cgroup may have",
        ("CREATE_SESSION", Errno::EXIST) => "a session of this name exists",
        ("CREATE_SESSION", Errno::INVAL) => "the kernel does not take this name",
        ("RETRIEVE_SESSION", Errno::NOENT) => "no session of this name came through the jump",
        ("RETRIEVE_SESSION", Errno::INVAL) => "the session was retrieved already",
        ("PRESERVE_FD", Errno::EXIST) => "the token is used in this session",
        ("PRESERVE_FD", Errno::NOENT) => "no loaded driver can preserve a file of this kind",
        ("PRESERVE_FD", Errno::BUSY) => {
            "the file is preserved already, or came through a jump and is not finished"
        }
        ("PRESERVE_FD", Errno::BADF) => "there is no such file",
        ("PRESERVE_FD", Errno::INVAL) => {
            "the session came through a jump, or the file cannot be preserved as it is"
        }
        ("PRESERVE_FD", Errno::OPNOTSUPP) => {
            "the file has a property that cannot be preserved, such as an unknown seal"
        }
        ("RETRIEVE_FD", Errno::NOENT) => "nothing was preserved under this token",
        ("RETRIEVE_FD", Errno::INVAL) => "the session has not gone through a jump yet",
        ("FINISH", Errno::BUSY) => "a driver refuses until its file is in use again",
        ("FINISH", Errno::INVAL) => "the session has not gone through a jump yet",
        _ => "see the kernel log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_layouts_are_those_of_the_header() {
        assert_eq!((CREATE_SESSION, RETRIEVE_SESSION), (0xBA00, 0xBA01));
        assert_eq!((PRESERVE_FD, RETRIEVE_FD, FINISH, GET_NAME), (0xBA40, 0xBA41, 0xBA42, 0xBA43));
        assert_eq!((size_of::<SessionArgument>(), size_of::<FileArgument>()), (72, 16));
        assert_eq!((size_of::<FinishArgument>(), size_of::<NameArgument>()), (8, 72));
        assert_eq!(std::mem::offset_of!(FileArgument, token), 8);
    }

    #[test]
    fn names_that_the_kernel_could_not_take_are_refused() {
        for bad in ["", "a\0b", "x".repeat(64).as_str()] {
            assert!(matches!(SessionName::new(bad), Err(LuoError::Name { .. })), "{bad:?}");
        }
        let longest = SessionName::new("x".repeat(63)).unwrap();
        assert_eq!(longest.field()[62..], [b'x', 0]);
    }

    #[test]
    fn a_file_that_is_no_session_is_refused_by_name() {
        let file = OwnedFd::from(File::open("/dev/null").unwrap());
        let error = OutgoingSession::from_file(file).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::NOTTY));
        assert!(error.to_string().contains("GET_NAME"), "{error}");
    }

    #[test]
    fn a_missing_device_says_what_the_kernel_lacks() {
        let error = Orchestrator::open(Path::new("/dev/no-such-orchestrator")).unwrap_err();
        assert!(error.to_string().contains("CONFIG_LIVEUPDATE"), "{error}");
    }
}
