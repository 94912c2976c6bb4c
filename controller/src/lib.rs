//! The controller: observes a fleet, asks the planner, and executes. The only writer to the Kubernetes API.
//!
//! All I/O is behind three traits, [`cluster::Cluster`], [`agents::Agents`] and [`clock::Clock`], and all of
//! it happens in one thread: a simulation runs this code as it is, and can stop it at every await.

pub mod admin;
pub mod agents;
pub mod check;
pub mod clock;
pub mod cluster;
pub mod convert;
pub mod engine;
pub mod enrol;
pub mod knock;
pub mod lease;
pub mod metrics;
pub mod pki;
pub mod process;
pub mod rate;
pub mod strangers;
pub mod uninstall;
pub mod world;
