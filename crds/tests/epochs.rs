//! Invariant 5, as far as the schema holds it: an older epoch is refused on every fenced part.
// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use liveupdate_crds::{LiveUpdate, NodeLiveUpdate, check};
use serde_json::{Value, json};

fn node(part: &str, epoch: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "liveupdate.dev/v1alpha1", "kind": "NodeLiveUpdate",
        "metadata": {"name": "node-a.example.com"}, "spec": {},
    });
    if !epoch.is_null() {
        object[part] = json!({"epoch": epoch});
    }
    object
}

fn update(epoch: &Value) -> Value {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/minimal.yaml")).unwrap();
    let mut object: Value = serde_saphyr::from_str(&text).unwrap();
    if !epoch.is_null() {
        object["status"] = json!({"epoch": epoch});
    }
    object
}

fn epoch(cluster: &str, counter: i64) -> Value {
    json!({"cluster": cluster, "counter": counter})
}

/// Every fenced part with its change from one epoch to another.
fn change(from: &Value, to: &Value) -> Vec<Result<(), Vec<String>>> {
    let node_change = |part| check::<NodeLiveUpdate>(&node(part, to), Some(&node(part, from))).map(drop);
    vec![node_change("status"), check::<LiveUpdate>(&update(to), Some(&update(from))).map(drop)]
}

fn refused(from: &Value, to: &Value, words: &str) {
    for (part, result) in change(from, to).into_iter().enumerate() {
        let errors = result.expect_err("accepted");
        assert_eq!(errors.len(), 1, "part {part}: {errors:?}");
        assert!(errors[0].contains(words), "part {part}: {errors:?}");
    }
}

fn accepted(from: &Value, to: &Value) {
    for result in change(from, to) {
        assert_eq!(result, Ok(()));
    }
}

#[test]
fn invariant_5_an_older_epoch_is_refused_and_told_so() {
    refused(&epoch("c", 5), &epoch("c", 3), "stale leader: epoch 3 is lower than 5, which is on record");
}

#[test]
fn invariant_5_an_epoch_cannot_be_left_out_once_it_is_there() {
    refused(&epoch("c", 5), &Value::Null, "epoch is missing");
}

#[test]
fn invariant_5_another_cluster_is_refused_whatever_its_counter() {
    for counter in [1, 5, 9] {
        refused(
            &epoch("c", 5),
            &epoch("d", counter),
            "wrong cluster: the writer speaks for cluster d, but this object belongs to cluster c",
        );
    }
}

#[test]
fn the_first_epoch_the_same_one_and_a_later_one_are_accepted() {
    accepted(&Value::Null, &epoch("c", 1));
    accepted(&epoch("c", 5), &epoch("c", 5));
    accepted(&epoch("c", 5), &epoch("c", 6));
    accepted(&Value::Null, &Value::Null);
}
