//! `liveupdate-lab tools`.

use clap::Args;

use crate::Result;

/// Build what is missing of the control plane's binaries, and print their folder
#[derive(Debug, Args)]
pub(super) struct Tools {}

impl Tools {
    pub(super) fn run(self) -> Result<()> {
        super::say(&format!("{}\n", crate::Tools::find()?.folder().display()))
    }
}
