//! The definitions on a real API server: their rules are affordable, the examples are accepted, and each
//! invalid one is refused in the words of its golden file. Without the local evaluator: the server decides.
// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use liveupdate_crds::definitions;
use liveupdate_lab::{ControlPlane, Options};

/// Set to write the golden files anew instead of comparing them.
const REFRESH: &str = "LIVEUPDATE_REFRESH_GOLDENS";

async fn start() -> ControlPlane {
    ControlPlane::start(Options {
        controller_manager: false,
        scheduler: false,
        manifests: vec![common::path("yaml")],
        ..Options::default()
    })
    .await
    .unwrap()
}

/// What kubectl prints, without the path of the file, which depends on where the sources are.
async fn apply(cluster: &ControlPlane, relative: &str) -> (bool, String) {
    let file = common::path(relative);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let file = file.to_string_lossy().into_owned();
    let output = cluster.kubectl(["apply", "-f", &file]).await.unwrap();
    (output.code == Some(0), format!("{}{}", output.stdout, output.stderr).replace(&file, &name))
}

#[tokio::test]
async fn the_definitions_and_examples_are_accepted_and_each_invalid_example_is_refused_as_its_golden_says() {
    let cluster = start().await;

    for crd in definitions() {
        let name = crd.metadata.name.unwrap();
        let read = cluster
            .kubectl([
                "get",
                "crd",
                &name,
                "-o",
                "jsonpath={.status.conditions[?(@.type==\"NonStructuralSchema\")]}",
            ])
            .await
            .unwrap();
        assert_eq!((read.code, read.stdout.as_str()), (Some(0), ""), "{name}: {}", read.stderr);
    }

    for example in ["full", "image", "minimal", "policy", "policy-signers"] {
        let (accepted, said) = apply(&cluster, &format!("examples/{example}.yaml")).await;
        assert!(accepted, "{example}: {said}");
    }

    let mut wrong = Vec::new();
    for name in common::invalid() {
        let (accepted, said) = apply(&cluster, &format!("tests/invalid/{name}.yaml")).await;
        let golden = common::path(&format!("tests/invalid/{name}.txt"));
        if std::env::var_os(REFRESH).is_some() {
            std::fs::write(&golden, &said).unwrap();
        }
        if accepted {
            wrong.push(format!("{name} was accepted"));
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != said {
            wrong.push(format!("{name}: kubectl says now:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}\nTo accept: {REFRESH}=1 cargo test -p liveupdate-crds", wrong.join("\n"));
}

#[tokio::test]
async fn kubectl_get_shows_the_columns_by_short_names_and_by_the_category() {
    let cluster = start().await;
    let (accepted, said) = apply(&cluster, "examples/full.yaml").await;
    assert!(accepted, "{said}");
    let output = cluster.kubectl(["get", "lu"]).await.unwrap();
    let header: Vec<&str> = output.stdout.lines().next().unwrap_or_default().split_whitespace().collect();
    let agreed = ["NAME", "TARGET", "STEP", "UPDATED", "TOTAL", "FAILED", "BLACKOUT-P99", "STATUS", "AGE"];
    assert_eq!(header, agreed, "{}", output.stderr);
    let output = cluster.kubectl(["get", "liveupdate", "-o", "name"]).await.unwrap();
    assert_eq!(output.stdout.trim(), "liveupdate.liveupdate.dev/kernel-735", "{}", output.stderr);
    // A null is an absent field, not an error of a rule.
    let patch = r#"{"spec":{"blackoutBudget":null,"devices":null,"acknowledge":null}}"#;
    let output = cluster.kubectl(["patch", "lu", "kernel-735", "--type=merge", "-p", patch]).await.unwrap();
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}
