//! The definitions as they are installed: generated files, shape, bounds, columns.
// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use liveupdate_crds::definitions;
use serde_json::Value;

fn walk(value: &Value, path: &str, see: &mut dyn FnMut(&str, &serde_json::Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            see(path, map);
            for (key, value) in map {
                // A default is a value and no schema.
                if key != "default" {
                    walk(value, &format!("{path}.{key}"), see);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(item, &format!("{path}[{index}]"), see);
            }
        }
        _ => {}
    }
}

fn schema(crd: &CustomResourceDefinition) -> Value {
    let version = &crd.spec.versions[0];
    serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

#[test]
fn the_generated_files_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let on_disk: BTreeMap<String, String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                std::fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    let generated: BTreeMap<String, String> = liveupdate_crds::yaml::files().unwrap().into_iter().collect();
    assert!(
        on_disk == generated,
        "crds/yaml is not what the types say; run: cargo run -p liveupdate-crds --bin crdgen -- crds/yaml"
    );
}

#[test]
fn numbers_are_signed_integers_and_nothing_is_nullable() {
    for crd in definitions() {
        walk(&schema(&crd), &crd.spec.names.kind, &mut |path, part| {
            if let Some(format) = part.get("format").and_then(Value::as_str) {
                assert!(!format.starts_with("uint"), "{path} has format {format}");
            }
            assert_ne!(part.get("type").and_then(Value::as_str), Some("number"), "{path} is a float");
            assert!(part.get("nullable").is_none(), "{path} is nullable");
        });
    }
}

#[test]
fn everything_that_a_person_writes_is_bounded() {
    for crd in definitions() {
        walk(&schema(&crd)["properties"]["spec"], &crd.spec.names.kind, &mut |path, part| {
            let has = |key: &str| part.contains_key(key);
            match part.get("type").and_then(Value::as_str) {
                Some("array") => assert!(has("maxItems"), "{path} is a list without end"),
                Some("string") if !path.contains("anyOf") => {
                    assert!(has("maxLength") || has("enum"), "{path} is a string without end");
                }
                Some("object") if has("additionalProperties") => {
                    assert!(has("maxProperties"), "{path} is a map without end");
                }
                _ => {}
            }
        });
    }
}

#[test]
fn lists_in_statuses_are_bounded() {
    for crd in definitions() {
        walk(&schema(&crd)["properties"]["status"], &crd.spec.names.kind, &mut |path, part| {
            if part.get("type").and_then(Value::as_str) == Some("array") {
                assert!(part.contains_key("maxItems"), "{path} is a list without end");
            }
        });
    }
}

#[test]
fn every_field_says_what_it_means() {
    for crd in definitions() {
        for part in ["spec", "status"] {
            walk(&schema(&crd)["properties"][part], &crd.spec.names.kind, &mut |path, schema| {
                let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
                for (name, field) in properties {
                    assert!(field.get("description").is_some(), "{path}.{name} has no description");
                }
            });
        }
    }
}

#[test]
fn every_rule_has_a_message() {
    for crd in definitions() {
        walk(&schema(&crd), &crd.spec.names.kind, &mut |path, part| {
            if part.contains_key("rule") {
                assert!(part.contains_key("message") || part.contains_key("messageExpression"), "{path}");
            }
        });
    }
}

#[test]
fn kubectl_shows_the_agreed_columns() {
    let columns = |kind: &str| {
        let crd = definitions().into_iter().find(|crd| crd.spec.names.kind == kind).unwrap();
        let columns = crd.spec.versions[0].additional_printer_columns.clone().unwrap();
        let shown = columns.into_iter().filter(|column| column.priority.unwrap_or(0) == 0);
        shown.map(|column| column.name.to_uppercase()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(columns("LiveUpdate"), "TARGET STEP UPDATED TOTAL FAILED BLACKOUT-P99 STATUS AGE");
    assert_eq!(columns("NodeLiveUpdate"), "KERNEL STATE REASON DEVICES VERDICT BLACKOUT UPDATE AGE");
}

#[test]
fn names_are_the_agreed_ones() {
    for (crd, short) in definitions().iter().zip(["lup", "lu", "nlu"]) {
        assert_eq!(crd.spec.scope, "Cluster");
        assert_eq!(crd.spec.names.short_names.as_deref(), Some(&[short.to_owned()][..]));
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["liveupdate".to_owned()][..]));
        let labels = crd.metadata.labels.clone().unwrap();
        assert_eq!(labels.get("app.kubernetes.io/name").map(String::as_str), Some("liveupdate"));
    }
}
