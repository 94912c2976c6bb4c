//! The product's objects as a test writes, reads and awaits them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use liveupdate_crds::conditions::LiveUpdateCondition;
use liveupdate_crds::{
    LiveUpdate, LiveUpdatePolicy, LiveUpdatePolicySpec, LiveUpdateStatus, MARK_ANNOTATION, NodeLiveUpdate,
    NodeLiveUpdateStatus, TAINT_KEY, conditions,
};
use liveupdate_proto::causes::chain;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Testbed;
use crate::control_plane::Output;
use crate::wait::{self, Answer};
use crate::{Account, Error, Result, binaries};

/// Field manager of what tests write.
const MANAGER: &str = "liveupdate-lab";

impl Testbed {
    /// The API of a cluster-scoped kind, as the administrator.
    pub fn all<K: Resource<Scope = kube::core::ClusterResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Applies an update's spec, and its annotations.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn apply_update(&self, update: &LiveUpdate) -> Result<LiveUpdate> {
        self.apply(update).await
    }

    /// Applies the platform's policy.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn apply_policy(&self, spec: LiveUpdatePolicySpec) -> Result<LiveUpdatePolicy> {
        self.apply(&LiveUpdatePolicy::new("default", spec)).await
    }

    /// Places or lifts the policy's hold; the rest of the policy stays.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn hold(&self, hold: bool) -> Result<()> {
        let policies: Api<LiveUpdatePolicy> = self.all();
        let patch = serde_json::json!({ "spec": { "hold": hold } });
        let done = policies.patch("default", &PatchParams::default(), &Patch::Merge(patch)).await;
        done.map(drop).map_err(Error::api("patch LiveUpdatePolicy/default"))
    }

    async fn apply<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<Scope = kube::core::ClusterResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let name = object.meta().name.clone().unwrap_or_default();
        let params = PatchParams::apply(MANAGER).force();
        let apply = async || self.all::<K>().patch(&name, &params, &Patch::Apply(object)).await;
        let mut applied = apply().await;
        // A connection ends with the runtime of the test that made it. Applied twice is applied once.
        if matches!(applied, Err(kube::Error::Service(_))) {
            applied = apply().await;
        }
        applied.map_err(Error::api(format!("apply {}/{name}", K::kind(&()))))
    }

    /// Deletes an update; it may be there until its attempts have ended.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_update(&self, name: &str) -> Result<()> {
        let done = self.all::<LiveUpdate>().delete(name, &DeleteParams::default()).await;
        done.map(drop).map_err(Error::api(format!("delete LiveUpdate/{name}")))
    }

    /// Deletes an update and waits until it is gone.
    ///
    /// # Errors
    /// When it is still there at the deadline.
    pub async fn delete_update_and_wait(&self, name: &str, deadline: Duration) -> Result<()> {
        self.delete_update(name).await?;
        let updates: Api<LiveUpdate> = self.all();
        wait::until(&format!("the end of LiveUpdate/{name}"), deadline, async || {
            match updates.get_opt(name).await {
                Ok(None) => Ok(Answer::Yes(())),
                Ok(Some(update)) => Ok(Answer::not_yet(in_short(&update))),
                Err(error) => Ok(Answer::not_yet(error)),
            }
        })
        .await
    }

    /// An update.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn update(&self, name: &str) -> Result<LiveUpdate> {
        self.all().get(name).await.map_err(Error::api(format!("get LiveUpdate/{name}")))
    }

    /// A node's record.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn node_update(&self, node: &str) -> Result<NodeLiveUpdate> {
        self.all().get(node).await.map_err(Error::api(format!("get NodeLiveUpdate/{node}")))
    }

    /// All nodes' records.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn node_updates(&self) -> Result<Vec<NodeLiveUpdate>> {
        let list = self.all::<NodeLiveUpdate>().list(&ListParams::default()).await;
        list.map(|list| list.items).map_err(Error::api("list NodeLiveUpdates"))
    }

    /// A Node.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn node(&self, name: &str) -> Result<Node> {
        self.all().get(name).await.map_err(Error::api(format!("get Node/{name}")))
    }

    /// Waits until an update is as wanted, and returns it so. An API server that is away is waited for.
    ///
    /// # Errors
    /// At the deadline, with what it was last.
    pub async fn await_update(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&LiveUpdateStatus) -> bool,
    ) -> Result<LiveUpdate> {
        let updates: Api<LiveUpdate> = self.all();
        wait::until(&format!("LiveUpdate/{name}: {what}"), deadline, async || {
            Ok(match updates.get(name).await {
                Ok(update) if update.status.as_ref().is_some_and(&wanted) => Answer::Yes(update),
                Ok(update) => Answer::not_yet(in_short(&update)),
                Err(error) => Answer::not_yet(error),
            })
        })
        .await
    }

    /// Waits for the condition `Succeeded`.
    ///
    /// # Errors
    /// As [`Testbed::await_update`].
    pub async fn await_success(&self, name: &str, deadline: Duration) -> Result<LiveUpdate> {
        self.await_update(name, "Succeeded", deadline, |status| {
            is(&status.conditions, LiveUpdateCondition::Succeeded)
        })
        .await
    }

    /// Waits until nothing of an update that has ended is left anywhere: no attempt, no finalizer, no mark.
    ///
    /// # Errors
    /// As [`Testbed::await_update`].
    pub async fn await_rest(&self, name: &str, deadline: Duration) -> Result<LiveUpdate> {
        wait::until(&format!("LiveUpdate/{name}: nothing left of it"), deadline, async || {
            let (update, nodes) = (self.all::<LiveUpdate>().get(name).await, self.marked().await);
            Ok(match (update, nodes) {
                (Ok(update), Ok(marked)) => {
                    let finalizers = update.metadata.finalizers.clone().unwrap_or_default();
                    let flying = update.status.as_ref().is_none_or(|status| !status.in_flight.is_empty());
                    if flying || !marked.is_empty() || !finalizers.is_empty() {
                        Answer::not_yet(format!("{marked:?}, {finalizers:?}, {}", in_short(&update)))
                    } else {
                        Answer::Yes(update)
                    }
                }
                (Err(error), _) => Answer::not_yet(error),
                (_, Err(error)) => Answer::not_yet(chain(&error)),
            })
        })
        .await
    }

    /// The Nodes that carry our taint or our mark.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn marked(&self) -> Result<Vec<String>> {
        let nodes =
            self.all::<Node>().list(&ListParams::default()).await.map_err(Error::api("list Nodes"))?;
        let ours = |node: &&Node| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
            taints.iter().any(|taint| taint.key == TAINT_KEY)
                || node.annotations().contains_key(MARK_ANNOTATION)
        };
        Ok(nodes.items.iter().filter(ours).map(kube::ResourceExt::name_any).collect())
    }

    /// Waits until the controller has a record of each node of the fleet.
    ///
    /// # Errors
    /// As [`Testbed::await_update`].
    pub async fn await_known(&self, deadline: Duration) -> Result<()> {
        for node in self.fleet.nodes() {
            let known = |status: &NodeLiveUpdateStatus| !status.kernel.is_empty();
            self.await_node_update(node.name(), "known", deadline, known).await?;
        }
        Ok(())
    }

    /// By node: the attempts for which its machine jumped, the first one first.
    ///
    /// # Errors
    /// When a machine cannot be asked.
    pub fn jumps(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let nodes = self.fleet.nodes().map(|node| {
            let fail = |source| Error::Machine { node: node.name().to_owned(), source };
            Ok((node.name().to_owned(), node.world().jumps().map_err(fail)?))
        });
        nodes.collect()
    }

    /// Waits until a node's record is as wanted, and returns it so.
    ///
    /// # Errors
    /// As [`Testbed::await_update`].
    pub async fn await_node_update(
        &self,
        node: &str,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&NodeLiveUpdateStatus) -> bool,
    ) -> Result<NodeLiveUpdate> {
        let records: Api<NodeLiveUpdate> = self.all();
        wait::until(&format!("NodeLiveUpdate/{node}: {what}"), deadline, async || {
            Ok(match records.get(node).await {
                Ok(record) if record.status.as_ref().is_some_and(&wanted) => Answer::Yes(record),
                Ok(record) => {
                    let status = record.status.unwrap_or_default();
                    Answer::not_yet(format!("{} {}: {}", status.state, status.reason, status.message))
                }
                Err(error) => Answer::not_yet(error),
            })
        })
        .await
    }

    /// Runs the kubectl plugin as the administrator.
    ///
    /// # Errors
    /// When it cannot be built or started. A command that fails is no error here: see [`Output::code`].
    pub async fn plugin(&self, args: &[&str]) -> Result<Output> {
        let program =
            tokio::task::spawn_blocking(|| binaries::fresh("kubectl-liveupdate", "kubectl-liveupdate"));
        let program = program.await.map_err(|error| Error::Tools { reason: error.to_string() })??;
        self.plane.run_as(&program, &Account::admin(), args).await
    }
}

/// Whether a condition holds.
pub fn is(
    list: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    kind: LiveUpdateCondition,
) -> bool {
    conditions::find(list, kind).is_some_and(|condition| condition.status == "True")
}

fn in_short(update: &LiveUpdate) -> String {
    let Some(status) = &update.status else { return "no status".into() };
    let flying: Vec<_> = status.in_flight.iter().map(|entry| entry.attempt.as_str()).collect();
    format!("{}: {}; {:?}; in flight {flying:?}", status.state, status.summary, status.counts)
}
