//! The handover client: how a holder (a VMM) speaks to the keeper of its node.
//!
//! [`frame`] puts messages into packets and takes them out, bounded and in sequence; [`Handover`] keeps the
//! order; the VMM says what it can do as a [`Guest`], and brings a [`Transport`].
//!
//! [`Socket`] is the handover socket with real files, and [`stay`] comes back to it whenever the connection ends. The
//! reference holder `liveupdate-hold` is made of these and nothing else.

mod guest;
mod handover;
mod packet;
mod socket;
mod standing;
mod transport;

pub use guest::{Guest, Stopped};
pub use handover::{Handover, HandoverError, Progress};
pub use liveupdate_proto::{frame, handover::v1 as messages};
pub use packet::Packet;
pub use socket::{SOCKET, Socket, stay};
pub use transport::{RunError, Transport, run};
