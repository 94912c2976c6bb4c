//! The demo with real kernels: three guests, a LiveUpdate in canary order, three real jumps.

mod run;
mod summary;

pub use run::run;
