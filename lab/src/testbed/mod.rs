//! The whole product on one machine: control plane, controllers, simulated nodes.
//!
//! Demo, integration tests and benches stand on it. Controllers are processes, so that they can be killed
//! and frozen; each has its own certificate files and log.
//!
//! - [`agents`]: calls to agents by hand
//! - [`machines`]: plain machines and updates to begin with
//! - [`objects`]: writing, reading and awaiting the product's objects
//! - [`observer`]: looks on and records every broken invariant
//! - [`pods`]: the agents' pods, and what a kubelet does for them

pub mod agents;
pub mod machines;
pub mod objects;
pub mod observer;
pub mod pods;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Client;
use liveupdate_agent::Limits;
use liveupdate_proto::tls::Identity;

use crate::certs::{FleetCertificates, Validity};
use crate::fleet::{Fleet, FleetOptions, NodeSpec};
use crate::process::Spec;
use crate::{Account, ControlPlane, Options, Process, Result, binaries, install, ports};

pub use observer::Observer;

/// The namespace of the controller's account and Lease.
pub const NAMESPACE: &str = "liveupdate-system";

/// What a test bed is made of.
#[derive(Clone, Debug)]
pub struct TestbedOptions {
    /// The control plane; the product's manifests are added.
    pub plane: Options,
    /// How often kubelets renew their Leases.
    pub heartbeat: Duration,
    /// Times of the agents.
    pub limits: Limits,
    /// Further flags of every controller.
    pub controller_args: Vec<String>,
    /// `RUST_LOG` of every controller.
    pub controller_log: String,
}

impl Default for TestbedOptions {
    fn default() -> Self {
        Self {
            plane: Options::default(),
            heartbeat: Duration::from_secs(2),
            // A fleet on one machine need not be gentle, and tests wait for it.
            limits: Limits {
                knock_spread: Duration::from_millis(20),
                knock_backoff: Duration::from_secs(1),
                watch_facts: Some(Duration::from_secs(1)),
                watch_return: Duration::from_millis(50),
                ..Limits::default()
            },
            controller_args: Vec::new(),
            controller_log: "info".into(),
        }
    }
}

/// See the module. Everything ends when this value goes.
pub struct Testbed {
    // Controllers and nodes go before the control plane that they talk to.
    controllers: Vec<Process>,
    /// The simulated nodes.
    pub fleet: Fleet,
    /// Who issued all of the product's certificates.
    pub certificates: FleetCertificates,
    /// The control plane.
    pub plane: ControlPlane,
    options: TestbedOptions,
    ports: Ports,
    // The administrator's, shared by all helpers.
    client: Client,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    agent: u16,
    knock: u16,
}

impl Testbed {
    /// Starts control plane and nodes, and no controller yet.
    ///
    /// # Errors
    /// When something does not start; the error carries the end of its log.
    pub async fn start(mut options: TestbedOptions, nodes: Vec<NodeSpec>) -> Result<Testbed> {
        let kubelets = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/kubelets.yaml");
        options.plane.manifests.extend(install::product());
        options.plane.manifests.push(kubelets);
        let plane = ControlPlane::start(options.plane.clone()).await?;
        let certificates = FleetCertificates::new()?;
        let ports = Ports { agent: ports::free()?, knock: ports::free()? };
        let fleet = FleetOptions {
            agent_port: ports.agent,
            controller: Some(format!("127.0.0.1:{}", ports.knock)),
            heartbeat: options.heartbeat,
            limits: options.limits,
            tls_root: plane.run().folder("agents")?,
        };
        let client = plane.client(&Self::kubelet_account())?;
        let fleet = Fleet::start(client, &certificates, fleet, nodes).await?;
        let client = plane.client(&Account::admin())?;
        Ok(Testbed { controllers: Vec::new(), fleet, certificates, plane, options, ports, client })
    }

    /// The administrator's client.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn admin(&self) -> Result<Client> {
        self.plane.client(&Account::admin())
    }

    /// Port of every agent, on its node's own address.
    pub fn agent_port(&self) -> u16 {
        self.ports.agent
    }

    /// Port of 127.0.0.1 at which the first controller is knocked at.
    pub fn knock_port(&self) -> u16 {
        self.ports.knock
    }

    /// The account of the stand-in kubelets.
    pub fn kubelet_account() -> Account {
        Account::user("liveupdate-lab-kubelets")
    }

    /// How often kubelets renew their Leases.
    pub fn heartbeat(&self) -> Duration {
        self.options.heartbeat
    }

    /// The account that controllers run under.
    pub fn controller_account() -> Account {
        Account::service_account(NAMESPACE, "liveupdate-controller")
    }

    /// Starts a controller that talks to the API server directly; its number is the answer.
    ///
    /// # Errors
    /// When it cannot be built or started.
    pub async fn start_controller(&mut self) -> Result<usize> {
        let kubeconfig = self.plane.kubeconfig(&Self::controller_account())?;
        self.start_controller_with(&kubeconfig).await
    }

    /// Starts a controller with a kubeconfig of its own, such as a write proxy's.
    ///
    /// # Errors
    /// As [`Testbed::start_controller`].
    pub async fn start_controller_with(&mut self, kubeconfig: &Path) -> Result<usize> {
        let spec = self.controller_spec(kubeconfig)?;
        self.controllers.push(Process::start(spec)?);
        Ok(self.controllers.len() - 1)
    }

    /// How a controller would be started: the first one on the fleet's knock port, others on their own.
    ///
    /// # Errors
    /// When it cannot be built, or its certificate cannot be written.
    pub fn controller_spec(&self, kubeconfig: &Path) -> Result<Spec> {
        let number = self.controllers.len();
        let knock = if number == 0 { self.ports.knock } else { ports::free()? };
        let tls_dir = self.controller_certificate(number)?;
        let program = binaries::fresh("liveupdate-controller", "liveupdate-controller")?;
        let spec = Spec::new(format!("controller-{number}"), program, self.plane.logs());
        let args = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--identity=controller-{number}"),
            format!("--lease-namespace={NAMESPACE}"),
            format!("--tls-dir={}", tls_dir.display()),
            format!("--knock-listen=127.0.0.1:{knock}"),
            format!("--admin-listen=127.0.0.1:{}", ports::free()?),
            format!("--agent-port={}", self.ports.agent),
        ];
        Ok(spec
            .args(args)
            .args(self.options.controller_args.clone())
            .env("RUST_LOG", &self.options.controller_log))
    }

    fn controller_certificate(&self, number: usize) -> Result<PathBuf> {
        let folder = self.plane.run().folder("controllers")?.join(number.to_string());
        let certificate = self.certificates.issue(&Identity::Controller, Validity::Current)?;
        certificate.write(self.certificates.authority().certificate_pem(), &folder)?;
        Ok(folder)
    }

    /// A controller by number.
    pub fn controller(&mut self, number: usize) -> Option<&mut Process> {
        self.controllers.get_mut(number)
    }

    /// Starts a controller again that has ended or was killed, with all that it had.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn restart_controller(&mut self, number: usize) -> Result<()> {
        if let Some(slot) = self.controllers.get_mut(number) {
            let spec = slot.spec().clone();
            // Dead first: two of one port would not do.
            if slot.status()?.is_none() {
                slot.kill()?;
            }
            *slot = Process::start(spec)?;
        }
        Ok(())
    }

    /// Starts all controllers again that have ended, as a kubelet would; how many there were.
    ///
    /// # Errors
    /// When one cannot be started.
    pub fn revive_controllers(&mut self) -> Result<usize> {
        let mut revived = 0;
        for number in 0..self.controllers.len() {
            let ended = match self.controllers.get_mut(number) {
                Some(controller) => controller.status()?.is_some(),
                None => false,
            };
            if ended {
                self.restart_controller(number)?;
                revived += 1;
            }
        }
        Ok(revived)
    }

    /// The address of a controller's admin endpoint.
    pub fn admin_address(&self, number: usize) -> Option<String> {
        self.argument(number, "--admin-listen=")
    }

    /// The address at which a controller is knocked at, and asked for certificates.
    pub fn knock_address(&self, number: usize) -> Option<String> {
        self.argument(number, "--knock-listen=")
    }

    fn argument(&self, number: usize, name: &str) -> Option<String> {
        let args = &self.controllers.get(number)?.spec().args;
        args.iter().find_map(|arg| arg.to_str()?.strip_prefix(name).map(str::to_owned))
    }
}
