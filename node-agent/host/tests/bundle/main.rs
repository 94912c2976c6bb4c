//! Bundles in folders and under a bundle root, with all that can be wrong with them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy.toml covers only the tests themselves"
)]

mod artifact;
mod boot;
mod folder;
mod gate;
mod kill;
mod make;
mod modules;
mod store;
