//! What is known, kept in the form in which the planner reads it: a change of one object changes one entry,
//! and a pass converts nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use liveupdate_crds::{UpdateRef, verbs};
use liveupdate_planner::{Agent, Epoch, Node, Nodes, Policy, Snapshot, Text, Update};

use crate::cluster::objects::newer;
use crate::cluster::{Change, NodeObject, NodeUpdateObject, Observed, PolicyObject, UpdateObject};
use crate::convert::{self, record, spec::ReadSpec};

mod agent;
mod side;

pub use agent::Asked;
pub use side::{NodeSide, Seen, Session};

/// The policy's name.
const POLICY: &str = "default";

/// An update with what the planner does not need of it.
#[derive(Clone, Debug)]
pub struct UpdateSide {
    /// As it was observed.
    pub object: UpdateObject,
    /// Its spec, read.
    pub spec: Result<ReadSpec, String>,
    /// Verbs that cannot be read.
    pub problems: Vec<String>,
}

impl UpdateSide {
    /// A reference to it.
    pub fn reference(&self) -> UpdateRef {
        UpdateRef { name: self.object.name.clone(), uid: self.object.uid.clone() }
    }
}

/// Everything that was observed.
#[derive(Debug)]
pub struct World {
    /// For the planner.
    pub snapshot: Snapshot,
    /// Beside `snapshot.nodes`, in the same order.
    sides: Vec<NodeSide>,
    updates: BTreeMap<String, UpdateSide>,
    node_updates: HashMap<String, NodeUpdateObject>,
    policy: Option<PolicyObject>,
    policy_problem: Option<String>,
    /// Of each kind: what is in the list that is being read, and whether one was complete.
    lists: [List; 4],
    agent_port: u16,
    returned: Vec<String>,
    version: u64,
}

#[derive(Debug, Default)]
struct List {
    seen: Option<HashSet<String>>,
    complete: bool,
}

impl World {
    /// Nothing observed yet. `agent_port` is where agents are that say nothing else.
    pub fn new(epoch: Epoch, agent_port: u16) -> Self {
        Self {
            snapshot: Snapshot {
                epoch,
                policy: Policy::default(),
                updates: Vec::new(),
                nodes: Nodes::default(),
            },
            sides: Vec::new(),
            updates: BTreeMap::new(),
            node_updates: HashMap::new(),
            policy: None,
            policy_problem: None,
            lists: Default::default(),
            agent_port,
            returned: Vec::new(),
            version: 0,
        }
    }

    /// All four kinds were listed: what is absent does not exist.
    pub fn complete(&self) -> bool {
        self.lists.iter().all(|list| list.complete)
    }

    /// Nodes with an attempt in flight whose kubelet wrote another boot since this was asked last.
    pub fn take_returned(&mut self) -> Vec<String> {
        std::mem::take(&mut self.returned)
    }

    /// Goes up with every change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Something changed that the planner may see.
    pub fn touch(&mut self) {
        self.version += 1;
    }

    /// A node with what the planner does not need of it.
    pub fn node(&self, name: &str) -> Option<(&Node, &NodeSide)> {
        let at = self.snapshot.nodes.position(name)?;
        Some((self.snapshot.nodes.get(at)?, self.sides.get(at)?))
    }

    /// The same, to change what the agent said.
    pub fn node_mut(&mut self, name: &str) -> Option<(&mut Node, &mut NodeSide)> {
        let at = self.snapshot.nodes.position(name)?;
        self.version += 1;
        Some((self.snapshot.nodes.get_mut(at)?, self.sides.get_mut(at)?))
    }

    /// The part of a node that the planner does not see, without saying that anything changed.
    pub fn side_mut(&mut self, name: &str) -> Option<&mut NodeSide> {
        self.sides.get_mut(self.snapshot.nodes.position(name)?)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (&Node, &NodeSide)> {
        self.snapshot.nodes.iter().zip(&self.sides)
    }

    /// An update.
    pub fn update(&self, name: &str) -> Option<&UpdateSide> {
        self.updates.get(name)
    }

    /// All updates.
    pub fn updates(&self) -> impl Iterator<Item = &UpdateSide> {
        self.updates.values()
    }

    /// An update by its UID.
    pub fn update_by_uid(&self, uid: &str) -> Option<&UpdateSide> {
        self.updates.values().find(|side| side.object.uid == uid)
    }

    /// A node's `NodeLiveUpdate`, whoever it speaks of.
    pub fn node_update(&self, name: &str) -> Option<&NodeUpdateObject> {
        self.node_updates.get(name)
    }

    /// The attempt that an update has in flight at the node.
    fn flight(&self, node: &str) -> Option<&Text> {
        let (node, _) = self.node(node)?;
        let mut flights = self.snapshot.updates.iter().flat_map(|update| &update.record.in_flight);
        flights
            .find(|flight| flight.node == node.name && flight.uid == node.uid)
            .map(|flight| &flight.attempt)
    }

    /// What is wrong with the policy.
    pub fn policy_problem(&self) -> Option<&str> {
        self.policy_problem.as_deref()
    }

    /// Takes what a watch brought.
    pub fn observe(&mut self, observed: Observed) {
        self.version += 1;
        match observed {
            Observed::Node(change) => {
                let known =
                    |world: &Self| world.snapshot.nodes.iter().map(|node| node.name.to_string()).collect();
                self.change(0, change, |o| o.name.clone(), known, Self::put_node, Self::drop_node);
            }
            Observed::Update(change) => {
                let known = |world: &Self| world.updates.keys().cloned().collect();
                self.change(1, change, |o| o.name.clone(), known, Self::put_update, Self::drop_update);
            }
            Observed::NodeUpdate(change) => {
                let known = |world: &Self| world.node_updates.keys().cloned().collect();
                self.change(
                    2,
                    change,
                    |o| o.name.clone(),
                    known,
                    Self::put_node_update,
                    Self::drop_node_update,
                );
            }
            Observed::Policy(change) => {
                let known = |world: &Self| world.policy.iter().map(|p| p.name.clone()).collect();
                self.change(3, change, |o| o.name.clone(), known, Self::put_policy, Self::drop_policy);
            }
        }
    }

    fn change<T>(
        &mut self,
        kind: usize,
        change: Change<T>,
        name: impl Fn(&T) -> String,
        known: impl Fn(&Self) -> Vec<String>,
        put: impl Fn(&mut Self, T),
        drop: impl Fn(&mut Self, &str),
    ) {
        match change {
            Change::Restarted => self.lists[kind].seen = Some(HashSet::new()),
            Change::Listed(object) => {
                if let Some(seen) = &mut self.lists[kind].seen {
                    seen.insert(name(&object));
                }
                put(self, object);
            }
            Change::Complete => {
                let seen = self.lists[kind].seen.take().unwrap_or_default();
                let gone: Vec<String> = known(self).into_iter().filter(|name| !seen.contains(name)).collect();
                for name in &gone {
                    drop(self, name);
                }
                self.lists[kind].complete = true;
            }
            Change::Applied(object) => put(self, object),
            Change::Deleted(name) => drop(self, &name),
        }
    }

    fn put_node(&mut self, object: NodeObject) {
        let record = self.node_updates.get(&object.name).and_then(|o| record::node(o, &object.uid));
        let reborn = self.node(&object.name).is_some_and(|(node, _)| node.uid != object.uid);
        if reborn {
            // Another node under the same name inherits nothing.
            self.drop_node(&object.name.clone());
        }
        let address = match (&object.agent_address, &object.internal_ip) {
            (Some(address), _) => Some(address.clone()),
            (None, Some(ip)) if ip.contains(':') => Some(format!("[{ip}]:{}", self.agent_port)),
            (None, Some(ip)) => Some(format!("{ip}:{}", self.agent_port)),
            (None, None) => None,
        };
        let at = match self.snapshot.nodes.position(&object.name) {
            Some(at) => at,
            None => {
                self.sides.push(NodeSide::default());
                self.snapshot.nodes.put(Node {
                    name: Text::copy(&object.name),
                    uid: object.uid.clone(),
                    created: object.created,
                    labels: Arc::default(),
                    ready: false,
                    release: Text::default(),
                    boot_id: Text::default(),
                    malformed: None,
                    mark: None,
                    foreign: None,
                    record,
                    agent: Agent::Unasked,
                    lease_renewed: false,
                })
            }
        };
        let (Some(node), Some(side)) = (self.snapshot.nodes.get_mut(at), self.sides.get_mut(at)) else {
            return;
        };
        node.created = object.created;
        node.labels = Arc::new(object.labels);
        node.ready = object.ready;
        node.release = object.release.into();
        if node.boot_id != object.boot_id {
            if flies(&self.snapshot.updates, &node.name) {
                side.lease_due = std::time::Duration::ZERO;
                self.returned.push(object.name.clone());
            }
            node.boot_id = match &node.agent {
                // The very text that the agent's word is kept in: comparing the two reads no letters.
                Agent::Answered(facts) if facts.boot_id == object.boot_id => facts.boot_id.clone(),
                _ => object.boot_id.into(),
            };
        }
        node.malformed = object.malformed.map(Text::from).or_else(|| {
            let missing = "status.addresses has no InternalIP and no annotation tells the agent's address";
            address.is_none().then(|| Text::fixed(missing))
        });
        node.mark = object.mark;
        node.foreign = object.foreign.map(Text::from);
        if side.address != address {
            side.address = address;
            side.inspect_due = std::time::Duration::ZERO;
        }
        side.version = object.version;
        side.taints = object.taints;
        side.has_annotations = object.has_annotations;
        side.has_mark = object.has_mark;
    }

    fn drop_node(&mut self, name: &str) {
        if let Some(at) = self.snapshot.nodes.remove(name) {
            self.sides.swap_remove(at);
        }
    }

    /// Takes an update from the watch or from the answer to our own write, whichever is newer.
    pub fn put_update(&mut self, object: UpdateObject) {
        let old = self.updates.get(&object.name).filter(|old| old.object.uid == object.uid);
        if old.is_some_and(|old| !newer(&object.version, &old.object.version)) {
            return;
        }
        let spec = match &object.spec {
            Ok(spec) => convert::spec::read(spec),
            Err(why) => Err(why.clone()),
        };
        let parsed = verbs::parse(&object.annotations);
        let mut problems: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
        // Without its record nothing is known of what it did: it is treated as unreadable, and not as new.
        let (record, spec) = match &object.status {
            Ok(status) => (record::update(status), spec),
            Err(why) => {
                problems.push(why.clone());
                (liveupdate_planner::UpdateRecord::default(), Err(why.clone()))
            }
        };
        let mut update = Update {
            name: Text::copy(&object.name),
            uid: Text::copy(&object.uid),
            created: object.created,
            deleting: object.deleting,
            has_finalizer: object.finalizers.iter().any(|name| name == liveupdate_crds::FINALIZER),
            spec: spec.as_ref().map(|spec| spec.planner.clone()).map_err(Clone::clone),
            verbs: parsed.verbs,
            record,
        };
        if let Some(old) = self.snapshot.updates.iter().find(|old| old.uid == update.uid) {
            // The very texts that verdicts were asked with: comparing those reads no letters.
            update.uid = old.uid.clone();
            if let (Ok(old), Ok(new)) = (&old.spec, &mut update.spec)
                && old.revision == new.revision
            {
                new.revision = old.revision.clone();
            }
        }
        self.snapshot.updates.retain(|old| old.name != update.name);
        self.snapshot.updates.push(update);
        self.updates.insert(object.name.clone(), UpdateSide { object, spec, problems });
        self.version += 1;
    }

    /// Forgets an update that is gone.
    pub fn drop_update(&mut self, name: &str) {
        self.updates.remove(name);
        self.snapshot.updates.retain(|update| update.name != name);
        self.version += 1;
    }

    /// As [`World::put_update`].
    pub fn put_node_update(&mut self, object: NodeUpdateObject) {
        let old = self.node_updates.get(&object.name).filter(|old| old.uid == object.uid);
        if old.is_some_and(|old| !newer(&object.version, &old.version)) {
            return;
        }
        self.version += 1;
        if let Some(node) = self.snapshot.nodes.named_mut(&object.name) {
            node.record = record::node(&object, &node.uid);
        }
        self.node_updates.insert(object.name.clone(), object);
    }

    /// Forgets a `NodeLiveUpdate` that is gone.
    pub fn drop_node_update(&mut self, name: &str) {
        self.version += 1;
        self.node_updates.remove(name);
        if let Some(node) = self.snapshot.nodes.named_mut(name) {
            node.record = None;
        }
    }

    fn put_policy(&mut self, object: PolicyObject) {
        if object.name == POLICY {
            self.policy = Some(object);
            self.read_policy();
        }
    }

    fn drop_policy(&mut self, name: &str) {
        if name == POLICY {
            self.policy = None;
            self.read_policy();
        }
    }

    fn read_policy(&mut self) {
        let (policy, problem) = convert::policy(self.policy.as_ref());
        self.snapshot.policy = policy;
        self.policy_problem = problem.map(|why| format!("LiveUpdatePolicy/{POLICY} holds everything: {why}"));
    }
}

/// Whether one of the updates has the node in flight.
pub fn flies(updates: &[Update], node: &str) -> bool {
    updates.iter().flat_map(|update| &update.record.in_flight).any(|entry| entry.node == node)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
