//! The handover client: how a holder (a VMM) speaks to the keeper of its node.
//!
//! [`frame`] puts messages into packets and takes them out, bounded and in sequence; [`Handover`] keeps the
//! order; the VMM says what it can do as a [`Guest`], and brings a [`Transport`].
//!
//! What is here does no I/O of its own: the SEQPACKET socket, passing real files, and the reference holder
//! `liveupdate-hold` come with the keeper's handover server on a real kernel.

pub mod frame;
mod handover;
mod transport;

pub use handover::{Guest, Handover, HandoverError, Progress, Stopped};
pub use transport::{Packet, RunError, Transport, run};
