//! A real control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.
//!
//! ```text
//!  RunDir, certificates ─► etcd + kube-apiserver ─► /readyz ─► manifests ─► controller manager, scheduler ─► ready
//!                              ▲        │ a port was lost: new ports, again
//!                              └────────┘
//! ```

mod audit;
mod components;
mod kubectl;
mod options;
mod ready;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kube::Client;

use crate::certs::{Authority, write_secret};
use crate::process::Process;
use crate::{Account, Error, Result, RunDir, Tools, account, install};
use components::{Layout, Ports};

pub use audit::AuditEntry;
pub use kubectl::Output;
pub use options::{Audit, Options};

/// How often a start is tried again when another process took a port in between.
const ATTEMPTS: u32 = 5;
/// How long the API server has to end its watches and leave when it is asked to.
const GRACE: Duration = Duration::from_secs(20);

/// A running control plane. Everything ends and its folder goes when this value goes.
#[derive(Debug)]
pub struct ControlPlane {
    // The processes come before the folder that they write to: fields are dropped in this order.
    scheduler: Option<Process>,
    controller_manager: Option<Process>,
    api_server: Process,
    etcd: Process,
    options: Options,
    tools: Tools,
    authority: Authority,
    layout: Layout,
    ports: Ports,
    run: RunDir,
}

impl ControlPlane {
    /// Starts one and returns when all its components are ready.
    ///
    /// # Errors
    /// When the tools cannot be had, or a component is not ready in time; the error carries the end of
    /// that component's log.
    pub async fn start(options: Options) -> Result<ControlPlane> {
        // May build for minutes.
        let tools = tokio::task::spawn_blocking(Tools::find).await.map_err(|error| Error::Tools {
            reason: format!("looking for them was interrupted ({error})"),
        })??;
        let deadline = Instant::now() + options.deadline;
        let mut attempt = 1;
        loop {
            match ControlPlane::try_start(options.clone(), tools.clone(), deadline).await {
                Err(Error::Exited { tail, name, .. }) if attempt < ATTEMPTS && lost_port(&tail) => {
                    tracing::debug!(attempt, name, "another process took a port first");
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn try_start(options: Options, tools: Tools, deadline: Instant) -> Result<ControlPlane> {
        let run = RunDir::create()?;
        let authority = Authority::new("liveupdate-lab")?;
        let layout = Layout::write(&run, &authority, &options)?;
        let ports = Ports::choose()?;
        let etcd = Process::start(components::etcd(&tools, &layout, ports))?;
        // Started at once: the API server waits for etcd by itself, and loads meanwhile.
        let api_server = Process::start(components::api_server(&tools, &layout, ports, &options))?;
        let mut plane = ControlPlane {
            scheduler: None,
            controller_manager: None,
            api_server,
            etcd,
            options,
            tools,
            authority,
            layout,
            ports,
            run,
        };
        plane.await_api_server(deadline).await?;
        plane.start_others(deadline).await?;
        Ok(plane)
    }

    async fn await_api_server(&mut self, deadline: Instant) -> Result<()> {
        let client = self.client(&Account::admin())?;
        let served = ready::serves(&mut self.api_server, &client, "/readyz", deadline).await;
        // What etcd says is the better reason when it is the one that fails.
        self.etcd.check_running()?;
        served
    }

    async fn start_others(&mut self, deadline: Instant) -> Result<()> {
        let admin = self.client(&Account::admin())?;
        install::paths(&admin, &self.options.manifests).await?;
        if self.options.controller_manager {
            let kubeconfig = self.kubeconfig(&Account::user("system:kube-controller-manager"))?;
            let spec = components::controller_manager(
                &self.tools,
                &self.layout,
                self.ports,
                &self.options,
                &kubeconfig,
            );
            self.controller_manager = Some(Process::start(spec)?);
        }
        if self.options.scheduler {
            let kubeconfig = self.kubeconfig(&Account::user("system:kube-scheduler"))?;
            let spec =
                components::scheduler(&self.tools, &self.layout, self.ports, &self.options, &kubeconfig);
            self.scheduler = Some(Process::start(spec)?);
        }
        if let Some(process) = &mut self.controller_manager {
            ready::makes_service_accounts(process, &admin, deadline).await?;
        }
        let client = self.client_of(&self.url(self.ports.scheduler), &Account::admin())?;
        if let Some(process) = &mut self.scheduler {
            ready::serves(process, &client, "/readyz", deadline).await?;
        }
        Ok(())
    }

    /// Ends everything at once. Dropping does the same; this says when it is done.
    pub fn stop(self) {
        drop(self);
    }

    /// Where the API server is.
    pub fn server(&self) -> String {
        self.url(self.ports.api_server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.api_server
    }

    fn url(&self, port: u16) -> String {
        format!("https://127.0.0.1:{port}")
    }

    /// The authority of the API server's certificate and of every client's.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The folder of this run, for whatever should go when the control plane goes.
    pub fn run(&self) -> &RunDir {
        &self.run
    }

    /// The folder of all logs.
    pub fn logs(&self) -> &Path {
        &self.layout.logs
    }

    /// The binaries that it runs on.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Writes a kubeconfig for an account and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, account: &Account) -> Result<PathBuf> {
        self.write_kubeconfig(account, &self.server(), &account.file_name())
    }

    pub(crate) fn write_kubeconfig(&self, account: &Account, server: &str, name: &str) -> Result<PathBuf> {
        let path = self.run.folder("kubeconfigs")?.join(format!("{name}.yaml"));
        let identity = account.identity(&self.authority)?;
        let kubeconfig = account::kubeconfig(account, server, self.authority.certificate_pem(), &identity);
        let text = serde_saphyr::to_string(&kubeconfig)
            .map_err(|source| Error::Encoding { what: "a kubeconfig", source: source.into() })?;
        // By renaming: another test may be reading the one that was there.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let partial = path.with_extension(format!("partial-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        write_secret(&partial, &text)?;
        std::fs::rename(&partial, &path).map_err(Error::file("write", &path))?;
        Ok(path)
    }

    /// A client for an account. It belongs to the async runtime that it is made in.
    ///
    /// # Errors
    /// When no certificate can be made for the account.
    pub fn client(&self, account: &Account) -> Result<Client> {
        self.client_of(&self.server(), account)
    }

    fn client_of(&self, server: &str, account: &Account) -> Result<Client> {
        let identity = account.identity(&self.authority)?;
        account::client(account, server, self.authority.certificate_pem(), &identity)
    }

    /// Restarts the API server on the same port and data, as an orderly upgrade would.
    ///
    /// # Errors
    /// When it does not end or is not ready again in time.
    pub async fn restart_api_server(&mut self) -> Result<()> {
        self.api_server.terminate(GRACE).await?;
        self.start_api_server().await
    }

    /// Kills the API server (SIGKILL); [`ControlPlane::start_api_server`] brings it back.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill_api_server(&mut self) -> Result<()> {
        self.api_server.kill().map(drop)
    }

    /// Starts the API server again on the same port and data.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub async fn start_api_server(&mut self) -> Result<()> {
        let deadline = Instant::now() + self.options.deadline;
        self.api_server = Process::start(self.api_server.spec().clone())?;
        self.await_api_server(deadline).await
    }

    /// The components that run, for tests that stop or look at them.
    pub fn processes(&self) -> Vec<&Process> {
        let always = [&self.etcd, &self.api_server];
        always.into_iter().chain(&self.controller_manager).chain(&self.scheduler).collect()
    }

    /// What the audit log holds so far. The end of a request reaches it a moment after its response.
    ///
    /// # Errors
    /// When the log cannot be read or understood.
    pub fn audit(&self) -> Result<Vec<AuditEntry>> {
        audit::read(&self.layout.audit_log)
    }
}

/// Whether a component ended because another process had taken its port.
fn lost_port(log: &str) -> bool {
    log.contains("address already in use")
}
