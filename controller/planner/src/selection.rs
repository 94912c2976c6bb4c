//! Which nodes an update wants, and in which order.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::fleet::Fleet;
use crate::input::{Node, Operator, Selector, Spec, Update};

impl Selector {
    /// Whether a node with these labels is selected. As in Kubernetes, `NotIn` is met where the label is
    /// absent.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|v| values.contains(v)),
                Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}

/// Whether the node was there when the update was made, or those that join take part.
fn takes_part(update: &Update, spec: &Spec, node: &Node) -> bool {
    spec.include_joining || node.created <= update.created
}

/// Whether the update wants a node.
pub(crate) fn selects(update: &Update, spec: &Spec, node: &Node) -> bool {
    takes_part(update, spec, node) && spec.selector.matches(&node.labels)
}

/// Label sets that are looked for again by where they are.
const RECENT: usize = 64;

/// The sets of labels of a fleet. Whoever shares one set among many nodes has it read once.
struct LabelSets<'a> {
    selector: &'a Selector,
    keys: &'a [String],
    /// Whether each is selected.
    selected: Vec<bool>,
    /// The values of the ordering labels of each, all beside one another.
    values: Vec<(bool, &'a str)>,
    recent: [Option<(*const Labels, usize)>; RECENT],
}

type Labels = BTreeMap<String, String>;

impl<'a> LabelSets<'a> {
    fn new(spec: &'a Spec) -> Self {
        let keys = &spec.strategy.order;
        Self {
            selector: &spec.selector,
            keys,
            selected: Vec::new(),
            values: Vec::new(),
            recent: [None; RECENT],
        }
    }

    fn number(&mut self, labels: &'a Labels) -> usize {
        let at = core::ptr::from_ref(labels);
        // Neighbours on the heap differ in these bits.
        let slot = (at.addr() >> 5) % RECENT;
        if let Some((_, number)) = self.recent[slot].filter(|(known, _)| *known == at) {
            return number;
        }
        let number = self.selected.len();
        self.selected.push(self.selector.matches(labels));
        let value = |key| labels.get(key).map_or((true, ""), |value| (false, value.as_str()));
        self.values.extend(self.keys.iter().map(value));
        self.recent[slot] = Some((at, number));
        number
    }

    /// The place of each set among all in plan order; sets of the same values share one.
    fn ranks(&self) -> Vec<usize> {
        let of = |set: usize| &self.values[set * self.keys.len()..(set + 1) * self.keys.len()];
        let mut sets: Vec<usize> = (0..self.selected.len()).collect();
        sets.sort_by(|&a, &b| of(a).cmp(of(b)));
        let mut ranks = alloc::vec![0; sets.len()];
        for pair in sets.windows(2) {
            ranks[pair[1]] = ranks[pair[0]] + usize::from(of(pair[0]) != of(pair[1]));
        }
        ranks
    }
}

/// Positions of the nodes that the update wants (its labels are selected, and it was there in time), in plan
/// order: by the values of the ordering labels, those without the label last, then by name.
pub(crate) fn select(update: &Update, spec: &Spec, fleet: &Fleet<'_>) -> Vec<usize> {
    let mut sets = LabelSets::new(spec);
    let mut selected: Vec<(usize, usize)> = Vec::new();
    for (index, node) in fleet.iter().filter(|(_, node)| takes_part(update, spec, node)) {
        let set = sets.number(&node.labels);
        if sets.selected[set] {
            selected.push((set, index));
        }
    }
    if !sets.keys.is_empty() {
        return in_order(&sets.ranks(), &selected);
    }
    selected.into_iter().map(|(_, index)| index).collect()
}

/// By the ranks of their sets, otherwise as they are: counted into their places, since ranks are few.
fn in_order(ranks: &[usize], selected: &[(usize, usize)]) -> Vec<usize> {
    let mut places = alloc::vec![0; ranks.iter().max().map_or(0, |most| most + 2)];
    for (set, _) in selected {
        places[ranks[*set] + 1] += 1;
    }
    for rank in 1..places.len() {
        places[rank] += places[rank - 1];
    }
    let mut ordered = alloc::vec![0; selected.len()];
    for (set, index) in selected {
        let place = &mut places[ranks[*set]];
        ordered[*place] = *index;
        *place += 1;
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Requirement;
    use alloc::collections::BTreeSet;
    use alloc::string::ToString;
    use alloc::vec;

    fn matches(operator: Operator, value: Option<&str>) -> bool {
        let labels = value.map(|value| ("zone".to_string(), value.to_string())).into_iter().collect();
        let requirement = Requirement { key: "zone".to_string(), operator };
        Selector { requirements: vec![requirement] }.matches(&labels)
    }

    #[test]
    fn operators_mean_what_they_mean_in_kubernetes() {
        let values = || BTreeSet::from(["a".to_string(), "b".to_string()]);
        let cases = [
            (Operator::In(values()), [true, false, false]),
            (Operator::NotIn(values()), [false, true, true]),
            (Operator::Exists, [true, true, false]),
            (Operator::DoesNotExist, [false, false, true]),
        ];
        for (operator, expected) in cases {
            let found = [Some("a"), Some("c"), None].map(|value| matches(operator.clone(), value));
            assert_eq!(found, expected, "{operator:?}");
        }
    }

    #[test]
    fn no_requirement_selects_everything() {
        assert!(Selector::default().matches(&BTreeMap::new()));
    }
}
