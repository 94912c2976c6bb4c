//! The real Kubernetes API.

use futures::stream::LocalBoxStream;
use http::{Method, Request};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client};
use liveupdate_crds::{Epoch, FIELD_MANAGER, LiveUpdateStatus, NodeLiveUpdateStatus};
use liveupdate_proto::causes::chain;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod event;
mod lease;
mod node;
mod watch;
mod wire;

use super::error::ClusterError;
use super::objects::{LeaseObject, NodeUpdateObject, Observed, UpdateObject};
use super::{Cluster, NodeChange, Note, Result};
use wire::{Kept, Wire};

const UPDATES: &str = "/apis/liveupdate.dev/v1alpha1/liveupdates";
const NODE_UPDATES: &str = "/apis/liveupdate.dev/v1alpha1/nodeliveupdates";
/// Leases of the kubelets.
const NODE_LEASES: &str = "kube-node-lease";

/// The Kubernetes API behind a client.
#[derive(Clone)]
pub struct Kubernetes {
    client: Client,
    /// Namespace and name of the leader's Lease.
    lease: (String, String),
    /// Who reports Events: the process' own name.
    instance: String,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Uses `client`; the leader's Lease is `name` in `namespace`; `instance` tells our processes apart.
    pub fn new(client: Client, namespace: &str, name: &str, instance: &str) -> Self {
        Self { client, lease: (namespace.to_owned(), name.to_owned()), instance: instance.to_owned() }
    }

    /// One request with a JSON body; `what` names it in errors.
    async fn send<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        body: &impl Serialize,
        what: &str,
    ) -> Result<T> {
        let unavailable =
            |message: String| ClusterError::Unavailable { what: format!("write {what}"), message };
        let body = serde_json::to_vec(body).map_err(|error| unavailable(error.to_string()))?;
        let request = Request::builder()
            .method(call.method)
            .uri(format!("{}?fieldManager={FIELD_MANAGER}", call.path))
            .header(http::header::CONTENT_TYPE, call.content)
            .header(http::header::ACCEPT, call.accept)
            .body(body)
            .map_err(|error| unavailable(error.to_string()))?;
        self.client.request(request).await.map_err(|error| fail(error, "write", what))
    }

    async fn send_kept<P: Kept>(
        &self,
        call: Call<'_>,
        body: &impl Serialize,
        what: &str,
    ) -> Result<P::Object> {
        Ok(self.send::<Wire<P>>(call, body, what).await?.keep())
    }
}

/// Method, path and media types of a request.
struct Call<'a> {
    method: Method,
    path: &'a str,
    content: &'static str,
    accept: &'static str,
}

const JSON: &str = "application/json";

impl<'a> Call<'a> {
    const fn new(method: Method, path: &'a str, content: &'static str) -> Self {
        Self { method, path, content, accept: JSON }
    }
    const fn post(path: &'a str) -> Self {
        Self::new(Method::POST, path, JSON)
    }
    const fn put(path: &'a str) -> Self {
        Self::new(Method::PUT, path, JSON)
    }
    const fn merge(path: &'a str) -> Self {
        Self::new(Method::PATCH, path, "application/merge-patch+json")
    }
}

impl Cluster for Kubernetes {
    async fn identity(&self) -> Result<String> {
        let api = Api::<Namespace>::all(self.client.clone());
        let system =
            api.get_metadata("kube-system").await.map_err(|e| fail(e, "read", "namespace kube-system"))?;
        system.metadata.uid.ok_or_else(|| ClusterError::Unavailable {
            what: "read namespace kube-system".to_owned(),
            message: "it has no UID".to_owned(),
        })
    }

    fn observe(&self) -> LocalBoxStream<'static, Observed> {
        watch::all(&self.client)
    }

    async fn read_lease(&self) -> Result<Option<LeaseObject>> {
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.lease.0);
        let what = format!("Lease {}/{}", self.lease.0, self.lease.1);
        let found = api.get_opt(&self.lease.1).await.map_err(|error| fail(error, "read", &what))?;
        Ok(found.map(lease::read))
    }

    async fn write_lease(&self, lease: &LeaseObject) -> Result<LeaseObject> {
        let (namespace, name) = &self.lease;
        let what = format!("Lease {namespace}/{name}");
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let body = lease::write(namespace, name, lease);
        let written: Lease = if lease.version.is_empty() {
            self.send(Call::post(&path), &body, &what).await?
        } else {
            self.send(Call::put(&format!("{path}/{name}")), &body, &what).await?
        };
        Ok(lease::read(written))
    }

    async fn list_updates(&self) -> Result<Vec<UpdateObject>> {
        #[derive(Deserialize)]
        struct List {
            items: Vec<Wire<wire::Update>>,
        }
        let request = Request::get(UPDATES)
            .header(http::header::ACCEPT, JSON)
            .body(Vec::new())
            .map_err(|error| fail(kube::Error::HttpError(error), "list", "LiveUpdates"))?;
        let list: List =
            self.client.request(request).await.map_err(|error| fail(error, "list", "LiveUpdates"))?;
        Ok(list.items.into_iter().map(Wire::keep).collect())
    }

    async fn list_node_epochs(&self) -> Result<Vec<Epoch>> {
        let api = Api::<Wire<wire::NodeEpoch>>::all(self.client.clone());
        let mut page = ListParams::default().limit(watch::PAGE);
        let mut epochs = Vec::new();
        loop {
            let list = api.list(&page).await.map_err(|error| fail(error, "list", "NodeLiveUpdates"))?;
            epochs.extend(list.items.into_iter().filter_map(Wire::keep));
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => return Ok(epochs),
            }
        }
    }

    async fn stamp_epoch(&self, update: &str, epoch: &Epoch) -> Result<UpdateObject> {
        let path = format!("{UPDATES}/{update}/status");
        let body = json!({"status": {"epoch": epoch}});
        self.send_kept::<wire::Update>(Call::merge(&path), &body, &format!("LiveUpdate {update}")).await
    }

    async fn write_update_status(
        &self,
        update: &str,
        version: &str,
        status: &LiveUpdateStatus,
    ) -> Result<UpdateObject> {
        let path = format!("{UPDATES}/{update}/status");
        let body = object("LiveUpdate", update, version, "status", status);
        self.send_kept::<wire::Update>(Call::put(&path), &body, &format!("LiveUpdate {update}")).await
    }

    async fn write_finalizers(
        &self,
        update: &str,
        version: &str,
        finalizers: &[String],
    ) -> Result<UpdateObject> {
        let path = format!("{UPDATES}/{update}");
        let body = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
        self.send_kept::<wire::Update>(Call::merge(&path), &body, &format!("LiveUpdate {update}")).await
    }

    async fn create_node_update(&self, node: &str, node_uid: &str) -> Result<NodeUpdateObject> {
        let body = json!({
            "apiVersion": "liveupdate.dev/v1alpha1",
            "kind": "NodeLiveUpdate",
            "metadata": {"name": node, "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node_uid}
            ]},
            "spec": {},
        });
        let what = format!("NodeLiveUpdate {node}");
        self.send_kept::<wire::NodeUpdate>(Call::post(NODE_UPDATES), &body, &what).await
    }

    async fn delete_node_update(&self, node: &str, uid: &str) -> Result<()> {
        let path = format!("{NODE_UPDATES}/{node}");
        let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
        let call = Call::new(Method::DELETE, &path, JSON);
        self.send::<Value>(call, &body, &format!("NodeLiveUpdate {node}")).await.map(drop)
    }

    async fn write_node_status(
        &self,
        node: &str,
        version: &str,
        status: &NodeLiveUpdateStatus,
    ) -> Result<NodeUpdateObject> {
        let path = format!("{NODE_UPDATES}/{node}/status");
        let body = object("NodeLiveUpdate", node, version, "status", status);
        self.send_kept::<wire::NodeUpdate>(Call::put(&path), &body, &format!("NodeLiveUpdate {node}")).await
    }

    async fn change_node(&self, change: &NodeChange) -> Result<()> {
        let path = format!("/api/v1/nodes/{}", change.name);
        let mut call = Call::new(Method::PATCH, &path, "application/json-patch+json");
        // The answer would be the whole Node with its images; nobody looks at it.
        call.accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        let what = format!("Node {}", change.name);
        match self.send::<Value>(call, &node::patch(change), &what).await {
            // A failed test of a JSON patch is answered with the same code as an invalid object.
            Err(ClusterError::Refused { message, .. }) if node::is_failed_test(&message) => {
                Err(ClusterError::Conflict { what })
            }
            other => other.map(drop),
        }
    }

    async fn read_node_lease(&self, node: &str) -> Result<Option<String>> {
        let api = Api::<Lease>::namespaced(self.client.clone(), NODE_LEASES);
        let what = format!("Lease {NODE_LEASES}/{node}");
        let found = api.get_metadata_opt(node).await.map_err(|error| fail(error, "read", &what))?;
        Ok(found.and_then(|lease| lease.metadata.resource_version))
    }

    async fn record(&self, note: &Note) -> Result<()> {
        let body = event::body(note, &self.instance);
        let path = "/apis/events.k8s.io/v1/namespaces/default/events";
        self.send::<Value>(Call::post(path), &body, "Event").await.map(drop)
    }
}

/// An object of ours with nothing but one part: the rest is ignored by the status subresource.
fn object(kind: &str, name: &str, version: &str, part: &str, content: &impl Serialize) -> Value {
    json!({
        "apiVersion": "liveupdate.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "resourceVersion": version},
        part: content,
    })
}

fn fail(error: kube::Error, verb: &str, what: &str) -> ClusterError {
    let owned = what.to_owned();
    match error {
        kube::Error::Api(status) => match status.code {
            404 => ClusterError::NotFound { what: owned },
            409 => ClusterError::Conflict { what: owned },
            // Too many requests, and everything that is the server's own trouble, passes.
            429 | 500.. => {
                ClusterError::Unavailable { what: format!("{verb} {what}"), message: status.message }
            }
            _ => ClusterError::Refused { what: owned, message: status.message },
        },
        other => ClusterError::Unavailable { what: format!("{verb} {what}"), message: chain(&other) },
    }
}

#[cfg(test)]
mod tests;
