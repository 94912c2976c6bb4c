//! Objects as they come over the wire, parsed lightly: only the fields that are kept are ever allocated, and
//! a part that cannot be read spoils neither the object nor the watch (invariant 9).

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time as WireTime};
use liveupdate_crds::{AGENT_ADDRESS_ANNOTATION, Epoch, GROUP, MARK_ANNOTATION, TAINT_KEY};
use liveupdate_planner::{Mark, Text, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::agents::check::plain;
use crate::cluster::objects::{NodeObject, NodeStatusDigest, NodeUpdateObject, PolicyObject, UpdateObject};

/// An object with its parts unread. `P` says which kind it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub(super) struct Wire<P> {
    #[serde(deserialize_with = "lean")]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<Box<RawValue>>,
    #[serde(skip)]
    kind: std::marker::PhantomData<P>,
}

/// Which kind, and what is kept of it.
pub(super) trait Kept: Clone + std::fmt::Debug + Send + Sync + 'static {
    const GROUP: &'static str;
    const VERSION: &'static str;
    const KIND: &'static str;
    const PLURAL: &'static str;
    type Object;
    fn keep(wire: Wire<Self>) -> Self::Object;
}

impl<P: Kept> kube::Resource for Wire<P> {
    type DynamicType = ();
    type Scope = k8s_openapi::ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        P::KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        P::GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        P::VERSION.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        P::PLURAL.into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<P: Kept> Wire<P> {
    pub(super) fn name(&self) -> String {
        self.metadata.name.clone().unwrap_or_default()
    }

    pub(super) fn keep(self) -> P::Object {
        P::keep(self)
    }
}

/// Reads metadata without managed fields, which are larger than all the rest.
fn lean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Lean {
        name: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        creation_timestamp: Option<WireTime>,
        deletion_timestamp: Option<WireTime>,
        labels: Option<BTreeMap<String, String>>,
        annotations: Option<BTreeMap<String, String>>,
        finalizers: Option<Vec<String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let lean = Lean::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: lean.name,
        uid: lean.uid,
        resource_version: lean.resource_version,
        generation: lean.generation,
        creation_timestamp: lean.creation_timestamp,
        deletion_timestamp: lean.deletion_timestamp,
        labels: lean.labels,
        annotations: lean.annotations,
        finalizers: lean.finalizers,
        owner_references: lean.owner_references,
        ..ObjectMeta::default()
    })
}

fn time(wire: Option<&WireTime>) -> Time {
    Time(wire.map_or(0, |time| time.0.as_millisecond()))
}

fn part<T: DeserializeOwned + Default>(raw: Option<&RawValue>, what: &str) -> Result<T, String> {
    raw.map_or_else(
        || Ok(T::default()),
        |raw| serde_json::from_str(raw.get()).map_err(|error| format!("{what} cannot be read: {error}")),
    )
}

/// `LiveUpdate`.
#[derive(Clone, Debug)]
pub(super) enum Update {}

impl Kept for Update {
    const GROUP: &'static str = GROUP;
    const VERSION: &'static str = "v1alpha1";
    const KIND: &'static str = "LiveUpdate";
    const PLURAL: &'static str = "liveupdates";
    type Object = UpdateObject;

    fn keep(wire: Wire<Self>) -> UpdateObject {
        let spec = match &wire.spec {
            None => Err("it has no spec".to_owned()),
            Some(raw) => {
                serde_json::from_str(raw.get()).map_err(|error| format!("spec cannot be read: {error}"))
            }
        };
        let status = part(wire.status.as_deref(), "status");
        let meta = wire.metadata;
        let ours = |key: &str| key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
        UpdateObject {
            created: time(meta.creation_timestamp.as_ref()),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            version: meta.resource_version.unwrap_or_default(),
            generation: meta.generation.unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.unwrap_or_default(),
            annotations: meta.annotations.into_iter().flatten().filter(|(key, _)| ours(key)).collect(),
            spec,
            status,
        }
    }
}

/// `LiveUpdatePolicy`.
#[derive(Clone, Debug)]
pub(super) enum Policy {}

impl Kept for Policy {
    const GROUP: &'static str = GROUP;
    const VERSION: &'static str = "v1alpha1";
    const KIND: &'static str = "LiveUpdatePolicy";
    const PLURAL: &'static str = "liveupdatepolicies";
    type Object = PolicyObject;

    fn keep(wire: Wire<Self>) -> PolicyObject {
        let spec = match &wire.spec {
            None => Err("it has no spec".to_owned()),
            Some(raw) => {
                serde_json::from_str(raw.get()).map_err(|error| format!("spec cannot be read: {error}"))
            }
        };
        PolicyObject { name: wire.metadata.name.unwrap_or_default(), spec }
    }
}

/// `NodeLiveUpdate`.
#[derive(Clone, Debug)]
pub(super) enum NodeUpdate {}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeUpdateStatus {
    node_uid: String,
    kernel: String,
    previous_kernel: String,
    state: String,
    reason: String,
    message: String,
    update: Option<UpdateRef>,
    revision: String,
    attempt: String,
    claimed_attempt: String,
    aborts: i64,
    last_failure: String,
    verified_at: Option<WireTime>,
    blackout: String,
    blackout_ms: Option<i64>,
    devices: Vec<Device>,
}

#[derive(Deserialize)]
struct UpdateRef {
    uid: String,
}

#[derive(Deserialize)]
struct Device {
    #[serde(default)]
    outcome: Option<String>,
}

impl Kept for NodeUpdate {
    const GROUP: &'static str = GROUP;
    const VERSION: &'static str = "v1alpha1";
    const KIND: &'static str = "NodeLiveUpdate";
    const PLURAL: &'static str = "nodeliveupdates";
    type Object = NodeUpdateObject;

    fn keep(wire: Wire<Self>) -> NodeUpdateObject {
        let status = part::<NodeUpdateStatus>(wire.status.as_deref(), "status");
        let malformed = status.as_ref().err().cloned();
        let status = status.unwrap_or_default();
        let meta = wire.metadata;
        let owner = meta.owner_references.into_iter().flatten().find(|owner| owner.kind == "Node");
        let mut outcomes = BTreeMap::new();
        for word in status.devices.into_iter().filter_map(|device| device.outcome) {
            *outcomes.entry(word).or_insert(0) += 1;
        }
        NodeUpdateObject {
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            version: meta.resource_version.unwrap_or_default(),
            owner_uid: owner.map(|owner| owner.uid).unwrap_or_default(),
            claimed_attempt: status.claimed_attempt,
            status: NodeStatusDigest {
                node_uid: status.node_uid,
                kernel: status.kernel,
                previous_kernel: status.previous_kernel,
                blocked: if status.state == "Blocked" { status.message } else { String::new() },
                state: status.state,
                reason: status.reason,
                update_uid: status.update.map(|update| update.uid).unwrap_or_default(),
                revision: status.revision,
                attempt: status.attempt,
                aborts: u32::try_from(status.aborts).unwrap_or(0),
                last_failure: status.last_failure,
                verified_at: status.verified_at.map(|at| time(Some(&at))),
                blackout_ms: status.blackout_ms.and_then(|ms| u64::try_from(ms).ok()),
                simulated: status.blackout.contains("simulated"),
                outcomes,
            },
            malformed,
        }
    }
}

/// `NodeLiveUpdate`, of which nothing but the leadership is kept that wrote its status.
#[derive(Clone, Debug)]
pub(super) enum NodeEpoch {}

impl Kept for NodeEpoch {
    const GROUP: &'static str = NodeUpdate::GROUP;
    const VERSION: &'static str = NodeUpdate::VERSION;
    const KIND: &'static str = NodeUpdate::KIND;
    const PLURAL: &'static str = NodeUpdate::PLURAL;
    type Object = Option<Epoch>;

    fn keep(wire: Wire<Self>) -> Option<Epoch> {
        #[derive(Default, Deserialize)]
        struct Status {
            epoch: Option<Epoch>,
        }
        part::<Status>(wire.status.as_deref(), "status").ok()?.epoch
    }
}

/// Node.
#[derive(Clone, Debug)]
pub(super) enum Node {}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSpec {
    taints: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeStatus {
    node_info: Option<NodeInfo>,
    addresses: Vec<Address>,
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeInfo {
    #[serde(rename = "bootID")]
    boot_id: String,
    kernel_version: String,
}

#[derive(Deserialize)]
struct Address {
    r#type: String,
    address: String,
}

#[derive(Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

/// So much is told of an annotation's value.
const VALUE: usize = 128;

/// Signs of other actors: an annotation that is there with the value, or with any.
const FOREIGN: [(&str, Option<&str>, &str); 2] = [
    ("machineconfiguration.openshift.io/state", Some("Working"), "the machine config operator"),
    ("weave.works/kured-reboot-in-progress", None, "kured"),
];

/// Taints of other actors that mean work in progress.
const FOREIGN_TAINTS: [(&str, &str); 3] = [
    ("medik8s.io/remediation", "a Medik8s remediation"),
    ("ToBeDeletedByClusterAutoscaler", "the cluster autoscaler (the node is to be deleted)"),
    ("karpenter.sh/disrupted", "Karpenter (the node is to be deleted)"),
];

impl Kept for Node {
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const KIND: &'static str = "Node";
    const PLURAL: &'static str = "nodes";
    type Object = NodeObject;

    fn keep(wire: Wire<Self>) -> NodeObject {
        let spec = part::<NodeSpec>(wire.spec.as_deref(), "spec");
        let status = part::<NodeStatus>(wire.status.as_deref(), "status");
        let mut malformed = spec.as_ref().err().or(status.as_ref().err()).cloned();
        let (spec, status) = (spec.unwrap_or_default(), status.unwrap_or_default());
        let meta = wire.metadata;
        let labels = meta.labels.unwrap_or_default();
        let annotations = meta.annotations.unwrap_or_default();
        let (release, boot_id) =
            status.node_info.map_or_else(Default::default, |info| (info.kernel_version, info.boot_id));
        if malformed.is_none() && (release.is_empty() || boot_id.is_empty()) {
            malformed = Some(
                "status.nodeInfo says no kernelVersion and bootID: its kubelet has not reported yet"
                    .to_owned(),
            );
        }
        let taint_key = |taint: &serde_json::Value| {
            taint.get("key").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
        };
        let foreign = foreign(&annotations).or_else(|| {
            let keys: Vec<String> = spec.taints.iter().map(taint_key).collect();
            FOREIGN_TAINTS
                .iter()
                .find(|(key, _)| keys.iter().any(|k| k == key))
                .map(|(key, who)| format!("{who} is at work on it (taint {key})"))
        });
        let tainted = spec.taints.iter().any(|taint| taint_key(taint) == TAINT_KEY);
        let annotation = annotations.get(MARK_ANNOTATION);
        let mark = match (tainted, annotation.and_then(|text| text.split_once('/'))) {
            (true, Some((update, attempt))) => {
                Some(Mark { update_uid: Text::copy(update), attempt: Text::copy(attempt) })
            }
            // Half of a mark is the mark of nobody: it is cleaned up, and nothing starts on it.
            (true, None) | (false, Some(_)) => {
                Some(Mark { update_uid: Text::default(), attempt: Text::default() })
            }
            (false, None) => None,
        };
        NodeObject {
            created: time(meta.creation_timestamp.as_ref()),
            name: meta.name.unwrap_or_default(),
            uid: meta.uid.unwrap_or_default(),
            version: meta.resource_version.unwrap_or_default(),
            ready: status.conditions.iter().any(|c| c.r#type == "Ready" && c.status == "True"),
            release,
            boot_id,
            internal_ip: status
                .addresses
                .into_iter()
                .find(|address| address.r#type == "InternalIP")
                .map(|address| address.address),
            agent_address: annotations.get(AGENT_ADDRESS_ANNOTATION).cloned(),
            mark,
            has_mark: annotation.is_some(),
            taints: spec.taints,
            has_annotations: !annotations.is_empty(),
            labels,
            foreign,
            malformed,
        }
    }
}

fn foreign(annotations: &BTreeMap<String, String>) -> Option<String> {
    FOREIGN.iter().find_map(|(key, value, who)| {
        let found = annotations.get(*key)?;
        // Whatever the node's own kubelet writes there, it is told of in the statuses of updates.
        let told = || format!("{who} is at work on it ({key}: {})", plain(found, VALUE));
        value.is_none_or(|value| found == value).then(told)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: &str) -> NodeObject {
        serde_json::from_str::<Wire<Node>>(json).unwrap().keep()
    }

    #[test]
    fn a_node_is_pruned_to_what_decides_something() {
        let node = node(
            r#"{"metadata":{"name":"a","uid":"u","resourceVersion":"7","creationTimestamp":"2026-01-01T00:00:00Z",
                "managedFields":[{"manager":"kubelet"}],
                "annotations":{"liveupdate.dev/mark":"lu/r1-u-1"},"labels":{"pool":"x"}},
               "spec":{"taints":[{"key":"liveupdate.dev/updating","value":"k","effect":"NoSchedule"}]},
               "status":{"nodeInfo":{"bootID":"b","kernelVersion":"7.3"},
                 "addresses":[{"type":"Hostname","address":"a"},{"type":"InternalIP","address":"127.1.0.1"}],
                 "conditions":[{"type":"Ready","status":"True"}],
                 "images":[{"names":["x"],"sizeBytes":1}]}}"#,
        );
        assert_eq!((node.name.as_str(), node.version.as_str()), ("a", "7"));
        assert_eq!((node.release.as_str(), node.boot_id.as_str()), ("7.3", "b"));
        assert!(node.ready && node.has_mark && node.malformed.is_none());
        assert_eq!(node.mark, Some(Mark { update_uid: "lu".into(), attempt: "r1-u-1".into() }));
        assert_eq!(node.internal_ip.as_deref(), Some("127.1.0.1"));
    }

    #[test]
    fn invariant_9_a_malformed_part_is_a_reason_and_not_an_error() {
        let bad = node(r#"{"metadata":{"name":"a","uid":"u"},"status":{"conditions":"none"}}"#);
        assert!(bad.malformed.unwrap().contains("status cannot be read"));
        let update: Wire<Update> =
            serde_json::from_str(r#"{"metadata":{"name":"a"},"spec":{"target":5}}"#).unwrap();
        let update = update.keep();
        assert!(update.spec.unwrap_err().contains("spec cannot be read"));
        assert!(update.status.is_ok());
    }

    #[test]
    fn a_node_without_node_info_says_so() {
        let bad = node(r#"{"metadata":{"name":"a","uid":"u"}}"#);
        assert!(bad.malformed.unwrap().contains("bootID"));
    }

    #[test]
    fn work_of_others_is_seen() {
        let busy = node(
            r#"{"metadata":{"name":"a","annotations":{"machineconfiguration.openshift.io/state":"Working"}}}"#,
        );
        assert!(busy.foreign.unwrap().contains("machine config operator"));
        let done = node(
            r#"{"metadata":{"name":"a","annotations":{"machineconfiguration.openshift.io/state":"Done"}}}"#,
        );
        assert_eq!(done.foreign, None);
    }

    #[test]
    fn what_others_write_on_a_node_is_told_short_and_plain() {
        let value = "\u{1}2026-01-01T00:00:00Z".repeat(10_000);
        let metadata =
            serde_json::json!({"name": "a", "annotations": {"weave.works/kured-reboot-in-progress": value}});
        let told = node(&serde_json::json!({ "metadata": metadata }).to_string()).foreign.unwrap();
        assert!(told.contains("kured is at work on it") && told.contains("2026-01-01"), "{told}");
        assert!(told.len() < 256 && !told.contains('\u{1}'), "{told:?}");
    }
}
