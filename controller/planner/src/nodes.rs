//! The nodes of the cluster, with the order of their names kept from pass to pass.

use alloc::vec::Vec;
use core::ops::Deref;

use crate::input::Node;

/// All Kubernetes nodes, each once, as they came; read as a slice. Where one is removed the last takes its
/// place, so that whoever keeps something beside them does the same with `swap_remove`.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    nodes: Vec<Node>,
    /// Where they stand, in the order of their names. Names are never changed in place.
    by_name: Vec<usize>,
}

impl Nodes {
    /// Adds a node behind the others, or in the place of the one with its name. Says where it stands.
    pub fn put(&mut self, node: Node) -> usize {
        match self.rank(&node.name) {
            Ok(rank) => {
                let position = self.by_name[rank];
                self.nodes[position] = node;
                position
            }
            Err(rank) => {
                self.by_name.insert(rank, self.nodes.len());
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }

    /// Removes a node and says where it stood; the last stands there now.
    pub fn remove(&mut self, name: &str) -> Option<usize> {
        let rank = self.rank(name).ok()?;
        let last = self.nodes.last().and_then(|node| self.rank(&node.name).ok())?;
        let position = self.by_name[rank];
        self.by_name[last] = position;
        self.by_name.remove(rank);
        self.nodes.swap_remove(position);
        Some(position)
    }

    /// Where the node with this name stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.rank(name).ok().map(|rank| self.by_name[rank])
    }

    /// The node that stands there, to change all but its name.
    pub fn get_mut(&mut self, position: usize) -> Option<&mut Node> {
        self.nodes.get_mut(position)
    }

    /// The node with this name, to change the rest of it.
    pub fn named_mut(&mut self, name: &str) -> Option<&mut Node> {
        let position = self.position(name)?;
        self.nodes.get_mut(position)
    }

    /// All nodes as they stand, to change all but their names.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut()
    }

    /// All nodes, in the order of their names.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Node> {
        self.by_name.iter().map(|&position| &self.nodes[position])
    }

    /// Where they stand, in the order of their names.
    pub(crate) fn by_name(&self) -> &[usize] {
        &self.by_name
    }

    /// The place in the order of names, or where a node of this name would be put.
    pub(crate) fn rank(&self, name: &str) -> Result<usize, usize> {
        self.by_name.binary_search_by(|&position| self.nodes[position].name.as_str().cmp(name))
    }
}

impl Deref for Nodes {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.nodes
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Node;
    type IntoIter = core::slice::Iter<'a, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;
    use crate::input::Policy;
    use crate::simulation::{Behaviour, World};
    use alloc::collections::BTreeMap;

    fn nodes(names: &[&str]) -> Nodes {
        let mut world = World::new(Time(0), Policy::default());
        for name in names {
            world.join(name, "6.12", BTreeMap::new(), Behaviour::default());
        }
        world.snapshot.nodes
    }

    fn names(nodes: &Nodes) -> (Vec<&str>, Vec<&str>) {
        let as_they_stand = nodes.iter().map(|node| node.name.as_str()).collect();
        (as_they_stand, nodes.in_order().map(|node| node.name.as_str()).collect())
    }

    #[test]
    fn nodes_stand_as_they_came_and_are_read_by_name() {
        assert_eq!(names(&nodes(&["c", "a", "b"])), (["c", "a", "b"].into(), ["a", "b", "c"].into()));
    }

    #[test]
    fn the_last_takes_the_place_of_a_removed_one() {
        for (gone, stand, left) in [("c", ["b", "a"], 0), ("a", ["c", "b"], 1), ("b", ["c", "a"], 2)] {
            let mut nodes = nodes(&["c", "a", "b"]);
            assert_eq!(nodes.remove(gone), Some(left));
            let mut order = stand;
            order.sort_unstable();
            assert_eq!(names(&nodes), (stand.into(), order.into()), "without {gone}");
            assert_eq!((nodes.remove(gone), nodes.position(gone)), (None, None));
        }
    }

    #[test]
    fn a_node_of_a_known_name_takes_its_place() {
        let mut nodes = nodes(&["c", "a"]);
        let newer = Node { uid: "newer".into(), ..nodes[0].clone() };
        assert_eq!((nodes.put(newer), nodes.len(), nodes[0].uid.as_str()), (0, 2, "newer"));
    }
}
