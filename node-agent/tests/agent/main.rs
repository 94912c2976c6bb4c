//! The agent over loopback, with real TLS, a simulated machine and a real keeper in the same process.

// The helpers of tests panic as tests do.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod calls;
mod faults;
mod fixture;
mod identity;
mod install;
mod knock;
mod logs;
mod pki;
mod process;
mod release;
mod run;
mod survive;
