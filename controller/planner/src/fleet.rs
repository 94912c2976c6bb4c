//! All nodes, found by name.

use alloc::vec::Vec;

use crate::input::Node;

/// All nodes in the order of their names.
pub(crate) struct Fleet<'a> {
    nodes: Vec<&'a Node>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(nodes: &'a [Node]) -> Self {
        let mut nodes: Vec<&Node> = nodes.iter().collect();
        nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Self { nodes }
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// By position in the order of names.
    pub(crate) fn at(&self, index: usize) -> &'a Node {
        self.nodes[index]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        self.nodes.iter().copied().enumerate()
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
