//! The process: flags, start, standing by, leading, end.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use kube::config::{KubeConfigOptions, Kubeconfig};
use liveupdate_proto::causes::chain;
use liveupdate_proto::tls::Credentials;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::admin::{self, Shared};
use crate::agents::grpc::Grpc;
use crate::check::{self, CheckOptions};
use crate::clock::SystemClock;
use crate::cluster::Cluster;
use crate::cluster::kubernetes::Kubernetes;
use crate::engine::Engine;
use crate::enrol::Enroller;
use crate::knock::{self, Door};
use crate::lease::{Elector, LeaseLost, Term, Timing};
use crate::pki::{IdentityOptions, Lifetimes, Signer, Store, TlsMode};
use crate::uninstall::{self, UninstallOptions, Uninstaller};

/// Knocks that wait to be looked at.
const KNOCKS: usize = 4096;
/// A standby keeps few sessions for resumption; a fleet's worth would be memory for nothing.
const TLS_PEERS: usize = 256;

/// Rolls live updates over a fleet of nodes.
#[derive(Clone, Debug, Parser)]
#[command(name = "liveupdate-controller", version)]
pub struct Options {
    /// Something else to do than to stand by and lead
    #[command(subcommand)]
    pub task: Option<Task>,
    /// Kubeconfig file; without it the account of the pod, or the usual places
    #[arg(long, env = "LIVEUPDATE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the leader's Lease
    #[arg(
        long,
        env = "LIVEUPDATE_LEASE_NAMESPACE",
        default_value = "liveupdate-system",
        value_name = "NAME"
    )]
    pub lease_namespace: String,
    /// Name of the leader's Lease
    #[arg(long, env = "LIVEUPDATE_LEASE_NAME", default_value = "liveupdate-controller", value_name = "NAME")]
    pub lease_name: String,
    /// Name of this process among those that may lead; by default the host's (in a pod, the pod's). A
    /// process that starts again under its name need not wait for its own lease to run out
    #[arg(long, env = "LIVEUPDATE_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// Folder with ca.crt, tls.crt and tls.key, for --tls-mode=files; read again when they change
    #[arg(long, env = "LIVEUPDATE_TLS_DIR", default_value = "/etc/liveupdate/tls", value_name = "FOLDER")]
    pub tls_dir: PathBuf,
    /// Where agents knock
    #[arg(long, env = "LIVEUPDATE_KNOCK_LISTEN", default_value = "[::]:9444", value_name = "ADDRESS")]
    pub knock_listen: SocketAddr,
    /// Where health, metrics and the last report are served, without TLS
    #[arg(long, env = "LIVEUPDATE_ADMIN_LISTEN", default_value = "[::]:8080", value_name = "ADDRESS")]
    pub admin_listen: SocketAddr,
    /// Port of agents that tell no other by annotation
    #[arg(long, env = "LIVEUPDATE_AGENT_PORT", default_value_t = liveupdate_crds::AGENT_PORT, value_name = "PORT")]
    pub agent_port: u16,
    /// Where certificates come from, and who may have one
    #[command(flatten)]
    pub certificates: IdentityOptions,
    /// How log lines look
    #[arg(long, env = "LIVEUPDATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// What else the program does.
#[derive(Clone, Debug, Subcommand)]
pub enum Task {
    /// Ask the cluster whether what was installed works, and end
    Check(CheckOptions),
    /// Have every agent take the keeper off its node, and end
    Uninstall(UninstallOptions),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// No way to the API server is known.
    #[error("cannot find out how to reach the API server: {0}; give --kubeconfig")]
    Kubeconfig(String),
    /// The certificate cannot be used.
    #[error("cannot use the certificate: {0}")]
    Credentials(String),
    /// The flags contradict each other.
    #[error("--ca-lifetime and --leaf-lifetime do not fit: {0}")]
    Lifetimes(String),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not all is as it was asked for.
    #[error("one or more checks failed: see the lines above")]
    NotWell,
    /// The system refused something that the process cannot do without.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
    /// A server ended that should not.
    #[error("the server for {what} ended: {why}")]
    Server {
        /// Which.
        what: &'static str,
        /// What it said.
        why: String,
    },
    /// Leadership is over.
    #[error(transparent)]
    Lease(#[from] LeaseLost),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let options = Options::parse();
    log(options.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            match options.task.clone() {
                None => run(options).await,
                Some(Task::Check(what)) => {
                    let well = check::check(&client(&options).await?, &what).await;
                    if well { Ok(()) } else { Err(Fatal::NotWell) }
                }
                Some(Task::Uninstall(what)) => {
                    if uninstall::uninstall(&what).await {
                        Ok(())
                    } else {
                        Err(Fatal::NotWell)
                    }
                }
            }
        }),
        Err(error) => Err(Fatal::Start(error)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_client=warn,kube_runtime=error"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => lines.with_target(false).init(),
        LogFormat::Json => lines.json().init(),
    }
}

async fn client(options: &Options) -> Result<kube::Client, Fatal> {
    let fail = |error: &dyn std::error::Error| Fatal::Kubeconfig(chain(error));
    let mut config = match &options.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| fail(&error))?;
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .map_err(|error| fail(&error))?
        }
        None => kube::Config::infer().await.map_err(|error| fail(&error))?,
    };
    config.connect_timeout = Some(Duration::from_secs(5));
    kube::Client::try_from(config).map_err(|error| fail(&error))
}

fn identity(options: &Options) -> String {
    let host = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_owned()
    };
    options.identity.clone().unwrap_or_else(host)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Fatal> {
    TcpListener::bind(address).await.map_err(|source| Fatal::Listen { address, source })
}

/// Who we are to agents, and who makes that of them.
struct Certificates {
    credentials: Arc<Credentials>,
    enroller: Option<Enroller>,
}

/// Reads the files, or the CA of our own, which is then looked after for as long as the process lives.
async fn certificates(options: &Options, client: &kube::Client) -> Result<Certificates, Fatal> {
    let unusable = |error: &dyn std::error::Error| Fatal::Credentials(chain(error));
    let flags = &options.certificates;
    if flags.tls_mode == TlsMode::Files {
        let credentials = Credentials::load(&options.tls_dir, TLS_PEERS).map_err(|error| unusable(&error))?;
        return Ok(Certificates { credentials: Arc::new(credentials), enroller: None });
    }
    let lifetimes = Lifetimes { authority: flags.ca_lifetime, leaf: flags.leaf_lifetime };
    if let Some(problem) = lifetimes.problem() {
        return Err(Fatal::Lifetimes(problem));
    }
    let namespace = &options.lease_namespace;
    let store = Store::new(client.clone(), namespace, &flags.ca_secret, &flags.trust_config_map);
    let signer = Arc::new(Signer::start(store, lifetimes).await);
    let own = signer.own().map_err(|error| unusable(&error))?;
    let credentials = Credentials::held(&own, TLS_PEERS).map_err(|error| unusable(&error))?;
    let credentials = Arc::new(credentials);
    tokio::spawn(Arc::clone(&signer).keep(Arc::clone(&credentials)));
    let enroller = Enroller::new(client.clone(), signer, namespace, flags);
    Ok(Certificates { credentials, enroller: Some(enroller) })
}

fn ended<E: std::error::Error>(what: &'static str, error: Option<E>) -> Fatal {
    let why = error.map_or_else(|| "without a reason".to_owned(), |error| chain(&error));
    Fatal::Server { what, why }
}

/// Stands by, leads, and ends when it is told to (well) or when leadership is lost (with an error, so that
/// it is started again and stands by with nothing in memory).
///
/// # Errors
/// Leadership was lost, or what the process cannot do without has ended.
pub async fn run(options: Options) -> Result<(), Fatal> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let mut stop = std::pin::pin!(stop);
    let identity = identity(&options);
    let client = client(&options).await?;
    let shared = Arc::new(Shared::default());
    let admin = listen(options.admin_listen).await?;
    let mut admin = std::pin::pin!(admin::serve(admin, Arc::clone(&shared)));
    let knocks = listen(options.knock_listen).await?;
    // With a CA of our own this waits for the API server.
    let Certificates { credentials, enroller } = tokio::select! {
        found = certificates(&options, &client) => found?,
        end = &mut admin => return Err(ended("administration", end.err())),
        () = &mut stop => return Ok(()),
    };

    // Whoever uninstalls comes with a token and no certificate, as whoever enrols: else the door is closed to it.
    let uninstaller = enroller.as_ref().map(|enroller| {
        let (client, credentials, shared) = (client.clone(), Arc::clone(&credentials), Arc::clone(&shared));
        let (namespace, strangers) = (&options.lease_namespace, enroller.strangers());
        Uninstaller::new(client, credentials, shared, strangers, namespace, options.agent_port)
    });
    let cluster = Rc::new(Kubernetes::new(client, &options.lease_namespace, &options.lease_name, &identity));
    let clock = Rc::new(SystemClock::default());
    let (sender, mut inbox) = mpsc::channel(KNOCKS);
    let cut = CancellationToken::new();
    let door = Door::new(sender, Arc::clone(&shared), enroller, uninstaller);
    let mut door = std::pin::pin!(knock::serve(knocks, Arc::clone(&credentials), door, cut.clone()));

    let elector = Elector::new(Rc::clone(&cluster), Rc::clone(&clock), &identity, Timing::default());
    let held: std::cell::RefCell<Option<Rc<Term>>> = std::cell::RefCell::default();
    let lead = async {
        // Reached once before it says that it is ready: a standby is ready, too.
        while let Err(error) = cluster.identity().await {
            tracing::warn!(%error, "the API server cannot be reached; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        shared.ready();
        let term = elector.acquire().await;
        held.replace(Some(Rc::clone(&term)));
        shared.lead(term.epoch.counter);
        let agents = Rc::new(Grpc::new(Arc::clone(&credentials)));
        let parts = (Rc::clone(&cluster), agents, Rc::clone(&clock));
        let mut engine = Engine::new(parts, Rc::clone(&term), options.agent_port, Arc::clone(&shared));
        tokio::select! {
            lost = elector.keep(&term) => lost,
            () = engine.lead(&mut inbox) => LeaseLost::Expired { seconds: Timing::default().trust.as_secs() },
        }
    };
    let result = tokio::select! {
        lost = lead => Err(Fatal::Lease(lost)),
        end = &mut admin => Err(ended("administration", end.err())),
        end = &mut door => Err(ended("knocks", end.err())),
        () = &mut stop => Ok(()),
    };
    cut.cancel();
    if let (Ok(()), Some(term)) = (&result, held.take()) {
        let released = tokio::time::timeout(Duration::from_secs(2), elector.release(&term)).await;
        match released {
            Ok(Ok(())) => tracing::info!("the lease is released"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease is not released; it runs out"),
            Err(_) => tracing::warn!("the lease is not released in time; it runs out"),
        }
    }
    result
}
