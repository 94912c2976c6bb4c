//! The node's face: gRPC over mTLS towards the controller; gates, staging and verdicts over a
//! [`liveupdate_host::Host`]; the attempt itself by the keeper ([`liveupdate_keeper::KeeperClient`]).
//!
//! The agent holds no truth that matters. It may be killed at any time: what is in custody is the keeper's,
//! and the agent asks it. Many agents live in one process ([`AgentServer::spawn`]): none has a runtime or a
//! thread of its own.

mod config;
mod decide;
mod enrol;
mod fence;
mod fetch;
mod fetches;
pub mod install;
mod knock;
mod knocker;
mod misbehaviour;
mod node;
mod run;
mod server;
mod service;
mod spread;
mod stage;
mod stages;

pub use config::{AgentConfig, Enrolment, Limits};
#[cfg(feature = "faults")]
pub use misbehaviour::Misbehaviour;
pub use server::{AgentError, AgentHandle, AgentServer, Ending};
