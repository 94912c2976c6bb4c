//! What happens on a node, as pure state machines: `(state, event) -> (state, effects)`.
#![no_std]
extern crate alloc;

pub mod outcome;
pub mod vocabulary;

pub use vocabulary::{Continuity, Epoch, GateResult};
