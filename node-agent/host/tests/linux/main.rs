//! Reads and gates of a real machine, over trees of files as machines have them: `stock` is a virtual machine
//! whose kernel knows neither kexec nor live update, `luo-guest` one that can be updated.
//!
//! Each gate is shown to pass, to fail and to be unknown, each time by a change of what it reads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy.toml covers only the tests themselves"
)]

mod device_gates;
mod driver_gates;
mod holder_gates;
mod machine;
mod node_gates;
mod readers;
mod target_driver_gates;
mod target_gates;
