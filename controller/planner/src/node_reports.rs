//! The reports of all nodes: made in one go, read by name or beside the snapshot.

use alloc::vec;
use alloc::vec::Vec;

use crate::output::NodeReport;
use crate::text::Text;

/// Nothing is reported of the node.
const NOBODY: u32 = u32::MAX;

/// Every node that an update wants, that has an end on record, or whose agent answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeReports {
    /// By name.
    reports: Vec<(Text, NodeReport)>,
    /// For every node of the snapshot that was planned from, in its order: where its report is.
    places: Vec<u32>,
}

impl NodeReports {
    /// None yet, of a snapshot with so many nodes, and with room for so many reports.
    pub(crate) fn new(nodes: usize, room: usize) -> Self {
        Self { reports: Vec::with_capacity(room), places: vec![NOBODY; nodes] }
    }

    /// That of the node at `position` of the snapshot; nodes come by name.
    pub(crate) fn push(&mut self, position: usize, name: Text, report: NodeReport) {
        self.places[position] = u32::try_from(self.reports.len()).unwrap_or(NOBODY);
        self.reports.push((name, report));
    }

    /// That of the node with this name, if there is one.
    pub fn get(&self, name: &str) -> Option<&NodeReport> {
        let place = self.reports.binary_search_by(|(other, _)| other.as_str().cmp(name)).ok()?;
        self.reports.get(place).map(|(_, report)| report)
    }

    /// The same, at once for whoever goes over the nodes of the snapshot that was planned from: `position` is
    /// where the node stands there. Another node's position costs time and nothing else.
    pub fn beside(&self, position: usize, name: &Text) -> Option<&NodeReport> {
        match self.places.get(position) {
            Some(&NOBODY) | None => self.get(name),
            Some(&place) => match self.reports.get(place as usize) {
                Some((other, report)) if other == name => Some(report),
                _ => self.get(name),
            },
        }
    }

    /// All, by name.
    pub fn iter(&self) -> <&Self as IntoIterator>::IntoIter {
        self.into_iter()
    }

    /// The names of all, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Text> {
        self.reports.iter().map(|(name, _)| name)
    }

    /// The reports, by name.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &NodeReport> {
        self.reports.iter().map(|(_, report)| report)
    }

    /// How many nodes are reported.
    pub fn len(&self) -> usize {
        self.reports.len()
    }

    /// No node is reported.
    pub fn is_empty(&self) -> bool {
        self.reports.is_empty()
    }
}

impl<'a> IntoIterator for &'a NodeReports {
    type Item = (&'a Text, &'a NodeReport);
    type IntoIter = core::iter::Map<
        core::slice::Iter<'a, (Text, NodeReport)>,
        fn(&'a (Text, NodeReport)) -> (&'a Text, &'a NodeReport),
    >;

    fn into_iter(self) -> Self::IntoIter {
        self.reports.iter().map(|(name, report)| (name, report))
    }
}

impl<N: Into<Text>> FromIterator<(N, NodeReport)> for NodeReports {
    fn from_iter<I: IntoIterator<Item = (N, NodeReport)>>(reports: I) -> Self {
        let mut reports: Vec<_> = reports.into_iter().map(|(name, report)| (name.into(), report)).collect();
        reports.sort_by(|(a, _): &(Text, _), (b, _)| a.cmp(b));
        Self { reports, places: Vec::new() }
    }
}
