//! What a kubelet does towards its Node, and nothing else.
//!
//! It reads the machine as a real kubelet reads `/proc` (boot id, release) and writes the Node's status and
//! Lease under an account of its own. It never sees what the agent answers, so that an agent that lies is
//! found out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use liveupdate_host::HostError;
use liveupdate_host::simulated::{Running, World};
use serde_json::json;

use crate::{Error, Result};

/// The namespace of all node Leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// A real node reports its fifty largest images.
const IMAGES: usize = 50;

/// What a kubelet reads of the machine that it runs on.
pub trait Machine: Send + Sync {
    /// What runs; none while the machine is off.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn running(&self) -> std::result::Result<Option<Running>, HostError>;

    /// What stands as the operating system's name in the Node.
    fn os_image(&self) -> &'static str;
}

impl Machine for World {
    fn running(&self) -> std::result::Result<Option<Running>, HostError> {
        World::running(self)
    }

    fn os_image(&self) -> &'static str {
        "liveupdate lab (simulated)"
    }
}

/// A kubelet of one machine.
pub struct Kubelet {
    client: Client,
    name: String,
    address: IpAddr,
    labels: std::collections::BTreeMap<String, String>,
    machine: Arc<dyn Machine>,
    heartbeat: Duration,
}

impl Kubelet {
    /// A kubelet on a machine that will call its node `name` and renew its Lease every `heartbeat`.
    pub fn new(
        client: Client,
        name: &str,
        address: IpAddr,
        labels: std::collections::BTreeMap<String, String>,
        machine: Arc<dyn Machine>,
        heartbeat: Duration,
    ) -> Self {
        Self { client, name: name.to_owned(), address, labels, machine, heartbeat }
    }

    /// Makes the Node unless it is there, posts its status, and answers with its UID.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached, or the machine is off.
    pub async fn register(&self) -> Result<String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node = Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(self.labels.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec::default()),
            status: None,
        };
        let node = match nodes.create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(status)) if status.code == 409 => nodes.get(&self.name).await,
            other => other,
        }
        .map_err(Error::api(format!("register node {}", self.name)))?;
        let uid = node.uid().unwrap_or_default();
        self.post_status(true).await?;
        self.renew_lease(&uid).await?;
        Ok(uid)
    }

    /// Posts Ready and what the machine runs, as after each start of a kubelet.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached, or the machine is off.
    pub async fn post_status(&self, ready: bool) -> Result<()> {
        let running = self.machine.running();
        let running = running.map_err(|source| Error::Machine { node: self.name.clone(), source })?;
        // A machine that is off posts nothing.
        let Some(Running { boot_id, release }) = running else { return Ok(()) };
        let os_image = self.machine.os_image();
        let status = node_status(&self.name, self.address, os_image, (&boot_id, &release), ready);
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes
            .patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(json!({ "status": status })))
            .await
            .map_err(Error::api(format!("post the status of node {}", self.name)))?;
        Ok(())
    }

    /// Renews the node's Lease, making it when it is not there.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn renew_lease(&self, uid: &str) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASE_NAMESPACE);
        let now = MicroTime(Timestamp::now());
        let patch = json!({ "spec": { "renewTime": now } });
        match leases.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => return Err(Error::api(format!("renew the lease of node {}", self.name))(source)),
        }
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".into(),
                    kind: "Node".into(),
                    name: self.name.clone(),
                    uid: uid.to_owned(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.name.clone()),
                lease_duration_seconds: Some(
                    i32::try_from(self.heartbeat.as_secs() * 4).unwrap_or(40).max(1),
                ),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        match leases.create(&PostParams::default(), &lease).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(source) => Err(Error::api(format!("make the lease of node {}", self.name))(source)),
        }
    }

    /// Renews the Lease until dropped. A failure is tried again at the next beat, as a kubelet does.
    pub async fn beat(&self, uid: &str) {
        let mut ticks = tokio::time::interval_at(
            // Spread, so that a thousand nodes do not write in the same instant.
            tokio::time::Instant::now() + self.heartbeat.mul_f64(spread(&self.name)),
            self.heartbeat,
        );
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.renew_lease(uid).await {
                tracing::debug!(node = %self.name, %error, "lease not renewed; trying again at the next beat");
            }
        }
    }
}

/// A number in 0..1 that depends on the name alone.
fn spread(name: &str) -> f64 {
    let sum = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    f64::from(sum % 1000) / 1000.0
}

fn node_status(
    name: &str,
    address: IpAddr,
    os_image: &str,
    (boot_id, release): (&str, &str),
    ready: bool,
) -> NodeStatus {
    let now = Time(Timestamp::now());
    let condition = |type_: &str, status: &str, reason: &str, message: &str| NodeCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    };
    let amount = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), Quantity((*value).to_owned()))).collect())
    };
    let resources = [("cpu", "64"), ("memory", "512Gi"), ("pods", "110"), ("ephemeral-storage", "900Gi")];
    NodeStatus {
        addresses: Some(vec![
            NodeAddress { type_: "InternalIP".into(), address: address.to_string() },
            NodeAddress { type_: "Hostname".into(), address: name.to_owned() },
        ]),
        allocatable: amount(&resources),
        capacity: amount(&resources),
        conditions: Some(vec![
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory",
            ),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID"),
            if ready {
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status")
            } else {
                condition("Ready", "False", "KubeletNotReady", "container runtime is down")
            },
        ]),
        images: Some(images()),
        node_info: Some(NodeSystemInfo {
            architecture: "amd64".into(),
            boot_id: boot_id.to_owned(),
            container_runtime_version: "containerd://2.1.9".into(),
            kernel_version: release.to_owned(),
            kube_proxy_version: String::new(),
            kubelet_version: "v1.37.2".into(),
            machine_id: format!("{:032x}", (spread(name) * 1e15) as u64),
            operating_system: "linux".into(),
            os_image: os_image.into(),
            system_uuid: format!("lab-{name}"),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

/// A list as long as a real node's: it makes most of the Node's size, which caches must stand.
fn images() -> Vec<ContainerImage> {
    (0..IMAGES)
        .map(|i| ContainerImage {
            names: Some(vec![
                format!("registry.example/platform/component-{i:02}@sha256:{:064x}", i * 7_919 + 1),
                format!("registry.example/platform/component-{i:02}:v1.{i}.3"),
            ]),
            size_bytes: Some(480_000_000 - i64::try_from(i).unwrap_or(0) * 1_000_003),
        })
        .collect()
}
