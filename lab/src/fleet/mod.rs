//! Simulated nodes, many in one process: each with its machine, keeper, agent and kubelet.
//!
//! Agent and keeper are the shipped ones over a simulated machine. Each node has a loopback address of its
//! own (`127.x.y.z`, its InternalIP), so that agents are reached as in a cluster: by node address and port.

mod kubelet;
mod node;
mod settings;
mod spec;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::Client;
use liveupdate_agent::Limits;
use liveupdate_host::simulated::World;
use liveupdate_proto::tls::Identity;
use tokio::sync::watch;

use crate::Result;
use crate::certs::{FleetCertificates, Validity};

pub use kubelet::{Kubelet, Machine};
pub use node::SimulatedNode;
pub use settings::Settings;
pub use spec::NodeSpec;

/// Nodes that are registered at once.
const REGISTER_AT_ONCE: usize = 16;

/// What all nodes of a fleet share.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// Port of every agent, on the node's own address.
    pub agent_port: u16,
    /// Where the controller is knocked at (`host:port`).
    pub controller: Option<String>,
    /// How often a kubelet renews its node's Lease.
    pub heartbeat: Duration,
    /// Times of the agents.
    pub limits: Limits,
    /// Folder under which the agents' certificates are written.
    pub tls_root: PathBuf,
}

/// Simulated nodes. All of them end when this value goes.
pub struct Fleet {
    nodes: BTreeMap<String, SimulatedNode>,
    options: FleetOptions,
    client: Client,
}

impl Fleet {
    /// Registers the nodes and starts them. `client` is the kubelets' account.
    ///
    /// # Errors
    /// When a node cannot be registered, or its certificate cannot be made or written.
    pub async fn start(
        client: Client,
        certificates: &FleetCertificates,
        options: FleetOptions,
        specs: Vec<NodeSpec>,
    ) -> Result<Fleet> {
        let mut fleet = Fleet { nodes: BTreeMap::new(), options, client };
        let starting: Vec<SimulatedNode> = {
            let fleet = &fleet;
            futures::stream::iter(specs)
                .map(|spec| async move { fleet.start_node(certificates, spec).await })
                .buffer_unordered(REGISTER_AT_ONCE)
                .try_collect()
                .await?
        };
        fleet.nodes = starting.into_iter().map(|node| (node.name().to_owned(), node)).collect();
        Ok(fleet)
    }

    /// Starts another fleet that differs in its nodes alone; their addresses must be others.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub async fn beside(&self, certificates: &FleetCertificates, specs: Vec<NodeSpec>) -> Result<Fleet> {
        Fleet::start(self.client.clone(), certificates, self.options.clone(), specs).await
    }

    /// Adds one node.
    ///
    /// # Errors
    /// As [`Fleet::start`].
    pub async fn join(&mut self, certificates: &FleetCertificates, spec: NodeSpec) -> Result<()> {
        let node = self.start_node(certificates, spec).await?;
        self.nodes.insert(node.name().to_owned(), node);
        Ok(())
    }

    /// Ends a node; its Node object stays.
    pub fn leave(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Option<&SimulatedNode> {
        self.nodes.get(name)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &SimulatedNode> {
        self.nodes.values()
    }

    async fn start_node(&self, certificates: &FleetCertificates, spec: NodeSpec) -> Result<SimulatedNode> {
        let world = World::in_memory(spec.world);
        let kubelet = Arc::new(Kubelet::new(
            self.client.clone(),
            &spec.name,
            spec.address,
            spec.labels,
            Arc::new(world.clone()),
            self.options.heartbeat,
        ));
        let uid = kubelet.register().await?;
        let tls_dir = self.options.tls_root.join(&spec.name);
        write_agent_certificate(certificates, &spec.name, &uid, Validity::Current, &tls_dir)?;
        let room = node::Room {
            name: spec.name,
            uid: watch::Sender::new(uid),
            listen: SocketAddr::new(spec.address, self.options.agent_port),
            controller: self.options.controller.clone(),
            limits: self.options.limits,
            world,
            kubelet,
        };
        Ok(SimulatedNode::start(room, Settings::honest(tls_dir)))
    }
}

/// Writes an agent's credentials as it reads them.
///
/// # Errors
/// When they cannot be made or written.
pub fn write_agent_certificate(
    certificates: &FleetCertificates,
    node: &str,
    uid: &str,
    validity: Validity,
    folder: &Path,
) -> Result<()> {
    let certificate = certificates.issue(&Identity::node(node, uid), validity)?;
    certificate.write(certificates.authority().certificate_pem(), folder)?;
    Ok(())
}
