//! What the demo shows: its machines, and the two that are not like the others.

mod machines;
mod promised;
mod shell;
mod show;

pub use machines::{TARGET_RELEASE, machines};
pub(crate) use shell::Shell;
pub use show::run;
