//! How the agent reaches the keeper of its node.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use liveupdate_proto::keeper::v1::{Reply, Request, refusal::Cause, reply};

use crate::keeper::Keeper;
use crate::{frame, server};

/// Speaks to a keeper. Synchronous, as the keeper is: call it on a thread that may block. Calls from several
/// threads do not wait for each other.
pub trait KeeperClient: Send + Sync {
    /// Sends one request and waits for its reply. A refusal is a reply, but for a machine that is gone.
    ///
    /// # Errors
    /// Nobody answered, or nothing that makes sense.
    fn ask(&self, request: &Request) -> Result<Reply, ClientError>;
}

/// Why there is no reply. The request may or may not have been carried out: ask for the status.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("the keeper cannot be reached at {}; see whether its unit runs", path.display())]
    Unreachable {
        /// Its socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        why: io::Error,
    },
    /// It answers nonsense, or the socket is not its own.
    #[error("the keeper's answer makes no sense: {why}")]
    Nonsense {
        /// What is wrong with it.
        why: String,
    },
    /// The machine has jumped or is off.
    #[error("the machine is off or has booted again")]
    PoweredOff,
}

/// A keeper in the same process.
#[derive(Clone)]
pub struct InProcess(pub Arc<Keeper>);

impl KeeperClient for InProcess {
    fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        checked(self.0.handle(request))
    }
}

/// A keeper behind its socket.
#[derive(Clone, Debug)]
pub struct Socket {
    path: PathBuf,
    patience: Duration,
}

impl Socket {
    /// A keeper at this path; a reply is waited for at most `patience`, which must be longer than what is
    /// asked for may take.
    pub fn new(path: impl Into<PathBuf>, patience: Duration) -> Self {
        Self { path: path.into(), patience }
    }

    fn exchange(&self, request: &Request) -> io::Result<Option<Reply>> {
        let mut stream = UnixStream::connect(&self.path)?;
        server::check_owner(&stream)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(server::TRANSFER))?;
        frame::write(&mut stream, request)?;
        frame::read(&mut stream)
    }
}

impl KeeperClient for Socket {
    fn ask(&self, request: &Request) -> Result<Reply, ClientError> {
        match self.exchange(request) {
            Ok(Some(reply)) => checked(reply),
            Ok(None) => Err(ClientError::Unreachable {
                path: self.path.clone(),
                why: io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without a reply"),
            }),
            Err(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::PermissionDenied) => {
                Err(ClientError::Nonsense { why: e.to_string() })
            }
            Err(why) => Err(ClientError::Unreachable { path: self.path.clone(), why }),
        }
    }
}

fn checked(reply: Reply) -> Result<Reply, ClientError> {
    match &reply.message {
        None => Err(ClientError::Nonsense { why: "it is empty".into() }),
        Some(reply::Message::Refusal(refusal)) if refusal.cause() == Cause::PoweredOff => {
            Err(ClientError::PoweredOff)
        }
        Some(_) => Ok(reply),
    }
}
