//! All nodes, found by name.

use alloc::vec::Vec;

use crate::input::Node;

/// All nodes in the order of their names.
pub(crate) struct Fleet<'a> {
    nodes: Vec<&'a Node>,
    /// Where each stands in the snapshot.
    positions: Vec<u32>,
    /// Those that carry our mark: few, and looked for again and again.
    marked: Vec<usize>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(nodes: &'a [Node]) -> Self {
        let mut sorted: Vec<(u32, &Node)> = (0..).zip(nodes).collect();
        // Stable, because it is the quick one for what is in order already but for the last that came.
        sorted.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        let (positions, nodes): (Vec<u32>, Vec<&Node>) = sorted.into_iter().unzip();
        let marked = nodes.iter().enumerate().filter(|(_, node)| node.mark.is_some());
        Self { marked: marked.map(|(index, _)| index).collect(), nodes, positions }
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

    /// Those that carry our mark.
    pub(crate) fn marked(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.marked.iter().map(|&index| (index, self.nodes[index]))
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
