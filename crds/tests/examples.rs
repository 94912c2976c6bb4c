//! The examples are complete and accepted; each invalid one is refused as its golden file says.
// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use liveupdate_crds::{LiveUpdate, LiveUpdatePolicy, check, definition, definitions};
use serde_json::Value;

/// What the API server finds by types, lengths and lists alone, before any rule: not for [`check`].
const BY_SCHEMA_ALONE: [&str; 3] = ["acknowledge-twice", "field-unknown", "steps-too-many"];

fn check_any(object: &Value) -> Result<(), Vec<String>> {
    if object["kind"] == "LiveUpdatePolicy" {
        check::<LiveUpdatePolicy>(object, None).map(drop)
    } else {
        check::<LiveUpdate>(object, None).map(drop)
    }
}

fn missing(schema: &Value, shown: &[&Value], path: &str, found: &mut Vec<String>) {
    if let Some(items) = schema.get("items") {
        let shown: Vec<&Value> = shown.iter().filter_map(|value| value.as_array()).flatten().collect();
        missing(items, &shown, path, found);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let shown: Vec<&Value> = shown.iter().filter_map(|value| value.get(name)).collect();
        let path = format!("{path}.{name}");
        if shown.is_empty() {
            found.push(path);
        } else {
            missing(field, &shown, &path, found);
        }
    }
}

fn missing_fields<K: kube::CustomResourceExt>(examples: &[&Value]) -> Vec<String> {
    let crd = serde_json::to_value(definition::<K>()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut found = Vec::new();
    let shown: Vec<&Value> = examples.iter().map(|example| &example["spec"]).collect();
    missing(schema, &shown, "spec", &mut found);
    found
}

#[test]
fn full_shows_every_field() {
    let mut full = common::read("examples/full.yaml");
    // The one field that cannot stand beside another one.
    assert_eq!(missing_fields::<LiveUpdate>(&[&full]), ["spec.target.image"]);
    let image = common::read("examples/image.yaml");
    assert_eq!(missing_fields::<LiveUpdate>(&[&full, &image]), [""; 0]);
    // And the walk would see it: one field less is found.
    full["spec"]["strategy"]["steps"][0].as_object_mut().unwrap().remove("cover");
    assert_eq!(missing_fields::<LiveUpdate>(&[&full, &image]), ["spec.strategy.steps.cover"]);
}

#[test]
fn policy_shows_every_field() {
    let (policy, signers) =
        (common::read("examples/policy.yaml"), common::read("examples/policy-signers.yaml"));
    assert_eq!(missing_fields::<LiveUpdatePolicy>(&[&policy]), ["spec.signers"]);
    assert_eq!(missing_fields::<LiveUpdatePolicy>(&[&policy, &signers]), [""; 0]);
}

#[test]
fn the_examples_are_accepted() {
    for file in ["full", "image", "minimal", "policy", "policy-signers"] {
        assert_eq!(check_any(&common::read(&format!("examples/{file}.yaml"))), Ok(()), "{file}");
    }
}

#[test]
fn what_full_calls_a_default_is_one() {
    let full = check::<LiveUpdate>(&common::read("examples/full.yaml"), None).unwrap().spec;
    let least = check::<LiveUpdate>(&common::read("examples/minimal.yaml"), None).unwrap().spec;
    assert_eq!(full.deadlines, least.deadlines);
    assert_eq!((full.join_policy, full.paused), (least.join_policy, least.paused));
    assert_eq!(full.strategy.on_failure, least.strategy.on_failure);
    assert_eq!(least.strategy, liveupdate_crds::update::Strategy::default());
}

#[test]
fn each_invalid_example_is_refused_without_a_server_in_the_same_words() {
    for name in common::invalid() {
        let object = common::read(&format!("tests/invalid/{name}.yaml"));
        let golden = std::fs::read_to_string(common::path(&format!("tests/invalid/{name}.txt"))).unwrap();
        let refused = check_any(&object);
        if BY_SCHEMA_ALONE.contains(&name.as_str()) {
            continue;
        }
        let errors = refused.expect_err(&name);
        if ["Unsupported value", "Required value"].iter().any(|words| golden.contains(words)) {
            // Read by type: our words differ from the server's.
            continue;
        }
        for error in errors {
            let message = error
                .split_once(": ")
                .filter(|(path, _)| path.starts_with("spec"))
                .map_or(&*error, |it| it.1);
            assert!(golden.contains(message), "{name}: {message:?} is not in\n{golden}");
        }
    }
}

/// Each rule about a new object has an example that it refuses; those about changes are in `epochs.rs`.
#[test]
fn each_rule_has_an_invalid_example() {
    let goldens: Vec<String> = common::invalid()
        .iter()
        .map(|name| std::fs::read_to_string(common::path(&format!("tests/invalid/{name}.txt"))).unwrap())
        .collect();
    let mut rules = 0;
    for crd in definitions() {
        let crd = serde_json::to_value(crd).unwrap();
        let mut stack = vec![&crd];
        while let Some(value) = stack.pop() {
            match value {
                Value::Object(map) => stack.extend(map.values()),
                Value::Array(items) => stack.extend(items),
                _ => {}
            }
            let Some(rule) = value.get("rule").and_then(Value::as_str) else { continue };
            if rule.contains("oldSelf") {
                continue;
            }
            rules += 1;
            let words = value["message"].as_str().unwrap_or("are preserved over the kexec");
            assert!(goldens.iter().any(|golden| golden.contains(words)), "no invalid example for: {words}");
        }
    }
    assert!(rules > 20, "only {rules} rules were found");
}
