//! The subcommands of `liveupdate-lab`, one file each.

mod tools;
mod up;

use clap::{Parser, Subcommand};

use crate::Result;

/// A real control plane for the demo, tests and benches.
#[derive(Debug, Parser)]
#[command(name = "liveupdate-lab", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    Tools(tools::Tools),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// Whatever kept it from being done.
    pub async fn run(self) -> Result<()> {
        match self.command {
            Command::Up(up) => up.run().await,
            Command::Tools(tools) => tools.run(),
        }
    }
}
