//! The keeper as a process of its own.

use std::env;
use std::error::Error;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use liveupdate_host::linux::machine::{Role, shelter};
use liveupdate_keeper::{Keeper, MachineArguments, serve};
use liveupdate_proto::causes::chain;

/// Keeps what is preserved over a live update, jumps, and gives it back.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    machine: MachineArguments,
    /// Where the agent finds it; the folder must be root's.
    #[arg(long, default_value = "/run/liveupdate/keeper.sock")]
    socket: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("liveupdate-keeper: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Serves until the machine jumps; then this process is over, as all others.
fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(options) = arguments.machine.linux() {
        // Said, and gone on: the gate CustodySafe tells what it means.
        for trouble in shelter(&options.root) {
            eprintln!("liveupdate-keeper: {trouble}");
        }
    }
    let host = arguments.machine.open(Role::Keeper)?;
    let keeper = Arc::new(Keeper::open(host)?);
    let server = serve(keeper, &arguments.socket)?;
    println!("liveupdate-keeper: ready");
    if let Err(error) = tell_ready() {
        eprintln!("liveupdate-keeper: the service manager cannot be told: {error}");
    }
    while server.is_serving() {
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Tells systemd, if it started us, that those who wait for the keeper may go on.
fn tell_ready() -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address).map(drop)
}
