//! Where a guest stands in the cluster, and what of the product runs in it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;

use liveupdate_lab_guest::Service;

use super::units::KEEPER;
use crate::vm::options::HOST_ADDRESS;

/// The keeper's socket in a guest.
const KEEPER_SOCKET: &str = "/run/liveupdate/keeper.sock";

/// A guest's place in the cluster.
#[derive(Clone, Debug)]
pub struct NodePlace {
    /// Name of the Node.
    pub name: String,
    /// Its InternalIP, a loopback address of its own.
    pub address: Ipv4Addr,
    /// The Node's labels.
    pub labels: BTreeMap<String, String>,
}

impl NodePlace {
    /// Node number `index` (from 0): its address follows from that, and is none of a simulated node's.
    pub fn new(index: u8, name: impl Into<String>) -> NodePlace {
        let last = index.saturating_add(1);
        NodePlace { name: name.into(), address: Ipv4Addr::new(127, 20, 0, last), labels: BTreeMap::new() }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> NodePlace {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    pub(super) fn agent_address(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, port)
    }
}

/// What starts services in a guest, and ends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// The lab's own first process.
    #[default]
    Lab,
    /// systemd.
    Systemd,
}

/// What of the product runs in a guest. Keeper and agent always do.
#[derive(Clone, Debug)]
pub struct Product {
    /// Holders, and whatever else runs beside keeper and agent. Started after them.
    pub beside: Vec<Service>,
    /// How keeper and agent treat the machine: the same words for both.
    pub machine: Vec<String>,
    /// Further flags of the agent.
    pub agent: Vec<String>,
    /// Who starts all that.
    pub manager: Manager,
    /// `RUST_LOG` of keeper and agent; their output goes to the console.
    pub log: String,
}

impl Default for Product {
    fn default() -> Product {
        // Nothing in a guest has reason to take long to end.
        let machine = ["--host=linux", "--grace=2"].map(str::to_owned).into();
        Product { beside: Vec::new(), machine, agent: Vec::new(), manager: Manager::Lab, log: "warn".into() }
    }
}

impl Product {
    pub(super) fn services(&self, node: &str, uid: &str, listen: u16, knock: u16, tls: &str) -> Vec<Service> {
        let mut keeper = Service::new(KEEPER, PathBuf::from("/bin/liveupdate-keeper"))
            .args([format!("--socket={KEEPER_SOCKET}")])
            .args(self.machine.iter().cloned());
        // What holds the sessions must be the process that dies last.
        keeper.oom_score = -1000;
        let mut agent = Service::new("liveupdate-agent", PathBuf::from("/bin/liveupdate-agent"));
        // A machine's agent is a pod, and its kubelet comes after the keeper.
        agent.after = Some(KEEPER.to_owned());
        let agent = agent.args(self.machine.iter().cloned()).args([
            format!("--node={node}"),
            format!("--node-uid={uid}"),
            format!("--listen=0.0.0.0:{listen}"),
            format!("--tls-dir={tls}"),
            format!("--controller={HOST_ADDRESS}:{knock}"),
            format!("--keeper={KEEPER_SOCKET}"),
        ]);
        let agent = agent.args(self.agent.iter().cloned());
        let mut services = vec![keeper, agent];
        for service in &mut services {
            service.env.insert("RUST_LOG".into(), self.log.clone());
        }
        services.extend(self.beside.iter().cloned());
        services
    }
}
