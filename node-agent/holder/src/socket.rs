//! The handover socket with real files, and coming back to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use liveupdate_proto::packets::Packets;

use crate::guest::Guest;
use crate::handover::Handover;
use crate::packet::Packet;
use crate::transport::{RunError, Transport, run};

/// Where the keeper listens. A pod mounts its folder, which has nothing else in it.
pub const SOCKET: &str = "/run/liveupdate/holders/holders.sock";

/// Between two tries, at first: a successor waits for its keeper, and every millisecond is blackout.
const SHORT: Duration = Duration::from_millis(2);
/// For so long nobody listens yet: both start with the machine.
const SOON: Duration = Duration::from_secs(10);
/// Later, while nobody listens.
const LISTENS: Duration = Duration::from_millis(50);
/// When it is refused.
const LONG: Duration = Duration::from_millis(500);

/// A connection to the keeper.
#[derive(Debug)]
pub struct Socket(Packets);

impl Socket {
    /// Connects.
    ///
    /// # Errors
    /// No keeper listens there, or this process may not speak to it.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Packets::connect(path).map(Self)
    }
}

/// A connection that somebody else made.
impl From<OwnedFd> for Socket {
    fn from(connection: OwnedFd) -> Self {
        Self(Packets::accepted(connection))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Transport for Socket {
    type File = OwnedFd;

    fn send(&mut self, packet: Packet<OwnedFd>) -> io::Result<()> {
        let files: Vec<_> = packet.files.iter().map(AsFd::as_fd).collect();
        self.0.send(&packet.bytes, &files)
    }

    fn receive(&mut self) -> io::Result<Option<Packet<OwnedFd>>> {
        let packet = self.0.receive()?;
        Ok(packet.map(|packet| Packet { bytes: packet.bytes, files: packet.files }))
    }
}

/// Connects, speaks until the connection ends, and comes back, until `go_on` answers false. It is asked after every try,
/// every few milliseconds while nobody listens ([`RunError::Nobody`]): there is nothing to tell of that.
pub fn stay<G: Guest<File = OwnedFd>>(
    path: &Path,
    handover: &mut Handover<G>,
    mut go_on: impl FnMut(&Result<(), RunError>) -> bool,
) {
    let mut pause = SHORT;
    let mut alone = Instant::now();
    loop {
        let ended = match Socket::connect(path) {
            Ok(mut socket) => run(handover, &mut socket),
            Err(source) => Err(not_connected(path, source)),
        };
        if ended.is_ok() {
            pause = SHORT;
        }
        if !go_on(&ended) {
            return;
        }
        if matches!(ended, Err(RunError::Nobody { .. })) {
            thread::sleep(if alone.elapsed() < SOON { SHORT } else { LISTENS });
            continue;
        }
        thread::sleep(pause);
        pause = LONG.min(pause * 2);
        alone = Instant::now();
    }
}

/// Without a keeper there is no socket, or one that a former keeper left. All else does not go away by waiting.
fn not_connected(path: &Path, source: io::Error) -> RunError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => RunError::Nobody { path },
        _ => RunError::Connect { path, source },
    }
}
