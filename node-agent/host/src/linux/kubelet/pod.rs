//! What of a pod says whether it comes back, as the kubelet writes it: `k8s.io.api.core.v1.Pod`, whose numbers of
//! fields are fixed for good. Everything else is skipped.

use std::collections::BTreeMap;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetPodRequest {
    #[prost(string, tag = "1")]
    pub(super) pod_uid: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetPodResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) pod: Vec<u8>,
}

/// The pod.
#[derive(Clone, PartialEq, Message)]
pub struct Pod {
    /// Whose it is.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// As it was asked for.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<Spec>,
    /// As it is.
    #[prost(message, optional, tag = "3")]
    pub status: Option<Status>,
}

/// Of any object.
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// Its UID.
    #[prost(string, tag = "5")]
    pub uid: String,
    /// It is being deleted when this is there.
    #[prost(message, optional, tag = "9")]
    pub deletion_timestamp: Option<Skipped>,
    /// Its labels.
    #[prost(btree_map = "string, string", tag = "11")]
    pub labels: BTreeMap<String, String>,
}

/// Of a pod.
#[derive(Clone, PartialEq, Message)]
pub struct Spec {
    /// Those that run at once.
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<Container>,
    /// `Always`, `OnFailure` or `Never`.
    #[prost(string, tag = "3")]
    pub restart_policy: String,
    /// Those that run first.
    #[prost(message, repeated, tag = "20")]
    pub init_containers: Vec<Container>,
    /// Devices by dynamic allocation.
    #[prost(message, repeated, tag = "39")]
    pub resource_claims: Vec<Skipped>,
}

/// One of a pod.
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it may take.
    #[prost(message, optional, tag = "8")]
    pub resources: Option<Resources>,
    /// Instead of the pod's; empty: the pod's.
    #[prost(string, tag = "24")]
    pub restart_policy: String,
}

/// Resources by their names.
#[derive(Clone, PartialEq, Message)]
pub struct Resources {
    /// At most.
    #[prost(btree_map = "string, message", tag = "1")]
    pub limits: BTreeMap<String, Skipped>,
    /// At least.
    #[prost(btree_map = "string, message", tag = "2")]
    pub requests: BTreeMap<String, Skipped>,
}

/// Of a pod.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// Those that somebody put into it to look around.
    #[prost(message, repeated, tag = "13")]
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
}

/// Of a container.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatus {
    /// `containerd://` and its id.
    #[prost(string, tag = "8")]
    pub container_id: String,
}

/// That it is there is all that matters.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Skipped {}

impl Pod {
    /// Devices that somebody else hands out, by the names of their resources: plugins' and dynamic ones.
    pub fn devices(&self) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let containers = spec.containers.iter().chain(&spec.init_containers);
        let resources = containers.filter_map(|container| container.resources.as_ref());
        let names = resources.flat_map(|all| all.limits.keys().chain(all.requests.keys()));
        // Names without a domain, and those of Kubernetes itself, are no extended resources.
        let mut names: Vec<String> =
            names.filter(|name| name.contains('/') && !name.contains("kubernetes.io/")).cloned().collect();
        if !spec.resource_claims.is_empty() {
            names.push("resourceClaims".into());
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A control group is that of a container that is never started again.
    pub fn is_ephemeral(&self, cgroup: &str) -> bool {
        let all = self.status.iter().flat_map(|status| &status.ephemeral_container_statuses);
        let ids = all.map(|one| one.container_id.rsplit('/').next().unwrap_or_default());
        ids.into_iter().any(|id| !id.is_empty() && cgroup.contains(id))
    }

    /// Its namespace and its name.
    pub fn named(&self) -> String {
        let metadata = self.metadata.clone().unwrap_or_default();
        format!("{}/{}", metadata.namespace, metadata.name)
    }
}
