//! All nodes, found by name.

use alloc::vec::Vec;

use crate::input::{Agent, AttemptFacts, Node, Nodes};

/// All nodes in the order of their names.
pub(crate) struct Fleet<'a> {
    nodes: &'a Nodes,
    /// Those that carry our mark, or whose agents know an attempt: few, and looked for again and again.
    busy: Vec<usize>,
    ready: Vec<bool>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(nodes: &'a Nodes) -> Self {
        let mut fleet = Self { nodes, busy: Vec::new(), ready: Vec::with_capacity(nodes.len()) };
        for (index, node) in nodes.in_order().enumerate() {
            fleet.ready.push(node.ready);
            if node.mark.is_some() || known(node).is_some() {
                fleet.busy.push(index);
            }
        }
        fleet
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// By position in the order of names.
    pub(crate) fn at(&self, index: usize) -> &'a Node {
        &self.nodes[self.position(index)]
    }

    /// Where that one stands in the snapshot.
    pub(crate) fn position(&self, index: usize) -> usize {
        self.nodes.by_name()[index]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.nodes.in_order().enumerate()
    }

    /// Those that carry our mark, or whose agents know an attempt.
    pub(crate) fn busy(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.busy.iter().map(|&index| (index, self.at(index)))
    }

    /// Whether each is Ready.
    pub(crate) fn ready(&self) -> &[bool] {
        &self.ready
    }

    /// Position of the node with this name.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.rank(name).ok()
    }

    /// Whether the node at that position is still the same object.
    pub(crate) fn is_same(&self, index: usize, uid: &str) -> bool {
        self.at(index).uid == uid
    }
}

/// The attempt that the node's agent knows.
pub(crate) fn known(node: &Node) -> Option<&AttemptFacts> {
    match &node.agent {
        Agent::Answered(facts) => facts.attempt.as_ref(),
        _ => None,
    }
}
