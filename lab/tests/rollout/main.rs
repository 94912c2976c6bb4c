//! Whole rollouts that do not go well: what nodes, agents, certificates, gates and people can do to a run, and
//! what becomes of it when controllers and API server die, on a real control plane with simulated nodes. Each
//! shows that the run ends as it should, and that the reason can be read with plain `kubectl get` and
//! `kubectl describe`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

mod api_server;
mod bad_agents;
mod bed;
mod crash_deletion;
mod crash_matrix;
mod credentials;
mod deleted;
mod devices;
mod gates;
mod health;
mod kernels;
mod kill;
mod leadership;
mod looks;
#[path = "../masks/mod.rs"]
mod masks;
mod node_faults;
mod reborn;
mod registry;
mod stops;
mod two_updates;
mod unavailable;
mod verbs;
mod writers;
