//! What the chart gives to Prometheus and Grafana: whether it says something there, and speaks of what there is.

use std::collections::BTreeSet;
use std::process::Command;

use liveupdate_lab::helm::chart;
use serde_json::{Value, json};

use crate::bed::{Bed, run};
use crate::manifests::{name, of_kind, rendered};

/// Prometheus' own reader of rules.
const PROMTOOL: &str = "promtool";

struct Monitoring {
    groups: Value,
    /// Of the dashboard's panels.
    expressions: Vec<String>,
}

async fn monitoring(bed: &Bed) -> Monitoring {
    let flags = ["--set=monitoring.rules.enabled=true", "--set=monitoring.dashboard.enabled=true"];
    let documents = rendered(bed, &flags).await;
    let rules = of_kind(&documents, "PrometheusRule");
    assert_eq!(rules.len(), 1);
    let dashboards = of_kind(&documents, "ConfigMap");
    let dashboard = dashboards.iter().find(|found| name(found) == "liveupdate-dashboard").unwrap();
    let dashboard = dashboard["data"]["liveupdate.json"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    Monitoring { groups: rules[0]["spec"]["groups"].clone(), expressions }
}

fn alerts(groups: &Value) -> Vec<&Value> {
    let groups = groups.as_array().unwrap().iter();
    groups.flat_map(|group| group["rules"].as_array().unwrap()).collect()
}

/// What Prometheus says to a file of rules: whether it takes it, and its words.
fn check(bed: &Bed, file: &str, groups: &Value) -> (bool, String) {
    // JSON is YAML.
    let path = bed.write(file, &json!({ "groups": groups }).to_string());
    let output = Command::new(PROMTOOL).args(["check", "rules", &path]).output();
    let output = output.unwrap_or_else(|error| {
        panic!(
            "cannot run {PROMTOOL} ({error}): scripts/setup.sh installs the package prometheus, which has it"
        )
    });
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn prometheus_takes_the_alerts_and_the_dashboards_expressions() {
    run(async |bed| {
        let Monitoring { groups, expressions } = monitoring(bed).await;
        let (taken, said) = check(bed, "alerts.json", &groups);
        assert!(taken && said.contains(&format!("{} rules found", alerts(&groups).len())), "{said}");

        // Grafana puts in the interval; nothing else of its own is in an expression.
        let record = |(number, expr): (usize, &String)| {
            let expr = expr.replace("$__rate_interval", "1m");
            json!({"record": format!("panel:{number}"), "expr": expr})
        };
        let rules: Vec<Value> = expressions.iter().enumerate().map(record).collect();
        let (taken, said) = check(bed, "dashboard.json", &json!([{"name": "dashboard", "rules": rules}]));
        assert!(taken && said.contains(&format!("{} rules found", rules.len())), "{said}");

        // It reads what it is given.
        let mut broken = groups.clone();
        broken[0]["rules"][0]["expr"] = json!("sum(liveupdate_controller_leader");
        let (taken, said) = check(bed, "broken.json", &broken);
        assert!(!taken && said.contains("could not parse expression"), "{said}");
    });
}

/// Alerts lead to a heading of docs/runbooks.md, and speak of metrics that there are.
#[test]
fn alerts_and_dashboard_speak_of_what_there_is() {
    run(async |bed| {
        let Monitoring { groups, mut expressions } = monitoring(bed).await;
        let root = chart().join("../../docs");
        let runbooks = std::fs::read_to_string(root.join("runbooks.md")).unwrap();
        let metrics = std::fs::read_to_string(root.join("metrics.md")).unwrap();
        let headings: BTreeSet<String> =
            runbooks.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_lowercase).collect();
        let mut named = BTreeSet::new();
        for rule in alerts(&groups) {
            let alert = rule["alert"].as_str().unwrap().to_lowercase();
            let link = rule["annotations"]["runbook_url"].as_str().unwrap();
            assert_eq!(link.rsplit('#').next().unwrap(), alert, "{rule}");
            expressions.push(rule["expr"].as_str().unwrap().to_owned());
            named.insert(alert);
        }
        assert_eq!(named, headings, "alerts and the headings of docs/runbooks.md");
        assert!(expressions.len() > 15);
        for expression in expressions {
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("liveupdate_")) {
                let metric = word.trim_end_matches("_bucket");
                assert!(metrics.contains(&format!("| `{metric}` |")), "{expression}: there is no {metric}");
            }
        }
    });
}
