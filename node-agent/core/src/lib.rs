//! What happens on a node, as pure state machines: `(state, event) -> (state, effects)`.
//!
//! - [`outcome`]: facts per device, then one word; [`outcomes`] gives each device exactly one.
//! - [`evidence`]: what driver and holder saw of a device, and the facts that follow.
//! - [`gate`]: the questions about support, which are required, and what they permit.
//! - [`verdict`]: what would happen to each device, and which voice decided.
//! - [`node`]: a node's way through an attempt; the point of no return is a type.
//! - [`holder`] and [`custody`]: the handover, and what is kept for whom.
//! - [`fence`]: who may speak, and which attempts have run.
//!
//! No clock, no network, no disk: `#![no_std]`, so that it cannot.
#![no_std]
extern crate alloc;

pub mod codec;
pub mod custody;
pub mod evidence;
pub mod facts_text;
pub mod fence;
pub mod gate;
pub mod holder;
pub mod node;
pub mod outcome;
pub mod outcomes;
pub mod verdict;
pub mod vocabulary;

pub use vocabulary::{Continuity, Epoch, GateResult, Monotonic, Target};
