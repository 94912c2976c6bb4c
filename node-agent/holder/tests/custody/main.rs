//! Custody and holders together: real processes, sockets and memory; kernels that are replaced in memory.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "helpers of tests are tests")]

mod after;
mod before;
mod claims;
mod devices;
mod machine;
mod messages;
mod orchestrator;
