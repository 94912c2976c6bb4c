//! A pod where it runs: what its containers, volumes and status are made of.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::ResourceExt;

use super::Ground;
use super::credential::Certificates;
use super::machine::Machine;

/// A pod on its node.
pub(super) struct Placed {
    pub(super) ground: Arc<Ground>,
    pub(super) machine: Arc<Machine>,
    pub(super) pod: Pod,
    pub(super) spec: PodSpec,
    pub(super) address: IpAddr,
    /// Of this pod alone; gone with it.
    pub(super) folder: PathBuf,
    pub(super) certificates: Certificates,
}

impl Placed {
    pub(super) fn new(ground: Arc<Ground>, machine: Arc<Machine>, pod: Pod) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let own = spec.host_network == Some(true);
        let address = if own { machine.address() } else { ground.addresses.next() };
        let folder =
            ground.root.join("pods").join(pod.uid().unwrap_or_default().get(..8).unwrap_or_default());
        Self { ground, machine, pod, spec, address, folder, certificates: Certificates::default() }
    }
}
