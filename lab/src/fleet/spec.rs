//! What a simulated node is at first.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use liveupdate_host::simulated::WorldSpec;

/// A simulated node before it is started.
#[derive(Clone, Debug)]
pub struct NodeSpec {
    /// Name of the Node object.
    pub name: String,
    /// Its InternalIP; on loopback.
    pub address: IpAddr,
    /// Labels of the Node object.
    pub labels: BTreeMap<String, String>,
    /// The machine.
    pub world: WorldSpec,
}

impl NodeSpec {
    /// Node number `index` (from 0): its address follows from that.
    pub fn new(index: u16, name: impl Into<String>, world: WorldSpec) -> Self {
        Self { name: name.into(), address: loopback(index), labels: BTreeMap::new(), world }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }
}

/// A loopback address that no other node of the fleet has; fleets side by side differ in the port.
fn loopback(index: u16) -> IpAddr {
    let [high, low] = (index / 250).to_be_bytes();
    let last = u8::try_from(index % 250).unwrap_or(0) + 1;
    IpAddr::V4(Ipv4Addr::new(127, 10 + high, low, last))
}
