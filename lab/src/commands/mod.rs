//! The subcommands of `liveupdate-lab`, one file each.

mod bench_blackout;
mod bench_fleet;
mod demo;
mod demo_vm;
mod tools;
mod up;

use std::io::Write;
use std::path::Path;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Error, Result};

/// A real control plane for the demo, tests and benches.
#[derive(Debug, Parser)]
#[command(name = "liveupdate-lab", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    BenchBlackout(bench_blackout::BenchBlackout),
    BenchFleet(bench_fleet::BenchFleet),
    Demo(demo::Demo),
    DemoVm(demo_vm::DemoVm),
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
            Command::BenchBlackout(bench) => bench.run().await,
            Command::BenchFleet(bench) => bench.run().await,
            Command::Demo(demo) => demo.run().await,
            Command::DemoVm(demo) => demo.run().await,
            Command::Up(up) => up.run().await,
            Command::Tools(tools) => tools.run(),
        }
    }
}

/// Writes to standard output. Unlike `println!` it fails in order when the reader has gone, so that
/// what runs is still taken down.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Error::file("write", Path::new("standard output")))
}

/// Returns when somebody presses Ctrl-C or asks the process to end.
pub(crate) async fn until_asked() -> Result<()> {
    let fail =
        |source| Error::Spawn { name: "the signal handler".into(), program: "liveupdate-lab".into(), source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
