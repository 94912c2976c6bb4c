//! The Kubernetes API as the controller needs it: a trait, so that a simulation can stand in for it.

use std::future::Future;

use futures::stream::LocalBoxStream;
use liveupdate_crds::{LiveUpdateStatus, NodeLiveUpdateStatus};
use liveupdate_planner::Mark;

pub mod error;
pub mod kubernetes;
pub mod objects;

pub use error::ClusterError;
pub use objects::{
    Change, LeaseObject, NodeObject, NodeStatusDigest, NodeUpdateObject, Observed, PolicyObject, UpdateObject,
};

/// Result of a call to the cluster.
pub type Result<T> = std::result::Result<T, ClusterError>;

/// How a Node is to be changed. Tested on its version and its taints: whoever changed it since wins.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeChange {
    /// As it was seen.
    pub name: String,
    /// As it was seen.
    pub version: String,
    /// As they were seen.
    pub taints: Vec<serde_json::Value>,
    /// As it was seen.
    pub has_annotations: bool,
    /// Our annotation was seen on it.
    pub has_mark: bool,
    /// Put our marks on (the update's name and the mark), or take them off.
    pub mark: Option<(String, Mark)>,
}

/// Something that happened, for people: an Event on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// On which object.
    pub about: About,
    /// One of the API's reasons.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Something went wrong.
    pub warning: bool,
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A `LiveUpdate`.
    Update {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// A Node.
    Node {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

/// The Kubernetes API. Writes return the object as the server then had it; none is ever retried here.
pub trait Cluster: 'static {
    /// UID of the namespace `kube-system`: which cluster this is.
    fn identity(&self) -> impl Future<Output = Result<String>>;
    /// All four kinds from a consistent list on, for ever: a watch that breaks starts again with a list.
    fn observe(&self) -> LocalBoxStream<'static, Observed>;

    /// The leader's Lease, if there is one.
    fn read_lease(&self) -> impl Future<Output = Result<Option<LeaseObject>>>;
    /// Writes it: makes it when its version is empty, else only if the version is still the same.
    fn write_lease(&self, lease: &LeaseObject) -> impl Future<Output = Result<LeaseObject>>;

    /// All updates by a consistent list.
    fn list_updates(&self) -> impl Future<Output = Result<Vec<UpdateObject>>>;
    /// The epochs in the statuses of all `NodeLiveUpdates`, by a consistent list.
    fn list_node_epochs(&self) -> impl Future<Output = Result<Vec<liveupdate_crds::Epoch>>>;
    /// Writes nothing but the epoch into an update's status.
    fn stamp_epoch(
        &self,
        update: &str,
        epoch: &liveupdate_crds::Epoch,
    ) -> impl Future<Output = Result<UpdateObject>>;
    /// Replaces an update's status if its version is still the same.
    fn write_update_status(
        &self,
        update: &str,
        version: &str,
        status: &LiveUpdateStatus,
    ) -> impl Future<Output = Result<UpdateObject>>;
    /// Replaces an update's finalizers if its version is still the same.
    fn write_finalizers(
        &self,
        update: &str,
        version: &str,
        finalizers: &[String],
    ) -> impl Future<Output = Result<UpdateObject>>;

    /// Makes the `NodeLiveUpdate` of a node, owned by it.
    fn create_node_update(
        &self,
        node: &str,
        node_uid: &str,
    ) -> impl Future<Output = Result<NodeUpdateObject>>;
    /// Deletes a `NodeLiveUpdate` that was left by an earlier node of the same name.
    fn delete_node_update(&self, node: &str, uid: &str) -> impl Future<Output = Result<()>>;
    /// Replaces its status if its version is still the same.
    fn write_node_status(
        &self,
        node: &str,
        version: &str,
        status: &NodeLiveUpdateStatus,
    ) -> impl Future<Output = Result<NodeUpdateObject>>;

    /// Changes our marks on a Node. The answer is not returned: only the watch shows a Node (invariant 1).
    fn change_node(&self, change: &NodeChange) -> impl Future<Output = Result<()>>;
    /// Version of a node's own Lease: another one means that it was renewed.
    fn read_node_lease(&self, node: &str) -> impl Future<Output = Result<Option<String>>>;
    /// Records an Event.
    fn record(&self, note: &Note) -> impl Future<Output = Result<()>>;
}
