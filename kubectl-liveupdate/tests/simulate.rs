//! `simulate`: the same bytes for the same seed, honest about a bad kernel, clear about bad files.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy.toml covers only the tests themselves")]

use std::fs;
use std::path::Path;

use kubectl_liveupdate::cli::SimulateOutput;
use kubectl_liveupdate::render::Canvas;
use kubectl_liveupdate::simulate::simulate;
use serde_json::Value;

const DIGEST: &str = "sha256:4d967a30111bf29f0eba01c448b375c1629b2fed01cdfcc3aed91f1b57d5dd5e";

fn manifest(more: &str) -> String {
    format!(
        "# a comment before all\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: other}}\n---\n\
         apiVersion: liveupdate.dev/v1alpha1\nkind: LiveUpdate\nmetadata: {{name: gpu}}\nspec:\n  \
         nodeSelector: {{matchLabels: {{pool: gpu}}}}\n  \
         target: {{release: 7.3.5-lu2, bundle: {{name: b, digest: \"{DIGEST}\"}}}}\n  \
         acknowledge: [VfioPciLiveUpdate]\n  \
         devices: [{{name: gpus, match: {{}}, onUpdate: Preserve, minimumContinuity: Paused}}]\n{more}"
    )
}

const STEPS: &str = "  strategy:\n    maxUnavailable: 10%\n    steps:\n    \
    - {name: canary, nodes: 1, cover: [DeviceModel], bake: 30m, approval: Required}\n    \
    - {name: rest, nodes: 100%}\n";

fn text(manifest: &str, nodes: u32, seed: u64) -> Result<String, String> {
    simulate(manifest, nodes, seed, SimulateOutput::Table, Canvas::plain())
}

fn json(manifest: &str, nodes: u32) -> Value {
    let text = simulate(manifest, nodes, 1, SimulateOutput::Json, Canvas::plain()).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_simulation_reads_well() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/simulate.txt");
    let actual = text(&manifest(STEPS), 60, 7).unwrap();
    if std::env::var_os("LIVEUPDATE_REFRESH_GOLDENS").is_some() {
        fs::write(&path, &actual).unwrap();
    }
    assert_eq!(actual, fs::read_to_string(&path).unwrap_or_default());
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_another_fleet() {
    let manifest = manifest(STEPS);
    assert_eq!(text(&manifest, 60, 7), text(&manifest, 60, 7));
    let guests = |seed| {
        let text = simulate(&manifest, 60, seed, SimulateOutput::Json, Canvas::plain()).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["guests"].clone()
    };
    assert_ne!(guests(7), guests(8));
}

#[test]
fn invariant_1_never_more_nodes_are_unavailable_than_may_be() {
    let report = json(&manifest(STEPS), 60);
    assert_eq!(report["run"]["result"], "Completed");
    assert_eq!(report["run"]["updated"], 60);
    assert_eq!(report["run"]["maxUnavailable"], 6);
    let peak = report["run"]["peakUnavailable"].as_u64().unwrap();
    assert!((2..=6).contains(&peak), "{peak}");
}

#[test]
fn invariant_4_a_bad_kernel_costs_the_canary_and_no_more() {
    let with_canary = json(&manifest(STEPS), 60)["badKernel"].clone();
    assert_eq!(with_canary["reason"], "FailureBudgetSpent");
    let hit = with_canary["nodesHit"].as_u64().unwrap();
    assert!((1..=2).contains(&hit), "two models are covered: {with_canary}");
    let all_at_once = json(&manifest("  strategy: {maxUnavailable: 50%}\n"), 60)["badKernel"].clone();
    assert!(all_at_once["nodesHit"].as_u64().unwrap() > hit, "without a canary it costs more: {all_at_once}");
}

#[test]
fn a_blackout_over_budget_is_found_before_any_node_suffers_it() {
    let report = json(&manifest("  blackoutBudget: 100ms\n"), 20);
    assert_eq!(report["run"]["result"], "FailureBudgetSpent");
    assert_eq!(report["run"]["failed"], 1);
    assert_eq!(report["run"]["finished"], false);
}

#[test]
fn a_deadline_that_is_too_short_undoes_attempts() {
    let report = json(&manifest("  deadlines: {stage: 5s}\n"), 20);
    assert_eq!(report["run"]["updated"], 0);
    assert_eq!(report["run"]["finished"], false);
    assert_eq!(report["badKernel"]["nodesHit"], 0, "nothing jumps, so nothing is hit");
}

#[test]
fn what_the_policy_forbids_is_not_started() {
    let policy = "---\napiVersion: liveupdate.dev/v1alpha1\nkind: LiveUpdatePolicy\nmetadata: {name: default}\nspec: {}\n";
    let report = json(&(manifest(STEPS) + policy), 20);
    assert_eq!(report["run"]["result"], "AcknowledgementNotAllowed");
    assert_eq!(report["run"]["updated"], 0);
}

#[test]
fn errors_name_line_or_field() {
    let error = |manifest: &str| text(manifest, 10, 1).unwrap_err();
    let broken = error(&manifest("  strategy: {steps: [}\n"));
    assert!(broken.contains("15"), "the line of the file: {broken}");
    let wrong = error(&manifest("  strategy: {onBlocked: Wayt}\n"));
    assert!(wrong.contains("Wayt"), "{wrong}");
    let unacknowledged = error(&manifest("").replace("  acknowledge: [VfioPciLiveUpdate]\n", ""));
    assert!(unacknowledged.starts_with("The LiveUpdate \"gpu\" is invalid:\n* "), "{unacknowledged}");
    assert!(unacknowledged.contains("VfioPciLiveUpdate"), "{unacknowledged}");
    assert_eq!(error("kind: ConfigMap\n"), "there is no LiveUpdate of liveupdate.dev/v1alpha1 in it");
    assert_eq!(error(""), "there is no LiveUpdate of liveupdate.dev/v1alpha1 in it");
    let twice = manifest("") + "---\n" + &manifest("");
    assert!(error(&twice).contains("a second LiveUpdate"), "{}", error(&twice));
    let nameless = error(&manifest("").replace("{name: gpu}", "{}"));
    assert_eq!(nameless, "the LiveUpdate has no metadata.name");
}
