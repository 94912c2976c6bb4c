//! The lab's command line.

use std::process::ExitCode;

use clap::Parser;
use liveupdate_lab::commands::Cli;
use liveupdate_lab::error::chain;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn")))
        .with_writer(std::io::stderr)
        .init();
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("liveupdate-lab: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
