use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use liveupdate_planner::{Devices, NodeReport, Reason, Time};

use super::*;

/// Everything that there is to count has been counted once.
fn busy() -> Metrics {
    let metrics = Metrics::default();
    metrics.write("Node", "ok");
    metrics.knock();
    metrics.leads(Some(3));
    let node = NodeReport {
        update: Some("kernel".into()),
        class: NodeClass::InFlight,
        reason: Reason::Verifying,
        message: "".into(),
        revision: "r".into(),
        attempt: Some("r-u-1".into()),
        aborts: 0,
        last_failure: "".into(),
        end: None,
    };
    let before = Report { nodes: [("n1", node.clone())].into_iter().collect(), ..Report::default() };
    let end = NodeEnd::Updated {
        verified_at: Time(0),
        blackout: Some(Duration::from_millis(700)),
        simulated: true,
        devices: Devices::default(),
    };
    let node = NodeReport { class: NodeClass::Updated, reason: Reason::Updated, end: Some(end), ..node };
    let report = Report { nodes: [("n1", node)].into_iter().collect(), ..Report::default() };
    metrics.passed(&report, &before, Duration::from_millis(1), Duration::from_millis(3));
    metrics
}

/// One metric as it is scraped.
#[derive(Default)]
struct Scraped {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn scrape(text: &str) -> BTreeMap<String, Scraped> {
    let mut found: BTreeMap<String, Scraped> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("#", rest)) => {
                let (keyword, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                if keyword == "EOF" {
                    continue;
                }
                name.clone_into(&mut family);
                let metric = found.entry(family.clone()).or_default();
                match keyword {
                    "TYPE" => value.clone_into(&mut metric.kind),
                    "HELP" => value.clone_into(&mut metric.help),
                    _ => {}
                }
            }
            Some((series, _)) => {
                let labels = series.split_once('{').map_or("", |(_, labels)| labels);
                let keys = labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, _)| key);
                let metric = found.get_mut(&family).unwrap();
                metric.labels.extend(keys.filter(|key| *key != "le").map(str::to_owned));
            }
            None => panic!("no sample: {line:?}"),
        }
    }
    found
}

fn page() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         <!-- Made by `make generate`; what is written here by hand is lost. -->\n\n\
         The controller serves these at `/metrics` of its admin port, as OpenMetrics text. No label ever holds the \
         name of\na node, of an update, or a text: the number of series does not grow with the fleet.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for (name, metric) in scrape(&busy().text()) {
        // As a query has to name it.
        let name = if metric.kind == "counter" { format!("{name}_total") } else { name };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(text, "| `{name}` | {} | {} | {} |", metric.kind, labels.join(", "), metric.help);
    }
    let classes: Vec<String> = CLASSES.iter().map(|(_, word)| format!("`{word}`")).collect();
    let _ = write!(
        text,
        "\n| label | values |\n|---|---|\n\
         | `state` | {} |\n\
         | `kind` | kind of the object that was written |\n\
         | `result` | `ok`, or why not: `conflict` (somebody else was faster; it is observed and done again), \
         `not_found`, `refused`, `unavailable` |\n\
         | `simulated` | `true` where no real kernel was replaced |\n\
         | `version` | version of the controller |\n",
        classes.join(", ")
    );
    text
}

#[test]
fn every_name_begins_with_the_product_and_counters_end_in_total() {
    let text = busy().text();
    assert!(text.contains("liveupdate_api_writes_total{kind=\"Node\",result=\"ok\"} 1"), "{text}");
    assert!(text.contains("liveupdate_controller_leader 1"), "{text}");
    assert!(text.contains("liveupdate_blackout_duration_seconds_count{simulated=\"true\"} 1"), "{text}");
    let found = scrape(&text);
    assert_eq!(found.len(), 9, "{:?}", found.keys());
    for (name, metric) in &found {
        assert!(name.starts_with("liveupdate_"), "{name}");
        assert!(!metric.help.is_empty() && !metric.kind.is_empty(), "{name}");
    }
}

/// A class that empties goes to zero and does not stay as it was.
#[test]
fn a_class_that_empties_goes_to_zero() {
    let metrics = busy();
    assert!(metrics.text().contains("liveupdate_nodes{state=\"Updated\"} 1"));
    metrics.passed(&Report::default(), &Report::default(), Duration::ZERO, Duration::ZERO);
    assert!(metrics.text().contains("liveupdate_nodes{state=\"Updated\"} 0"));
}

#[test]
fn the_page_of_metrics_is_what_is_scraped() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = page();
    if std::env::var_os("LIVEUPDATE_REFRESH_GOLDENS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = (1..).zip(found.lines().zip(page.lines())).find(|(_, (old, new))| old != new);
    assert!(found == page, "docs/metrics.md is not what is scraped: run `make generate`\n{line:?}");
}
