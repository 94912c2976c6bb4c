//! An API server in memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;

use futures::stream::{LocalBoxStream, StreamExt};
use liveupdate_controller::clock::Clock;
use liveupdate_controller::cluster::{
    Change, Cluster, ClusterError, LeaseObject, NodeChange, NodeObject, NodeUpdateObject, Note, Observed,
    PolicyObject, Result, UpdateObject,
};
use liveupdate_crds::{Epoch, LiveUpdateStatus, NodeLiveUpdateStatus};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::TestClock;
use super::digest::digest;
use super::fence::fence;

/// What happens at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The writer dies before it.
    Before,
    /// The writer dies after it, and never learns that it succeeded.
    After,
    /// Somebody else changes the object first.
    Conflict,
}

#[derive(Default)]
struct State {
    version: u64,
    nodes: BTreeMap<String, NodeObject>,
    updates: BTreeMap<String, UpdateObject>,
    node_updates: BTreeMap<String, NodeUpdateObject>,
    node_epochs: BTreeMap<String, Epoch>,
    policies: BTreeMap<String, PolicyObject>,
    lease: Option<LeaseObject>,
    node_leases: BTreeMap<String, u64>,
    watchers: Vec<UnboundedSender<Observed>>,
    writes: Vec<String>,
    notes: Vec<Note>,
}

pub struct FakeCluster {
    state: RefCell<State>,
    clock: TestClock,
    strike: Cell<Option<(usize, Strike)>>,
    /// The API server does not answer.
    pub down: Cell<bool>,
    /// Writes whose description begins so fail.
    pub stuck: Cell<&'static str>,
    dead: Cell<bool>,
    /// Most nodes with our mark at a time.
    pub most_marked: Cell<usize>,
}

impl FakeCluster {
    pub fn new(clock: TestClock) -> Self {
        Self {
            state: RefCell::default(),
            clock,
            strike: Cell::new(None),
            down: Cell::new(false),
            stuck: Cell::new("nothing"),
            dead: Cell::new(false),
            most_marked: Cell::new(0),
        }
    }

    fn next(&self) -> String {
        let mut state = self.state.borrow_mut();
        state.version += 1;
        state.version.to_string()
    }

    fn tell(&self, observed: &Observed) {
        self.state.borrow_mut().watchers.retain(|watcher| watcher.send(observed.clone()).is_ok());
    }

    /// Strikes at the write with this number, counted from 0.
    pub fn strike(&self, write: usize, strike: Strike) {
        self.strike.set(Some((write, strike)));
    }

    pub fn revive(&self) {
        self.dead.set(false);
        self.state.borrow_mut().watchers.clear();
    }

    /// The writer died.
    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    pub fn writes(&self) -> Vec<String> {
        self.state.borrow().writes.clone()
    }

    pub fn notes(&self) -> Vec<Note> {
        self.state.borrow().notes.clone()
    }

    /// Runs a write: counts it, and lets it be struck.
    async fn write<T>(&self, what: String, apply: impl FnOnce() -> Result<T>) -> Result<T> {
        // As over a network: nobody gets an answer in the same instant.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        if self.dead.get() {
            return std::future::pending().await;
        }
        if self.down.get() || what.starts_with(self.stuck.get()) {
            return Err(ClusterError::Unavailable { what, message: "connection refused".into() });
        }
        let number = self.state.borrow().writes.len();
        let strike = self.strike.get().filter(|(at, _)| *at == number).map(|(_, strike)| strike);
        self.state.borrow_mut().writes.push(what.clone());
        match strike {
            None => apply(),
            Some(Strike::Conflict) => {
                self.strike.set(None);
                Err(ClusterError::Conflict { what })
            }
            Some(Strike::Before) => {
                self.dead.set(true);
                std::future::pending().await
            }
            Some(Strike::After) => {
                let _ = apply();
                self.dead.set(true);
                std::future::pending().await
            }
        }
    }

    pub fn add_node(&self, name: &str, uid: &str) {
        let node = NodeObject {
            name: name.into(),
            uid: uid.into(),
            version: self.next(),
            created: liveupdate_planner::Time(super::EPOCH_MS),
            labels: BTreeMap::new(),
            ready: true,
            release: "6.12.0".into(),
            boot_id: format!("boot-{uid}-0"),
            internal_ip: Some("127.1.0.1".into()),
            agent_address: None,
            mark: None,
            has_mark: false,
            taints: Vec::new(),
            has_annotations: false,
            foreign: None,
            malformed: None,
        };
        self.state.borrow_mut().nodes.insert(name.into(), node.clone());
        self.tell(&Observed::Node(Change::Applied(node)));
    }

    /// Changes a Node as its kubelet or a person would.
    pub fn edit_node(&self, name: &str, edit: impl FnOnce(&mut NodeObject)) {
        let version = self.next();
        let mut state = self.state.borrow_mut();
        let Some(node) = state.nodes.get_mut(name) else { return };
        edit(node);
        node.version = version;
        let node = node.clone();
        drop(state);
        self.tell(&Observed::Node(Change::Applied(node)));
    }

    pub fn remove_node(&self, name: &str) {
        self.state.borrow_mut().nodes.remove(name);
        self.state.borrow_mut().node_updates.remove(name);
        self.state.borrow_mut().node_epochs.remove(name);
        self.tell(&Observed::NodeUpdate(Change::Deleted(name.into())));
        self.tell(&Observed::Node(Change::Deleted(name.into())));
    }

    pub fn node(&self, name: &str) -> NodeObject {
        self.state.borrow().nodes[name].clone()
    }

    pub fn node_update(&self, name: &str) -> Option<NodeUpdateObject> {
        self.state.borrow().node_updates.get(name).cloned()
    }

    /// Nodes that carry our mark.
    pub fn marked(&self) -> Vec<String> {
        let state = self.state.borrow();
        state.nodes.values().filter(|n| n.mark.is_some()).map(|n| n.name.clone()).collect()
    }

    pub fn renew_lease(&self, node: &str) {
        *self.state.borrow_mut().node_leases.entry(node.into()).or_insert(0) += 1;
    }

    pub fn apply(&self, name: &str, spec: serde_json::Value) {
        self.apply_read(name, serde_json::from_value(spec).map_err(|error| error.to_string()));
    }

    pub fn apply_read(&self, name: &str, spec: std::result::Result<liveupdate_crds::LiveUpdateSpec, String>) {
        let version = self.next();
        let mut state = self.state.borrow_mut();
        let old = state.updates.get(name).cloned();
        let update = UpdateObject {
            name: name.into(),
            uid: old.as_ref().map_or(format!("uid-of-{name}"), |old| old.uid.clone()),
            version,
            generation: old.as_ref().map_or(1, |old| old.generation + 1),
            created: old.as_ref().map_or(self.clock.now(), |old| old.created),
            deleting: false,
            finalizers: old.as_ref().map(|old| old.finalizers.clone()).unwrap_or_default(),
            annotations: old.as_ref().map(|old| old.annotations.clone()).unwrap_or_default(),
            spec,
            status: old.map_or_else(|| Ok(LiveUpdateStatus::default()), |old| old.status),
        };
        state.updates.insert(name.into(), update.clone());
        drop(state);
        self.tell(&Observed::Update(Change::Applied(update)));
    }

    pub fn edit_update(&self, name: &str, edit: impl FnOnce(&mut UpdateObject)) {
        let version = self.next();
        let mut state = self.state.borrow_mut();
        let Some(update) = state.updates.get_mut(name) else { return };
        edit(update);
        update.version = version;
        let gone = update.deleting && update.finalizers.is_empty();
        let update = update.clone();
        if gone {
            state.updates.remove(name);
        }
        drop(state);
        let change = if gone { Change::Deleted(update.name) } else { Change::Applied(update) };
        self.tell(&Observed::Update(change));
    }

    pub fn update(&self, name: &str) -> UpdateObject {
        self.state.borrow().updates[name].clone()
    }

    pub fn has_update(&self, name: &str) -> bool {
        self.state.borrow().updates.contains_key(name)
    }

    pub fn steal_lease(&self, holder: &str) {
        let version = self.next();
        let mut state = self.state.borrow_mut();
        let lease = state.lease.get_or_insert_default();
        lease.holder = holder.into();
        lease.epoch += 1;
        lease.version = version;
    }

    pub fn delete_lease(&self) {
        self.state.borrow_mut().lease = None;
    }

    pub fn lease(&self) -> LeaseObject {
        self.state.borrow().lease.clone().unwrap_or_default()
    }

    pub fn dump(&self) -> String {
        let state = self.state.borrow();
        let mut text = String::new();
        for update in state.updates.values() {
            let _ = writeln!(text, "{} {:?}", update.name, update.status);
        }
        for node in state.nodes.values() {
            let nlu = state.node_updates.get(&node.name).map(|n| (&n.claimed_attempt, &n.status));
            let _ = writeln!(text, "{} {} {:?} {:?}", node.name, node.release, node.mark, nlu);
        }
        text
    }

    fn put_update(
        &self,
        name: &str,
        version: Option<&str>,
        change: impl FnOnce(&mut UpdateObject) -> Result<()>,
    ) -> Result<UpdateObject> {
        let what = format!("LiveUpdate {name}");
        let Some(mut update) = self.state.borrow().updates.get(name).cloned() else {
            return Err(ClusterError::NotFound { what });
        };
        if version.is_some_and(|version| version != update.version) {
            return Err(ClusterError::Conflict { what });
        }
        change(&mut update)?;
        self.edit_update(name, |stored| *stored = update.clone());
        // Gone when its last finalizer went.
        Ok(self.state.borrow().updates.get(name).cloned().unwrap_or(update))
    }

    fn put_node_update(
        &self,
        name: &str,
        version: &str,
        change: impl FnOnce(&mut NodeUpdateObject),
    ) -> Result<NodeUpdateObject> {
        let what = format!("NodeLiveUpdate {name}");
        let Some(mut object) = self.state.borrow().node_updates.get(name).cloned() else {
            return Err(ClusterError::NotFound { what });
        };
        if version != object.version {
            return Err(ClusterError::Conflict { what });
        }
        change(&mut object);
        object.version = self.next();
        self.state.borrow_mut().node_updates.insert(name.into(), object.clone());
        self.tell(&Observed::NodeUpdate(Change::Applied(object.clone())));
        Ok(object)
    }
}

impl Cluster for FakeCluster {
    async fn identity(&self) -> Result<String> {
        Ok("cluster".into())
    }

    fn observe(&self) -> LocalBoxStream<'static, Observed> {
        let (sender, receiver) = unbounded_channel();
        let send = |observed| {
            let _ = sender.send(observed);
        };
        let state = self.state.borrow();
        send(Observed::Node(Change::Restarted));
        state.nodes.values().cloned().for_each(|o| send(Observed::Node(Change::Listed(o))));
        send(Observed::Node(Change::Complete));
        send(Observed::Update(Change::Restarted));
        state.updates.values().cloned().for_each(|o| send(Observed::Update(Change::Listed(o))));
        send(Observed::Update(Change::Complete));
        send(Observed::NodeUpdate(Change::Restarted));
        state.node_updates.values().cloned().for_each(|o| send(Observed::NodeUpdate(Change::Listed(o))));
        send(Observed::NodeUpdate(Change::Complete));
        send(Observed::Policy(Change::Restarted));
        state.policies.values().cloned().for_each(|o| send(Observed::Policy(Change::Listed(o))));
        send(Observed::Policy(Change::Complete));
        drop(state);
        self.state.borrow_mut().watchers.push(sender);
        UnboundedReceiverStream::new(receiver).boxed_local()
    }

    async fn read_lease(&self) -> Result<Option<LeaseObject>> {
        Ok(self.state.borrow().lease.clone())
    }

    async fn write_lease(&self, lease: &LeaseObject) -> Result<LeaseObject> {
        let what = "Lease".to_owned();
        if self.down.get() {
            return Err(ClusterError::Unavailable { what, message: "connection refused".into() });
        }
        let found = self.state.borrow().lease.as_ref().map(|l| l.version.clone()).unwrap_or_default();
        if found != lease.version {
            return Err(ClusterError::Conflict { what });
        }
        let written = LeaseObject { version: self.next(), ..lease.clone() };
        self.state.borrow_mut().lease = Some(written.clone());
        Ok(written)
    }

    async fn list_updates(&self) -> Result<Vec<UpdateObject>> {
        Ok(self.state.borrow().updates.values().cloned().collect())
    }

    async fn list_node_epochs(&self) -> Result<Vec<Epoch>> {
        Ok(self.state.borrow().node_epochs.values().cloned().collect())
    }

    async fn stamp_epoch(&self, update: &str, epoch: &Epoch) -> Result<UpdateObject> {
        self.write(format!("stamp {update}"), || {
            self.put_update(update, None, |object| {
                let Ok(status) = &mut object.status else { return Ok(()) };
                fence("LiveUpdate", status.epoch.as_ref(), Some(epoch))?;
                status.epoch = Some(epoch.clone());
                Ok(())
            })
        })
        .await
    }

    async fn write_update_status(
        &self,
        update: &str,
        version: &str,
        status: &LiveUpdateStatus,
    ) -> Result<UpdateObject> {
        self.write(format!("status {update}"), || {
            self.put_update(update, Some(version), |object| {
                let before = object.status.as_ref().ok().and_then(|s| s.epoch.as_ref());
                fence("LiveUpdate", before, status.epoch.as_ref())?;
                // Through JSON, so that what the wire loses is lost here, too.
                let text = serde_json::to_string(status).unwrap();
                object.status = Ok(serde_json::from_str(&text).unwrap());
                Ok(())
            })
        })
        .await
    }

    async fn write_finalizers(
        &self,
        update: &str,
        version: &str,
        finalizers: &[String],
    ) -> Result<UpdateObject> {
        self.write(format!("finalizers {update}"), || {
            self.put_update(update, Some(version), |object| {
                object.finalizers = finalizers.to_vec();
                Ok(())
            })
        })
        .await
    }

    async fn create_node_update(&self, node: &str, node_uid: &str) -> Result<NodeUpdateObject> {
        self.write(format!("create {node}"), || {
            if self.state.borrow().node_updates.contains_key(node) {
                return Err(ClusterError::Conflict { what: format!("NodeLiveUpdate {node}") });
            }
            let object = NodeUpdateObject {
                name: node.into(),
                uid: format!("nlu-{}", self.next()),
                version: self.next(),
                owner_uid: node_uid.into(),
                ..NodeUpdateObject::default()
            };
            self.state.borrow_mut().node_updates.insert(node.into(), object.clone());
            self.tell(&Observed::NodeUpdate(Change::Applied(object.clone())));
            Ok(object)
        })
        .await
    }

    async fn delete_node_update(&self, node: &str, _: &str) -> Result<()> {
        self.write(format!("delete {node}"), || {
            self.state.borrow_mut().node_updates.remove(node);
            self.state.borrow_mut().node_epochs.remove(node);
            self.tell(&Observed::NodeUpdate(Change::Deleted(node.into())));
            Ok(())
        })
        .await
    }

    async fn write_node_status(
        &self,
        node: &str,
        version: &str,
        status: &NodeLiveUpdateStatus,
    ) -> Result<NodeUpdateObject> {
        self.write(format!("state {node} {} {}", status.state, status.reason), || {
            let before = self.state.borrow().node_epochs.get(node).cloned();
            fence("NodeLiveUpdate", before.as_ref(), status.epoch.as_ref())?;
            let written = self.put_node_update(node, version, |object| {
                object.claimed_attempt.clone_from(&status.claimed_attempt);
                object.status = digest(status);
            })?;
            self.state
                .borrow_mut()
                .node_epochs
                .extend(status.epoch.clone().map(|epoch| (node.into(), epoch)));
            Ok(written)
        })
        .await
    }

    async fn change_node(&self, change: &NodeChange) -> Result<()> {
        let word = if change.mark.is_some() { "mark" } else { "unmark" };
        self.write(format!("{word} {}", change.name), || {
            let what = format!("Node {}", change.name);
            let found = self.state.borrow().nodes.get(&change.name).cloned();
            let Some(node) = found else { return Err(ClusterError::NotFound { what }) };
            if node.version != change.version {
                return Err(ClusterError::Conflict { what });
            }
            self.edit_node(&change.name, |node| {
                node.mark = change.mark.as_ref().map(|(_, mark)| mark.clone());
                node.has_mark = node.mark.is_some();
            });
            self.most_marked.set(self.most_marked.get().max(self.marked().len()));
            Ok(())
        })
        .await
    }

    async fn read_node_lease(&self, node: &str) -> Result<Option<String>> {
        Ok(self.state.borrow().node_leases.get(node).map(ToString::to_string))
    }

    async fn record(&self, note: &Note) -> Result<()> {
        self.state.borrow_mut().notes.push(note.clone());
        Ok(())
    }
}
