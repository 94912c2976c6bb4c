//! The keeper: it has custody of what is preserved, makes the jump, proves it, and gives back.
//!
//! Synchronous, without network, and small. The core decides ([`liveupdate_node_core::node`]), the
//! [`liveupdate_host::Host`] does; between them stands the journal: every state is on disk before its
//! effects are carried out.
//!
//! ```text
//! agent ── Request ──► Keeper::handle ── event ──► core ── state ──► journal
//!                           ▲                       │
//!                           └──── event ◄── Host ◄──┘ effects
//! ```
//! The agent speaks to it over a root-only socket ([`serve`], [`Socket`]), or inside one process
//! ([`InProcess`]); both are a [`KeeperClient`].

mod blackout;
mod carry;
mod client;
mod frame;
mod intake;
mod journal;
mod keeper;
pub mod machine;
mod refusal;
mod report;
mod requests;
mod scribe;
mod server;
mod still;

/// The unit that the keeper is shipped with, for a program in `/usr/local/bin`.
pub const UNIT: &str = include_str!("../liveupdate-keeper.service");

pub use client::{ClientError, InProcess, KeeperClient, Socket};
pub use keeper::{Keeper, OpenError};
pub use machine::MachineArguments;
pub use server::{ServeError, Server, serve};
