//! The keeper as a process of its own.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use liveupdate_host::Host;
use liveupdate_host::simulated::World;
use liveupdate_keeper::{Keeper, serve};

/// Keeps what is preserved over a live update, jumps, and gives it back.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The machine: `simulated:DIR`, a folder with a world.json.
    #[arg(long)]
    host: String,
    /// Where the agent finds it; the folder must be root's.
    #[arg(long)]
    socket: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("liveupdate-keeper: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

/// Serves until the machine jumps; then this process is over, as all others.
fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let host = host(&arguments.host)?;
    let keeper = Arc::new(Keeper::open(host)?);
    let server = serve(keeper, &arguments.socket)?;
    println!("liveupdate-keeper: ready");
    while server.is_serving() {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn host(named: &str) -> Result<Arc<dyn Host>, Box<dyn Error>> {
    match named.split_once(':') {
        Some(("simulated", folder)) if !folder.is_empty() => {
            Ok(Arc::new(World::open(folder.as_ref())?.host()?))
        }
        _ => Err(format!("--host {named}: want simulated:DIR").into()),
    }
}
