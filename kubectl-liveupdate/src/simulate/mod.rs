//! `simulate`: one run of planner and node core against an imagined fleet, without any cluster.

use crate::cli::SimulateArgs;
use crate::error::Error;
use crate::output::Terminal;

/// Carries out `simulate`.
///
/// # Errors
/// When the manifest cannot be used.
pub fn run(_args: &SimulateArgs, _terminal: Terminal) -> Result<(), Error> {
    Err(Error::Usage("not built in".to_owned()))
}
