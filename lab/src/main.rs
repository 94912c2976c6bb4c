//! The lab's command line.

use std::process::ExitCode;

use clap::Parser;
use liveupdate_lab::commands::Cli;
use liveupdate_proto::causes::chain;
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    // Asking a component that is not up yet is no error here, though it is one to the client library.
    let quiet = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off,liveupdate_agent=error"));
    tracing_subscriber::fmt().with_env_filter(quiet).with_writer(std::io::stderr).init();
    match Cli::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("liveupdate-lab: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}
