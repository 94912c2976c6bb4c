//! The agent as a process of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use liveupdate_agent::{AgentConfig, AgentServer, Ending, Enrolment};
use liveupdate_host::linux::machine::Role;
use liveupdate_keeper::{MachineArguments, Socket};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Longer than anything that the keeper is asked for may take: memory is preserved at seconds per GiB.
const KEEPER_PATIENCE: Duration = Duration::from_mins(30);

/// The node's face towards the liveupdate controller.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Name of this node's Node object.
    #[arg(long, env = "LIVEUPDATE_NODE")]
    node: String,
    /// UID of this node's Node object; with --enrol-token the certificate says it.
    #[arg(long, env = "LIVEUPDATE_NODE_UID", required_unless_present = "enrol_token")]
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
    /// The controller's enrolment address (host:port); without it nobody is knocked at.
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
    match run(Arguments::parse()) {
        Ok(ending) => {
            tracing::info!(?ending, "the agent has ended");
            ExitCode::SUCCESS
        }
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

fn run(arguments: Arguments) -> Result<Ending, Box<dyn std::error::Error>> {
    let host = arguments.machine.open(Role::Agent)?;
    let keeper = Arc::new(Socket::new(arguments.keeper, KEEPER_PATIENCE));
    let node_uid = arguments.node_uid.unwrap_or_default();
    let mut config = AgentConfig::new(arguments.node, node_uid, arguments.listen, arguments.tls_dir);
    config.controller = arguments.controller;
    config.registry = liveupdate_registry::Options {
        ca: arguments.registry_ca,
        auth: arguments.registry_auth,
        plain_http: arguments.registry_plain_http,
        ..liveupdate_registry::Options::default()
    };
    config.enrolment =
        arguments.enrol_token.zip(arguments.trust).map(|(token, trust)| Enrolment { token, trust });
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
