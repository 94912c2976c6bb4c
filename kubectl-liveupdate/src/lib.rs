//! The kubectl plugin: what a person sees of live updates, and what they can do about them.
//!
//! Everything that draws or decides is a pure function of objects and the time ([`render`], [`status`],
//! [`explain`], [`verbs`]); what reads and writes the cluster is thin and apart. [`simulate`] needs no cluster.

pub mod advice;
pub mod bundle;
pub mod cli;
pub mod client;
pub mod complete;
pub mod docs;
pub mod error;
pub mod explain;
pub mod output;
pub mod render;
pub mod simulate;
pub mod status;
pub mod verbs;
pub mod version;

use std::process::ExitCode;

use clap::Parser;
use liveupdate_proto::causes::chain;

use cli::{Cli, Command};
use error::Error;
use output::Terminal;

/// Parses the arguments, does what they say, and tells what went wrong on standard error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help asked for goes to standard output with 0, wrong use to standard error with 2.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {}", chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Error> {
    match &cli.command {
        Command::Simulate(args) => simulate::run(args, Terminal::standard(cli.cluster.color)),
        Command::Bundle(command) => bundle::run(command),
        Command::Version(args) => version::run(args),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(with_cluster(cli))
        }
    }
}

async fn with_cluster(cli: &Cli) -> Result<(), Error> {
    let terminal = Terminal::standard(cli.cluster.color);
    let connect = || client::connect(&cli.cluster);
    let (name, options, request) = match &cli.command {
        Command::Status(args) => return status::run(connect().await?, args, terminal).await,
        Command::Explain(args) => return explain::run(connect().await?, args, terminal).await,
        Command::Complete(args) => return complete::run(&cli.cluster, args).await,
        // Done before, without a cluster.
        Command::Simulate(_) | Command::Bundle(_) | Command::Version(_) => return Ok(()),
        Command::Approve(args) => {
            (&args.name, args.options, verbs::Request::Approve { step: args.step.clone() })
        }
        Command::Abort(args) => (&args.name, args.options, verbs::Request::Abort),
        Command::Pause(args) => (&args.name, args.options, verbs::Request::Pause),
        Command::Resume(args) => (&args.name, args.options, verbs::Request::Resume),
        Command::Retry(args) => (&args.name, args.options, verbs::Request::Retry { node: args.node.clone() }),
        Command::Skip(args) => (&args.name, args.options, verbs::Request::Skip { node: args.node.clone() }),
        Command::AcceptFailure(args) => (&args.name, args.options, verbs::Request::AcceptFailure),
        Command::Release(args) => {
            (&args.name, args.options, verbs::Request::Release { node: args.node.clone() })
        }
    };
    let said = verbs::run(connect().await?, name, &request, options).await?;
    output::print(&said)
}
