//! Decides what happens next in a fleet: [`plan`] is a pure function of a [`Snapshot`] and the time.
//!
//! No clock, no network, no disk: `#![no_std]`, so that it cannot. Every decision is taken from what was
//! observed, so that a controller which was killed anywhere plans the same again (invariant 6).
#![no_std]
extern crate alloc;

pub mod input;
pub mod output;
pub mod reason;
pub mod time;

pub use input::*;
pub use output::*;
pub use time::Time;
