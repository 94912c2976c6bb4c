//! The agent as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use liveupdate_agent::install::{self, Done, Wanted};
use liveupdate_agent::{AgentConfig, AgentServer, Ending, Enrolment};
use liveupdate_host::bundle::Signers;
use liveupdate_host::linux::machine::Role;
use liveupdate_host::linux::root::Root;
use liveupdate_keeper::{MachineArguments, Socket};
use liveupdate_proto::causes::chain;
use liveupdate_proto::tls::{Identity, Leaf};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Longer than anything that the keeper is asked for may take: memory is preserved at seconds per GiB.
const KEEPER_PATIENCE: Duration = Duration::from_mins(30);

/// For the keeper that runs to say whether it is idle.
const STATUS_PATIENCE: Duration = Duration::from_secs(30);

/// What an agent's program does beside being one.
#[derive(Debug, Parser)]
#[command(name = "liveupdate-agent", version)]
struct CommandLine {
    #[command(subcommand)]
    once: Once,
}

/// What is done once, and no agent runs.
#[derive(Debug, Subcommand)]
enum Once {
    /// Puts the keeper on the host, as a unit of its systemd, and starts it. One of ours that is there already is
    /// replaced when it is idle.
    InstallKeeper(InstallKeeper),
}

#[derive(Args, Debug)]
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
    /// Folder with the public keys (NAME.pub) of those who may sign bundles: they are put where keeper and agent look
    /// for them on the host. Those that were put there before and are not here are taken away, as all are without it;
    /// keys that came there in another way stay.
    #[arg(long, value_name = "DIR")]
    signers: Option<PathBuf>,
    /// What the keeper is started with, after `--host linux`: the same words as the agent's.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The part of the keeper's command line that the installer has to understand.
#[derive(Debug, Parser)]
#[command(name = "liveupdate-keeper")]
struct Start {
    #[command(flatten)]
    machine: MachineArguments,
    #[arg(long = "socket")]
    _socket: Option<PathBuf>,
}

/// The node's face towards the liveupdate controller.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    after_help = "liveupdate-agent install-keeper --help: puts the keeper on a host, and ends"
)]
struct Arguments {
    /// Name of this node's Node object.
    #[arg(long, env = "LIVEUPDATE_NODE")]
    node: String,
    /// UID of this node's Node object; without it the certificate says it.
    #[arg(long, env = "LIVEUPDATE_NODE_UID")]
    node_uid: Option<String>,
    /// Where to listen, such as 0.0.0.0:9443.
    #[arg(long)]
    listen: SocketAddr,
    /// Folder with ca.crt, tls.crt and tls.key; with --enrol-token the agent writes them itself.
    #[arg(long)]
    tls_dir: PathBuf,
    /// File with a projected token of this pod, for the audience of enrolment: the agent asks the controller
    /// for its certificate, and for the next one in good time.
    #[arg(long, requires_all = ["trust", "controller"])]
    enrol_token: Option<PathBuf>,
    /// File with the CAs to trust, with --enrol-token; a change of it is taken over.
    #[arg(long, requires = "enrol_token")]
    trust: Option<PathBuf>,
    /// The controller's enrolment address (host:port); without it the agent calls no controller.
    #[arg(long)]
    controller: Option<String>,
    /// File with credentials for registries, as a Secret of type kubernetes.io/dockerconfigjson holds them; read anew
    /// for each bundle.
    #[arg(long, value_name = "FILE")]
    registry_auth: Option<PathBuf>,
    /// File with the CA certificates of registries, instead of the system's.
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// A registry (HOST or HOST:PORT) that is spoken to without TLS; may be given several times. What is fetched is
    /// checked all the same, but anybody on the way sees it and the credentials.
    #[arg(long, value_name = "HOST")]
    registry_plain_http: Vec<String>,
    #[command(flatten)]
    machine: MachineArguments,
    /// The keeper's socket.
    #[arg(long, default_value = "/run/liveupdate/keeper.sock")]
    keeper: PathBuf,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    // Not one command line with optional parts: what an agent must be told would not be asked for any more.
    let once = std::env::args_os().nth(1).is_some_and(|word| word == "install-keeper");
    let done = if once {
        let Once::InstallKeeper(arguments) = CommandLine::parse().once;
        install_keeper(arguments)
    } else {
        run(Arguments::parse()).map(|ending| tracing::info!(?ending, "the agent has ended"))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("liveupdate-agent: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn install_keeper(arguments: InstallKeeper) -> Result<(), Box<dyn std::error::Error>> {
    let InstallKeeper { host, program, socket, signers, arguments } = arguments;
    let words = ["liveupdate-keeper", "--host", "linux"].into_iter().map(str::to_owned);
    let start = Start::try_parse_from(words.chain(arguments.iter().cloned()))
        .map_err(|error| format!("the keeper would not start with these arguments: {error}"))?;
    let folder = start.machine.linux().ok_or("the keeper's machine is no Linux")?.signers;
    // Before the host is entered.
    let program =
        std::fs::read(&program).map_err(|error| format!("cannot read {}: {error}", program.display()))?;
    let signers = match signers {
        Some(keys) => {
            Signers::read(&keys).map_err(|error| format!("cannot read {}: {error}", keys.display()))?
        }
        None => Signers::default(),
    };
    let host = install::Host::enter(&host).map_err(|error| {
        format!("cannot enter the host under {} (CAP_SYS_CHROOT): {error}", host.display())
    })?;
    // First: they count also while the keeper is busy, or is not ours to install.
    if install::signers(&Root::machine(), &folder, &signers)? {
        let names: Vec<&str> = signers.signers.iter().map(|signer| signer.name.as_str()).collect();
        tracing::info!(folder, signers = names.join(", "), "the keys of signers are put there");
    }
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
    let node_uid = match (arguments.node_uid, &arguments.enrol_token) {
        (Some(uid), _) => uid,
        (None, Some(_)) => String::new(),
        (None, None) => match Leaf::read(&arguments.tls_dir.join("tls.crt"))?.identity {
            Identity::Node { uid, .. } => uid,
            other @ Identity::Controller => {
                return Err(format!("the certificate is for {other}, not for a node").into());
            }
        },
    };
    let mut config = AgentConfig::new(arguments.node, node_uid, arguments.listen, arguments.tls_dir);
    config.controller = arguments.controller;
    config.enrolment =
        arguments.enrol_token.zip(arguments.trust).map(|(token, trust)| Enrolment { token, trust });
    config.registry = liveupdate_registry::Options {
        ca: arguments.registry_ca,
        auth: arguments.registry_auth,
        plain_http: arguments.registry_plain_http,
        ..liveupdate_registry::Options::default()
    };
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
