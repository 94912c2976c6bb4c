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

/// Whether the update wants the node: its labels are selected, and it was there when the update was made
/// or those that join take part.
pub(crate) fn wants(update: &Update, spec: &Spec, node: &Node) -> bool {
    (spec.include_joining || node.created <= update.created) && spec.selector.matches(&node.labels)
}

/// Positions of the nodes that the update wants, in plan order: by the values of the ordering labels,
/// those without the label last, then by name.
pub(crate) fn select(update: &Update, spec: &Spec, fleet: &Fleet<'_>) -> Vec<usize> {
    let mut selected: Vec<usize> =
        fleet.iter().filter(|(_, node)| wants(update, spec, node)).map(|(index, _)| index).collect();
    let keys = &spec.strategy.order;
    if !keys.is_empty() {
        // All values looked up once and beside one another.
        let value = |(index, key): (usize, &String)| {
            fleet.at(index).labels.get(key).map_or((true, ""), |value| (false, value.as_str()))
        };
        let values: Vec<(bool, &str)> =
            selected.iter().flat_map(|&index| keys.iter().map(move |key| (index, key))).map(value).collect();
        let of = |place: usize| &values[place * keys.len()..(place + 1) * keys.len()];
        let mut places: Vec<usize> = (0..selected.len()).collect();
        places.sort_by(|&a, &b| of(a).cmp(of(b)));
        selected = places.into_iter().map(|place| selected[place]).collect();
    }
    selected
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
