//! mTLS between controller and agents.
//!
//! Trust is a certificate of our own CA whose URI SAN names its owner (SPIFFE form); the address that was
//! dialled proves nothing. Controller and agent share this module, so that both sides check alike:
//! - [`Credentials`] are three files, read again when they change, or held in memory;
//! - [`connect`] dials one identity and refuses any other; [`connect_anonymous`] does so without a certificate
//!   of its own;
//! - [`incoming`] accepts connections and tells each request who sent it ([`Peer`]);
//! - [`RefusedCalls`] writes down each call that is refused.
//!
//! TLS 1.3 alone, ring alone. Sessions are resumed; the peer's identity and the certificate's end are
//! checked again on each resumption.

mod accept;
mod calls;
mod credentials;
mod crowd;
mod dial;
mod error;
mod files;
mod identity;
mod leaf;

pub use accept::{AcceptLimits, Peer, TlsConnection, counted, incoming};
pub use calls::{RefusedCalls, Watched};
pub use credentials::{Credentials, Pems};
pub use dial::{DialOptions, connect, connect_anonymous};
pub use error::{Objection, TlsError};
pub use identity::Identity;
pub use leaf::Leaf;
