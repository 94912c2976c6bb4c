//! The patch that puts our marks on a Node or takes them off. It is tested on what was seen, and touches
//! nothing of others (invariant 7).

use liveupdate_crds::{MARK_ANNOTATION, TAINT_KEY};
use serde_json::{Value, json};

use crate::cluster::NodeChange;

/// The JSON patch for a change.
pub(super) fn patch(change: &NodeChange) -> Value {
    let mut operations = vec![json!({
        "op": "test", "path": "/metadata/resourceVersion", "value": change.version,
    })];
    let ours = |taint: &Value| taint.get("key").and_then(Value::as_str) == Some(TAINT_KEY);
    if !change.taints.is_empty() {
        operations.push(json!({"op": "test", "path": "/spec/taints", "value": change.taints}));
    }
    let annotation = format!("/metadata/annotations/{}", MARK_ANNOTATION.replace('/', "~1"));
    let mut taints: Vec<Value> = change.taints.iter().filter(|taint| !ours(taint)).cloned().collect();
    match &change.mark {
        Some((update, mark)) => {
            taints.push(json!({"key": TAINT_KEY, "value": value(update), "effect": "NoSchedule"}));
            let text = format!("{}/{}", mark.update_uid, mark.attempt);
            if change.has_annotations {
                operations.push(json!({"op": "add", "path": annotation, "value": text}));
            } else {
                let all = json!({MARK_ANNOTATION: text});
                operations.push(json!({"op": "add", "path": "/metadata/annotations", "value": all}));
            }
            operations.push(json!({"op": "add", "path": "/spec/taints", "value": taints}));
        }
        None => {
            if change.has_mark {
                operations.push(json!({"op": "remove", "path": annotation}));
            }
            if change.taints.iter().any(ours) {
                operations.push(if taints.is_empty() {
                    json!({"op": "remove", "path": "/spec/taints"})
                } else {
                    json!({"op": "replace", "path": "/spec/taints", "value": taints})
                });
            }
        }
    }
    Value::Array(operations)
}

/// A taint's value is a label value: at most 63 characters, while an update's name may be longer.
fn value(update: &str) -> &str {
    let cut = update.get(..63).unwrap_or(update);
    cut.trim_end_matches(['-', '.', '_'])
}

/// Whether the server says that a `test` of the patch did not hold.
pub(super) fn is_failed_test(message: &str) -> bool {
    message.contains("testing") || message.contains("test failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use liveupdate_planner::Mark;

    fn change(taints: Vec<Value>, mark: Option<Mark>) -> NodeChange {
        NodeChange {
            name: "a".into(),
            version: "7".into(),
            taints,
            has_annotations: true,
            has_mark: true,
            mark: mark.map(|mark| ("kernel".into(), mark)),
        }
    }

    fn mark() -> Mark {
        Mark { update_uid: "u".into(), attempt: "r-n-1".into() }
    }

    #[test]
    fn invariant_7_taints_of_others_stay_as_they_are() {
        let theirs = json!({"key": "theirs", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"});
        let patch_on = patch(&change(vec![theirs.clone()], Some(mark())));
        assert_eq!(patch_on[1]["op"], "test");
        assert_eq!(patch_on[3]["value"][0], theirs);
        assert_eq!(patch_on[3]["value"][1]["key"], TAINT_KEY);
        let ours = patch_on[3]["value"][1].clone();
        let patch_off = patch(&change(vec![theirs.clone(), ours], None));
        assert_eq!(patch_off[3], json!({"op": "replace", "path": "/spec/taints", "value": [theirs]}));
    }

    #[test]
    fn every_patch_begins_with_a_test_of_the_version() {
        for mark in [None, Some(mark())] {
            let patch = patch(&change(Vec::new(), mark));
            assert_eq!(patch[0], json!({"op": "test", "path": "/metadata/resourceVersion", "value": "7"}));
        }
    }

    #[test]
    fn taking_off_what_is_not_there_changes_nothing() {
        let mut change = change(Vec::new(), None);
        change.has_mark = false;
        assert_eq!(patch(&change).as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_long_name_is_cut_to_a_label_value() {
        assert_eq!(value(&"a".repeat(200)).len(), 63);
        assert_eq!(value("kernel-7.3"), "kernel-7.3");
    }
}
