//! mTLS between controller and agents.
//!
//! Trust is a certificate of our own CA whose URI SAN names its owner (SPIFFE form); the address that was
//! dialled proves nothing. Controller and agent share this module, so that both sides check alike:
//! - [`Credentials`] are three files, read again when they change;
//! - [`connect`] dials one identity and refuses any other;
//! - [`incoming`] accepts connections and tells each request who sent it ([`Peer`]).
//!
//! TLS 1.3 alone, ring alone. Sessions are resumed; the peer's identity and the certificate's end are
//! checked again on each resumption.

mod accept;
mod credentials;
mod dial;
mod error;
mod identity;

pub use accept::{AcceptLimits, Peer, TlsConnection, incoming};
pub use credentials::Credentials;
pub use dial::{DialOptions, connect};
pub use error::{Objection, TlsError};
pub use identity::Identity;
