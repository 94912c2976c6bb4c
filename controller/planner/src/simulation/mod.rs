//! A model world around the real planner: a fleet of pretended nodes that carry plans out.
//!
//! ```text
//!  World ── snapshot ─► plan ── actions, report ─► World (API objects, agents) ── time ─► machines go on
//! ```
//! For the planner's own tests and for whoever wants to know how a rollout would go. What stands in the
//! snapshot's objects is durable; what agents said is volatile and forgotten by [`World::crash`]. Writes
//! are seen at once, so that a pass sees all that the pass before it did.

mod actions;
mod machine;
mod settle;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::input::{Agent, Node, Nodes, Policy, Snapshot, Text, Update};
use crate::{Epoch, Time};

pub use machine::{Behaviour, Fault, Machine};

/// The model world.
#[derive(Clone, Debug)]
pub struct World {
    /// The present.
    pub now: Time,
    /// What the planner is told. Nodes stand in the order of [`World::machines`].
    pub snapshot: Snapshot,
    /// What the nodes really are.
    pub machines: Vec<Machine>,
    /// What happened that must not: an attempt that ran twice, a jump without a permission.
    pub violations: Vec<String>,
    /// Plans made so far.
    pub passes: u64,
    /// Writes to the API by what they are: record, mark, claim, status.
    pub writes: BTreeMap<&'static str, u64>,
    made: u64,
    /// Changes of the snapshot by carrying out plans.
    changes: u64,
    /// Those of them that are nothing but an attempt that began, and now takes its time.
    begun: u64,
}

impl World {
    /// An empty world.
    pub fn new(now: Time, policy: Policy) -> Self {
        let epoch = Epoch { cluster: "simulated".to_string(), counter: 1 };
        Self {
            now,
            snapshot: Snapshot { epoch, policy, updates: Vec::new(), nodes: Nodes::default() },
            machines: Vec::new(),
            violations: Vec::new(),
            passes: 0,
            writes: BTreeMap::new(),
            made: 0,
            changes: 0,
            begun: 0,
        }
    }

    /// A node joins: Ready, on release `release`, its agent not asked yet.
    pub fn join(
        &mut self,
        name: &str,
        release: impl Into<Text>,
        labels: impl Into<Arc<BTreeMap<String, String>>>,
        behaviour: Behaviour,
    ) {
        self.made += 1;
        let uid = format!("{:08x}", self.made);
        let release = release.into();
        let machine = Machine::new(&uid, release.clone(), behaviour);
        let node = Node {
            name: Text::copy(name),
            uid,
            created: self.now,
            labels: labels.into(),
            ready: true,
            release,
            boot_id: machine.boot_id.clone(),
            malformed: None,
            mark: None,
            foreign: None,
            record: None,
            agent: Agent::Unasked,
            lease_renewed: false,
        };
        self.leave(&node.name);
        self.snapshot.nodes.put(node);
        self.machines.push(machine);
    }

    /// The Node object and its machine are gone, and its record with them.
    pub fn leave(&mut self, name: &str) {
        if let Some(position) = self.snapshot.nodes.remove(name) {
            self.machines.swap_remove(position);
        }
    }

    /// Somebody applies an update.
    pub fn apply_update(&mut self, update: Update) {
        self.snapshot.updates.retain(|other| other.name != update.name);
        self.snapshot.updates.push(update);
    }

    /// The update of that name.
    pub fn update(&mut self, name: &str) -> Option<&mut Update> {
        self.snapshot.updates.iter_mut().find(|update| update.name == name)
    }

    /// The node of that name and its machine.
    pub fn node(&mut self, name: &str) -> Option<(&mut Node, &mut Machine)> {
        let position = self.snapshot.nodes.position(name)?;
        Some((self.snapshot.nodes.get_mut(position)?, self.machines.get_mut(position)?))
    }

    /// The controller is killed and started again: all that is volatile is forgotten.
    pub fn crash(&mut self) {
        for node in self.snapshot.nodes.iter_mut() {
            node.agent = Agent::Unasked;
            node.lease_renewed = false;
        }
        for machine in &mut self.machines {
            machine.said = false;
        }
    }

    fn wrote(&mut self, what: &'static str) {
        self.changes += 1;
        *self.writes.entry(what).or_insert(0) += 1;
    }
}
