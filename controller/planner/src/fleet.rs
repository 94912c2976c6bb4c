//! All nodes, found by name.

use alloc::vec::Vec;

use crate::input::{Agent, AttemptFacts, Node};

/// All nodes in the order of their names.
pub(crate) struct Fleet<'a> {
    nodes: Vec<&'a Node>,
    /// Where each stands in the snapshot.
    positions: Vec<u32>,
    /// Those that carry our mark, or whose agents know an attempt: few, and looked for again and again.
    busy: Vec<usize>,
    ready: Vec<bool>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(nodes: &'a [Node]) -> Self {
        let mut sorted: Vec<(u32, &Node)> = (0..).zip(nodes).collect();
        // Stable, because it is the quick one for what is in order already but for the last that came.
        sorted.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        let (positions, nodes): (Vec<u32>, Vec<&Node>) = sorted.into_iter().unzip();
        let busy = nodes.iter().enumerate().filter(|(_, node)| node.mark.is_some() || known(node).is_some());
        let busy = busy.map(|(index, _)| index).collect();
        let ready = nodes.iter().map(|node| node.ready).collect();
        Self { nodes, positions, busy, ready }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// By position in the order of names.
    pub(crate) fn at(&self, index: usize) -> &'a Node {
        self.nodes[index]
    }

    /// Where that one stands in the snapshot.
    pub(crate) fn position(&self, index: usize) -> usize {
        self.positions[index] as usize
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.nodes.iter().copied().enumerate()
    }

    /// Those that carry our mark, or whose agents know an attempt.
    pub(crate) fn busy(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.busy.iter().map(|&index| (index, self.nodes[index]))
    }

    /// Whether each is Ready.
    pub(crate) fn ready(&self) -> &[bool] {
        &self.ready
    }

    /// Position of the node with this name.
    pub(crate) fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.binary_search_by(|node| node.name.as_str().cmp(name)).ok()
    }

    /// Position of the node with this name, if it is still the same object.
    pub(crate) fn same(&self, name: &str, uid: &str) -> Option<usize> {
        self.index_of(name).filter(|&index| self.nodes[index].uid == uid)
    }
}

/// The attempt that the node's agent knows.
pub(crate) fn known(node: &Node) -> Option<&AttemptFacts> {
    match &node.agent {
        Agent::Answered(facts) => facts.attempt.as_ref(),
        _ => None,
    }
}
