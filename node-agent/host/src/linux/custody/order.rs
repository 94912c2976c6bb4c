//! In which order holders go on: whom others depend on first.

use std::collections::BTreeMap;

use super::leave::part_names;
use super::state::State;

/// Everybody in custody; each after those that it depends on. Whoever depends on each other in a circle comes as they
/// were taken.
pub(super) fn by_dependency(state: &State) -> Vec<String> {
    let names = part_names(state);
    let needs: BTreeMap<String, Vec<String>> =
        names.iter().map(|name| (name.clone(), depends(state, name))).collect();
    sort(names, &needs)
}

/// The same, each with those of them that it waits for: they come before it.
pub(super) fn with_needs(state: &State) -> Vec<(String, Vec<String>)> {
    let names = by_dependency(state);
    let needs = names.iter().enumerate().map(|(at, name)| {
        let needs = depends(state, name).into_iter().filter(|need| names[..at].contains(need));
        (name.clone(), needs.collect())
    });
    needs.collect()
}

fn depends(state: &State, name: &str) -> Vec<String> {
    let declared = state.connected.get(name).and_then(|connected| connected.declared.as_ref());
    declared.map(|declared| declared.dependencies.clone()).unwrap_or_default()
}

fn sort(mut left: Vec<String>, needs: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut sorted = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let free = |name: &String| {
            needs.get(name).is_none_or(|needs| !needs.iter().any(|n| n != name && left.contains(n)))
        };
        let next = left.iter().position(free).unwrap_or(0);
        sorted.push(left.remove(next));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_depended_on_comes_first_and_circles_end() {
        let needs = |pairs: &[(&str, &[&str])]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            pairs.iter().map(|(name, needs)| ((*name).to_owned(), owned(needs))).collect::<BTreeMap<_, _>>()
        };
        let all = || ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(sort(all(), &needs(&[("a", &["c"]), ("c", &["b"])])), ["b", "c", "a"]);
        assert_eq!(sort(all(), &needs(&[("a", &["elsewhere", "a"])])), ["a", "b", "c"]);
        assert_eq!(sort(all(), &needs(&[("a", &["b"]), ("b", &["a"])])), ["c", "a", "b"]);
    }
}
