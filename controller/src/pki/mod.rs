//! Certificates of controller and agents, where the controller makes them itself.

mod options;

pub use options::{IdentityOptions, TlsMode};
