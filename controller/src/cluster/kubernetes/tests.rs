//! What is on the wire. The API server does the comparing; here is that it is always asked to.

use std::sync::{Arc, Mutex};

use http::Response;
use kube::client::Body;

use super::*;
use crate::cluster::ClusterError;

/// Requests as they were sent; each is answered with a conflict.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<(String, Value)>>>);

impl Sent {
    fn cluster(&self) -> Kubernetes {
        let sent = Arc::clone(&self.0);
        let service = tower::service_fn(move |request: Request<Body>| {
            let sent = Arc::clone(&sent);
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect_bytes().await.unwrap();
                sent.lock().unwrap().push((line, serde_json::from_slice(&body).unwrap()));
                let conflict = json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict",
                    "message": "the object has been modified", "code": 409,
                });
                let body = Body::from(conflict.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(Response::builder().status(409).body(body).unwrap())
            }
        });
        Kubernetes::new(Client::new(service, "default"), "liveupdate-system", "liveupdate-controller", "a")
    }

    fn only(&self) -> (String, Value) {
        let mut sent = self.0.lock().unwrap();
        assert_eq!(sent.len(), 1, "one request, never tried again here: {sent:?}");
        sent.remove(0)
    }
}

fn conflicts<T: std::fmt::Debug>(result: &Result<T>) {
    assert!(matches!(result, Err(ClusterError::Conflict { .. })), "{result:?}");
}

/// Admission and ends are compare-and-swap: a write without the version that was seen would go through
/// over whatever somebody else wrote meanwhile.
#[tokio::test]
async fn invariant_1_every_write_to_our_objects_carries_the_version_that_was_seen() {
    let wire = Sent::default();
    let cluster = wire.cluster();
    let version = |path: &str| {
        let (line, body) = wire.only();
        assert!(line.ends_with(path), "{line}");
        assert_eq!(body["metadata"]["resourceVersion"], "7", "{line}: {body}");
        line
    };
    conflicts(&cluster.write_update_status("up", "7", &LiveUpdateStatus::default()).await);
    assert!(version("/liveupdates/up/status").starts_with("PUT "));
    conflicts(&cluster.write_finalizers("up", "7", &[]).await);
    version("/liveupdates/up");
    conflicts(&cluster.write_node_status("n1", "7", &NodeLiveUpdateStatus::default()).await);
    assert!(version("/nodeliveupdates/n1/status").starts_with("PUT "));
    let lease = LeaseObject { version: "7".into(), ..LeaseObject::default() };
    conflicts(&cluster.write_lease(&lease).await);
    assert!(version("/leases/liveupdate-controller").starts_with("PUT "));
}

/// A Lease that nobody has made is made, and never put over one that came up meanwhile.
#[tokio::test]
async fn invariant_5_a_first_lease_is_created_and_not_replaced() {
    let wire = Sent::default();
    conflicts(&wire.cluster().write_lease(&LeaseObject::default()).await);
    let (line, body) = wire.only();
    assert_eq!(line, "POST /apis/coordination.k8s.io/v1/namespaces/liveupdate-system/leases");
    assert_eq!(body["metadata"]["resourceVersion"], Value::Null);
}

/// A fleet is more than one page, and a status that nobody can read has no say.
#[tokio::test]
async fn invariant_5_the_epochs_of_all_nodes_are_read_page_by_page() {
    let object = |status: Value| {
        json!({"apiVersion": "liveupdate.dev/v1alpha1", "kind": "NodeLiveUpdate", "metadata": {"name": "n"}, "spec": {},
            "status": status})
    };
    let epoch =
        |counter: u32| object(json!({"epoch": {"cluster": "c", "counter": counter}, "state": "Idle"}));
    let pages = [vec![epoch(7), object(json!({}))], vec![object(json!({"epoch": "seven"})), epoch(13)]];
    let service = tower::service_fn(move |request: Request<Body>| {
        assert_eq!(request.uri().path(), NODE_UPDATES);
        let query = request.uri().query().unwrap_or_default();
        assert!(query.contains("limit="), "{query}");
        let second = query.contains("continue=more");
        let token = if second { "" } else { "more" };
        let list = json!({
            "apiVersion": "liveupdate.dev/v1alpha1", "kind": "NodeLiveUpdateList",
            "metadata": {"resourceVersion": "1", "continue": token}, "items": pages[usize::from(second)],
        });
        let body = Body::from(list.to_string().into_bytes());
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(body)))
    });
    let cluster = Kubernetes::new(Client::new(service, "default"), "namespace", "lease", "a");
    let found: Vec<i64> =
        cluster.list_node_epochs().await.unwrap().iter().map(|epoch| epoch.counter).collect();
    assert_eq!(found, [7, 13]);
}

/// What was left by an earlier node of the name is deleted by its UID: not the one that came after it.
#[tokio::test]
async fn invariant_7_what_is_deleted_is_named_by_its_uid() {
    let wire = Sent::default();
    conflicts(&wire.cluster().delete_node_update("n1", "left").await);
    let (line, body) = wire.only();
    assert!(line.starts_with("DELETE ") && line.ends_with("/nodeliveupdates/n1"), "{line}");
    assert_eq!(body["preconditions"]["uid"], "left");
}

/// The server answers a failed test of a JSON patch as it answers an invalid object.
#[tokio::test]
async fn a_node_patch_is_sent_whole_and_a_conflict_is_one() {
    let wire = Sent::default();
    let change = NodeChange {
        name: "n1".into(),
        version: "7".into(),
        taints: Vec::new(),
        has_annotations: true,
        has_mark: false,
        mark: None,
    };
    conflicts(&wire.cluster().change_node(&change).await);
    let (line, body) = wire.only();
    assert_eq!(line, "PATCH /api/v1/nodes/n1");
    assert_eq!(body[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"}));
}
