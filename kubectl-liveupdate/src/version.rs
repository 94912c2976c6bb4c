//! `version`.

use serde_json::json;

use crate::cli::{SimulateOutput, VersionArgs};
use crate::error::Error;
use crate::output;

/// Prints the version of the plugin and of the API that it speaks.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: &VersionArgs) -> Result<(), Error> {
    let version = env!("CARGO_PKG_VERSION");
    let api = format!("{}/v1alpha1", liveupdate_crds::GROUP);
    let text = match args.output {
        SimulateOutput::Table => format!("kubectl-liveupdate {version} ({api})\n"),
        SimulateOutput::Json => output::json(&json!({"version": version, "api": api}))?,
    };
    output::print(&text)
}
