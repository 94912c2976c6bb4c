//! The orchestrator as custody uses it. The machine's is [`Kernel`]; tests bring one of their own, so that the whole
//! handover runs on machines that have none.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::io::Errno;

use crate::linux::luo::{IncomingSession, LuoError, Orchestrator, OutgoingSession, SessionName, Token};

/// Of the session that carries the index; holders' sessions are called after it.
pub const OWN: &str = "liveupdate";
/// The index in it.
pub(super) const INDEX: Token = Token(0);

/// Makes sessions, and finds those that came through the jump.
pub trait Orchestrate: Send + Sync {
    /// Begins a session.
    ///
    /// # Errors
    /// [`LuoError`].
    fn create(&self, name: &SessionName) -> Result<Box<dyn Leaving>, LuoError>;
    /// Takes a session that came through the jump. Each can be taken once.
    ///
    /// # Errors
    /// [`LuoError`].
    fn retrieve(&self, name: &SessionName) -> Result<Box<dyn Arrived>, LuoError>;
    /// A session that came through the jump and whose file somebody kept for us.
    ///
    /// # Errors
    /// [`LuoError`]: it is no session.
    fn kept(&self, file: OwnedFd) -> Result<Box<dyn Arrived>, LuoError>;
    /// What the kernel tells of a file that we have.
    ///
    /// # Errors
    /// It cannot be asked.
    fn told(&self, file: BorrowedFd<'_>) -> io::Result<Told> {
        Told::read(file)
    }
}

/// What the kernel tells of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Where its link leads.
    pub link: String,
    /// Its fdinfo.
    pub info: String,
}

impl Told {
    fn read(file: BorrowedFd<'_>) -> io::Result<Self> {
        let number = file.as_raw_fd();
        let link = fs::read_link(format!("/proc/self/fd/{number}"))?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
        Ok(Self { link: link.to_string_lossy().into_owned(), info })
    }
}

/// A session that shall go through the next jump; dropping it gives back what it preserved.
pub trait Leaving: Send {
    /// Takes a file into custody.
    ///
    /// # Errors
    /// [`LuoError`]; nothing of the file is preserved then.
    fn preserve(&self, token: Token, file: BorrowedFd<'_>) -> Result<(), LuoError>;
}

/// A session that came through the jump; dropping its last file frees what nobody took out.
pub trait Arrived: Send {
    /// Takes a file out. May be called again.
    ///
    /// # Errors
    /// [`LuoError`].
    fn retrieve(&self, token: Token) -> Result<OwnedFd, LuoError>;
    /// Ends custody of what it holds.
    ///
    /// # Errors
    /// [`LuoError`]; everything is as it was.
    fn finish(&self) -> Result<(), LuoError>;
    /// What a successor is given.
    fn file(&self) -> BorrowedFd<'_>;
}

/// The running kernel's. The device is open for the length of one call: nobody else can open it meanwhile.
#[derive(Debug)]
pub struct Kernel {
    device: PathBuf,
}

/// For others, such as the service manager, to be done with the device.
const PATIENCE: Duration = Duration::from_secs(2);

impl Kernel {
    /// By its device's path.
    pub fn at(device: PathBuf) -> Self {
        Self { device }
    }

    fn open(&self) -> Result<Orchestrator, LuoError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Orchestrator::open(&self.device) {
                Err(error) if error.errno() == Some(Errno::BUSY) && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => return opened,
            }
        }
    }
}

impl Orchestrate for Kernel {
    fn create(&self, name: &SessionName) -> Result<Box<dyn Leaving>, LuoError> {
        Ok(Box::new(self.open()?.create_session(name)?))
    }

    fn retrieve(&self, name: &SessionName) -> Result<Box<dyn Arrived>, LuoError> {
        Ok(Box::new(self.open()?.retrieve_session(name)?))
    }

    fn kept(&self, file: OwnedFd) -> Result<Box<dyn Arrived>, LuoError> {
        Ok(Box::new(IncomingSession::from_file(file)?))
    }
}

impl Leaving for OutgoingSession {
    fn preserve(&self, token: Token, file: BorrowedFd<'_>) -> Result<(), LuoError> {
        OutgoingSession::preserve(self, token, file)
    }
}

impl Arrived for IncomingSession {
    fn retrieve(&self, token: Token) -> Result<OwnedFd, LuoError> {
        IncomingSession::retrieve(self, token)
    }

    fn finish(&self) -> Result<(), LuoError> {
        IncomingSession::finish(self)
    }

    fn file(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}
