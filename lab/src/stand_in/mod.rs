//! Stands in for kubelets, container runtimes and the service network where only a control plane runs: pods that the real
//! controllers make and the real scheduler binds are started as processes, with the arguments, variables and volumes
//! that their specs say.
//!
//! ```text
//!  API server ──watch──► pods of our nodes ──► volumes as folders ──► init containers ──► containers, as processes
//!       ▲                                      tokens by TokenRequest                          │ probes
//!       └──────────────────────────── status: phase, conditions, restarts ◄───────────────────┘
//! ```
//! - `machine`: a node: its simulated machine, kubelet's word about the Node, the keeper as its host's unit
//! - `pods`, `life`: which pods run, and one of them from its start to its end
//! - `container`: a container's spec as a command line
//! - `volumes`, `publish`: what is mounted, and how it is written
//! - `certificates`, `credential`: what of it a signer has to be asked for, and what is remembered of that
//! - `services`: Services, as forwarders on the loopback address
//!
//! What it does not stand in for: images, users, capabilities, namespaces and cgroups. A path in a container is a folder of
//! the run, a pod's address one of the loopback network.

mod certificates;
mod container;
mod credential;
mod life;
mod machine;
mod placed;
mod pods;
mod publish;
mod services;
mod status;
mod volumes;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use kube::Client;
use liveupdate_host::simulated::WorldSpec;
use tokio::task::JoinHandle;

use crate::{Account, ControlPlane, Error, Result, binaries};

pub use machine::Machine;
use services::Services;

/// Programs that are in the images, by their path there.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("/liveupdate-controller", "liveupdate-controller", "liveupdate-controller"),
    ("/liveupdate-agent", "liveupdate-agent", "liveupdate-agent"),
    ("/liveupdate-keeper", "liveupdate-keeper", "liveupdate-keeper"),
];
/// How often a kubelet renews its node's Lease.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Addresses of pods and Services, the last number of them: nodes are below.
const FIRST_ADDRESS: u8 = 50;

/// A node before it is started.
#[derive(Clone, Debug)]
pub struct StandInNode {
    /// Name of the Node.
    pub name: String,
    /// Labels beside those that every kubelet sets.
    pub labels: BTreeMap<String, String>,
    /// The machine.
    pub world: WorldSpec,
}

/// What may differ from run to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Kubelets renew pods' certificates so long before the signer's word (`beginRefreshAt`), which the API calls a hint:
    /// it is five minutes away at the least.
    pub certificates_early: Duration,
}

/// What all parts share.
struct Ground {
    client: Client,
    server: String,
    authority: PathBuf,
    /// Everything of pods and machines is under it.
    root: PathBuf,
    logs: PathBuf,
    programs: BTreeMap<&'static str, PathBuf>,
    services: Services,
    addresses: Addresses,
    settings: Settings,
}

/// Stands in until it is dropped.
pub struct StandIn {
    machines: BTreeMap<String, Arc<Machine>>,
    tasks: Vec<AbortOnDrop>,
}

impl StandIn {
    /// Registers the nodes and runs their pods from now on.
    ///
    /// # Errors
    /// When a program cannot be built, or a node cannot be made or registered.
    pub async fn start(plane: &ControlPlane, nodes: Vec<StandInNode>) -> Result<StandIn> {
        StandIn::start_with(plane, nodes, Settings::default()).await
    }

    /// The same with settings.
    ///
    /// # Errors
    /// As [`StandIn::start`].
    pub async fn start_with(
        plane: &ControlPlane,
        nodes: Vec<StandInNode>,
        settings: Settings,
    ) -> Result<StandIn> {
        let programs = tokio::task::spawn_blocking(programs);
        let programs = programs.await.map_err(|error| Error::Tools { reason: error.to_string() })??;
        let root = plane.run().folder("nodes")?;
        let authority = root.join("ca.crt");
        crate::certs::write_file(&authority, plane.authority().certificate_pem())?;
        let client = plane.client(&Account::admin())?;
        let addresses = Addresses::new();
        let ground = Arc::new(Ground {
            client: client.clone(),
            server: plane.server(),
            authority,
            root,
            logs: plane.logs().to_owned(),
            programs,
            services: Services::default(),
            addresses,
            settings,
        });
        let mut stand_in = StandIn { machines: BTreeMap::new(), tasks: Vec::new() };
        for (number, node) in (1..).zip(nodes) {
            let own = plane.client(&Account::kubelet(&node.name))?;
            let machine = Arc::new(Machine::create(&ground, node, number, own).await?);
            let running = Arc::clone(&machine);
            stand_in.tasks.push(AbortOnDrop(tokio::spawn(async move { running.run().await })));
            stand_in.machines.insert(machine.name().to_owned(), machine);
        }
        let (serving, watching) = (Arc::clone(&ground), stand_in.machines.clone());
        stand_in.tasks.push(AbortOnDrop(tokio::spawn(services::serve(serving))));
        stand_in.tasks.push(AbortOnDrop(tokio::spawn(pods::run(ground, watching))));
        Ok(stand_in)
    }

    /// The nodes, by name.
    pub fn machines(&self) -> impl Iterator<Item = &Arc<Machine>> {
        self.machines.values()
    }
}

fn programs() -> Result<BTreeMap<&'static str, PathBuf>> {
    PROGRAMS
        .into_iter()
        .map(|(path, package, binary)| Ok((path, binaries::fresh(package, binary)?)))
        .collect()
}

/// Addresses of the loopback network, in a part of it that follows from our process and from how many there are in it:
/// the ports of pods are fixed, so that two runs side by side must differ in it.
struct Addresses {
    network: [u8; 3],
    next: AtomicU8,
}

impl Addresses {
    fn new() -> Self {
        static RUNS: AtomicU8 = AtomicU8::new(0);
        let [.., high, low] = std::process::id().to_be_bytes();
        // Processes that follow one another differ in the low byte, runs of one in this one.
        let own = high.wrapping_add(RUNS.fetch_add(37, Ordering::Relaxed)) % 100;
        Self { network: [127, 100 + own, low], next: AtomicU8::new(FIRST_ADDRESS) }
    }

    fn node(&self, number: u8) -> IpAddr {
        self.of(number)
    }

    /// One for a pod or a Service; after two hundred of them they come again.
    fn next(&self) -> IpAddr {
        let next = |last: u8| Some(if last >= 250 { FIRST_ADDRESS } else { last + 1 });
        self.of(self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or(FIRST_ADDRESS))
    }

    fn of(&self, last: u8) -> IpAddr {
        let [a, b, c] = self.network;
        IpAddr::V4(Ipv4Addr::new(a, b, c, last))
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
