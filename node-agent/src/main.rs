//! The agent as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use liveupdate_agent::install::{self, Done, Wanted};
use liveupdate_agent::{AgentConfig, AgentServer, Ending};
use liveupdate_host::linux::machine::Role;
use liveupdate_host::linux::root::Root;
use liveupdate_keeper::{MachineArguments, Socket};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Longer than anything that the keeper is asked for may take: memory is preserved at seconds per GiB.
const KEEPER_PATIENCE: Duration = Duration::from_mins(30);

/// For the keeper that runs to say whether it is idle.
const STATUS_PATIENCE: Duration = Duration::from_secs(30);

/// First word of a command line that is not the agent's own.
const INSTALL_KEEPER: &str = "install-keeper";

/// Puts the keeper on the host, as a unit of its systemd, and starts it. One of ours that is there already is replaced
/// when it is idle.
#[derive(Debug, Parser)]
#[command(name = "liveupdate-agent install-keeper", version, about)]
struct InstallKeeper {
    /// Folder with the host's files.
    #[arg(long, default_value = "/host")]
    host: PathBuf,
    /// The keeper's program.
    #[arg(long, default_value = "/liveupdate-keeper")]
    program: PathBuf,
    /// The keeper's socket, on the host.
    #[arg(long, default_value = "/run/liveupdate/keeper.sock")]
    socket: PathBuf,
    /// What the keeper is started with, after `--host linux`: the same words as the agent's.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The node's face towards the liveupdate controller.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "liveupdate-agent install-keeper --help: puts the keeper on the host, and is done"
)]
struct Arguments {
    /// Name of this node's Node object.
    #[arg(long, env = "LIVEUPDATE_NODE")]
    node: String,
    /// UID of this node's Node object.
    #[arg(long, env = "LIVEUPDATE_NODE_UID")]
    node_uid: String,
    /// Where to listen, such as 0.0.0.0:9443.
    #[arg(long)]
    listen: SocketAddr,
    /// Folder with ca.crt, tls.crt and tls.key.
    #[arg(long)]
    tls_dir: PathBuf,
    /// The controller's enrolment address (host:port); without it nobody is knocked at.
    #[arg(long)]
    controller: Option<String>,
    #[command(flatten)]
    machine: MachineArguments,
    /// The keeper's socket.
    #[arg(long, default_value = "/run/liveupdate/keeper.sock")]
    keeper: PathBuf,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let mut words = std::env::args_os();
    let name = words.next();
    let done = if words.next().is_some_and(|word| word == INSTALL_KEEPER) {
        install_keeper(InstallKeeper::parse_from(name.into_iter().chain(words)))
    } else {
        run(Arguments::parse()).map(|ending| tracing::info!(?ending, "the agent has ended"))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("liveupdate-agent: {text}");
            ExitCode::FAILURE
        }
    }
}

fn install_keeper(arguments: InstallKeeper) -> Result<(), Box<dyn std::error::Error>> {
    let InstallKeeper { host, program, socket, arguments } = arguments;
    // Before the host is entered.
    let program =
        std::fs::read(&program).map_err(|error| format!("cannot read {}: {error}", program.display()))?;
    let host = install::Host::enter(&host).map_err(|error| {
        format!("cannot enter the host under {} (CAP_SYS_CHROOT): {error}", host.display())
    })?;
    let keeper = Socket::new(socket, STATUS_PATIENCE);
    match install::install(&Root::machine(), &Wanted { program, arguments }, &host, &keeper)? {
        Done::Installed => tracing::info!("the keeper is installed and runs"),
        Done::Replaced => tracing::info!("the keeper is replaced and runs"),
        Done::Same => tracing::info!("the keeper is this one already"),
        Done::LeftAlone(why) => tracing::warn!(why, "the keeper is another one and busy: it stays as it is"),
    }
    Ok(())
}

fn run(arguments: Arguments) -> Result<Ending, Box<dyn std::error::Error>> {
    let host = arguments.machine.open(Role::Agent)?;
    let keeper = Arc::new(Socket::new(arguments.keeper, KEEPER_PATIENCE));
    let mut config =
        AgentConfig::new(arguments.node, arguments.node_uid, arguments.listen, arguments.tls_dir);
    config.controller = arguments.controller;
    // One node's work fits one thread; what blocks has threads of its own while it does.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut agent = AgentServer::spawn(config, host, keeper).await?;
        let mut terminate = signal(SignalKind::terminate())?;
        let ending = tokio::select! {
            ending = agent.stopped() => Some(ending),
            _ = terminate.recv() => None,
            _ = tokio::signal::ctrl_c() => None,
        };
        match ending {
            Some(ending) => Ok(ending),
            None => Ok(agent.stop().await),
        }
    })
}
