//! What the demo shows: its machines, and the two that are not like the others.

mod machines;
mod show;

pub use machines::{TARGET_RELEASE, machines};
pub use show::run;
