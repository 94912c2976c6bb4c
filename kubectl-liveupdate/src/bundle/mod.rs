//! `bundle`: what nodes are updated to. Needs no cluster.

pub mod build;
pub mod inspect;
pub mod keygen;
pub mod registry;
pub mod sign;
mod text;
pub mod verify;

use crate::cli::BundleCommand;
use crate::error::Error;
use crate::output;

/// Carries out `bundle`.
///
/// # Errors
/// When a file cannot be read or used, or a bundle is not as it has to be.
pub fn run(command: &BundleCommand) -> Result<(), Error> {
    match command {
        BundleCommand::Inspect(args) => inspect::run(args),
        BundleCommand::Build(args) => output::print(&build::run(args)?),
        BundleCommand::Keygen(args) => output::print(&keygen::run(args)?),
        BundleCommand::Sign(args) => output::print(&sign::run(args)?),
        BundleCommand::Verify(args) => verify::run(args),
        BundleCommand::Push(args) => output::print(&registry::push(args)?),
        BundleCommand::Pull(args) => output::print(&registry::pull(args)?),
    }
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let Some((shift, name)) = UNITS.into_iter().find(|(shift, _)| bytes >> shift > 0) else {
        return format!("{bytes} bytes");
    };
    let tenths = (bytes >> (shift - 10)).saturating_mul(10) >> 10;
    if tenths.is_multiple_of(10) {
        format!("{} {name}", tenths / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}
