//! `liveupdate-lab demo`.

use clap::Args;

use crate::{Result, demo};

/// Show a fleet of simulated nodes being updated in canary steps
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Leave everything up until Ctrl-C
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) async fn run(self) -> Result<()> {
        demo::run(self.keep).await
    }
}
