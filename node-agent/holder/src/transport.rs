//! What carries packets, and the loop over it.

use std::io;
use std::path::PathBuf;

use crate::guest::Guest;
use crate::handover::{Handover, HandoverError};
use crate::packet::Packet;

/// Carries whole packets in order, both ways. The limits of [`crate::frame`] are the receiver's buffer.
pub trait Transport {
    /// A file.
    type File;

    /// Sends one packet.
    ///
    /// # Errors
    /// The connection is broken.
    fn send(&mut self, packet: Packet<Self::File>) -> io::Result<()>;
    /// Waits for one packet; none at the end of file.
    ///
    /// # Errors
    /// The connection is broken.
    fn receive(&mut self) -> io::Result<Option<Packet<Self::File>>>;
}

/// Why there is no connection, or why it ended before its end of file.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No keeper listens, not yet or not any more.
    #[error("no keeper listens at {}", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
    },
    /// The keeper's socket cannot be connected to.
    #[error("cannot connect to the keeper at {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The messages went out of order.
    #[error("the handover cannot go on")]
    Handover(#[source] HandoverError),
    /// The connection is broken.
    #[error("the connection to the keeper is broken")]
    Transport(#[source] io::Error),
}

/// Speaks to the keeper until the connection ends. However it ends, a guest that stands still goes on; then
/// the caller connects again.
///
/// # Errors
/// See [`RunError`].
pub fn run<G: Guest, T: Transport<File = G::File>>(
    handover: &mut Handover<G>,
    transport: &mut T,
) -> Result<(), RunError> {
    let result = converse(handover, transport);
    let ended = handover.ended().map_err(RunError::Handover);
    result.and(ended)
}

fn converse<G: Guest, T: Transport<File = G::File>>(
    handover: &mut Handover<G>,
    transport: &mut T,
) -> Result<(), RunError> {
    let mut answers = handover.hello().map_err(RunError::Handover)?;
    loop {
        for packet in answers {
            transport.send(packet).map_err(RunError::Transport)?;
        }
        let Some(packet) = transport.receive().map_err(RunError::Transport)? else { return Ok(()) };
        answers = handover.receive(packet).map_err(RunError::Handover)?;
    }
}
