//! Certificates of controller and agents, where the controller makes them itself.
//!
//! - `state`: which CAs there are and what is to become of them (pure)
//! - `issue`: making CAs and certificates
//! - `store`: the Secret and the ConfigMap in which they are kept
//! - `keep`: the CAs are kept in order, and sign

mod issue;
mod keep;
mod options;
mod state;
mod store;

pub use issue::{IssueError, requested_key};
pub use keep::{Issued, NotSigned, Signer};
pub use options::{IdentityOptions, TlsMode};
pub use state::Lifetimes;
pub use store::Store;
