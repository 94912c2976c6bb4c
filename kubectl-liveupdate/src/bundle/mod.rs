//! `bundle`: what nodes are updated to. Needs no cluster.

pub mod inspect;

use crate::cli::BundleCommand;
use crate::error::Error;

/// Carries out `bundle`.
///
/// # Errors
/// When a file cannot be read or used.
pub fn run(command: &BundleCommand) -> Result<(), Error> {
    match command {
        BundleCommand::Inspect(args) => inspect::run(args),
    }
}
