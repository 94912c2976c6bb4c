//! What people read, held against files. `LIVEUPDATE_REFRESH_GOLDENS=1 cargo test -p kubectl-liveupdate` writes them anew;
//! the difference is then read in review.

#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy.toml covers only the tests themselves")]

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use kubectl_liveupdate::explain::{self, Known};
use kubectl_liveupdate::render::Canvas;
use kubectl_liveupdate::status::{View, table, tree};
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn compare(name: &str, actual: &str) {
    let path = folder("golden").join(name);
    if std::env::var_os("LIVEUPDATE_REFRESH_GOLDENS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs; LIVEUPDATE_REFRESH_GOLDENS=1 writes it anew", path.display());
}

fn documents(fixture: &str) -> Vec<Value> {
    let text = fs::read_to_string(folder("fixtures").join(fixture)).unwrap();
    serde_saphyr::from_multiple(&text).unwrap()
}

fn of_kind<K: serde::de::DeserializeOwned>(documents: &[Value], kind: &str) -> Vec<K> {
    let of_kind = documents.iter().filter(|document| document["kind"] == kind);
    of_kind.map(|document| serde_json::from_value(document.clone()).unwrap()).collect()
}

fn now() -> Timestamp {
    "2026-11-23T15:00:00Z".parse().unwrap()
}

fn canvas(width: usize) -> Canvas {
    Canvas { width, ..Canvas::plain() }
}

fn view(fixture: &str) -> View {
    let documents = documents(fixture);
    let update = of_kind::<LiveUpdate>(&documents, "LiveUpdate").remove(0);
    View::new(update, of_kind::<NodeLiveUpdate>(&documents, "NodeLiveUpdate"))
}

const SITUATIONS: [&str; 7] = ["rolling", "approval", "spent", "held", "refused", "done", "unseen"];

#[test]
fn an_update_reads_well_in_every_situation_and_width() {
    for situation in SITUATIONS {
        let view = view(&format!("{situation}.yaml"));
        for width in [120, 80, 40] {
            let text = tree::tree(&view, now(), canvas(width)).draw(canvas(width));
            compare(&format!("status-{situation}-{width}.txt"), &text);
        }
    }
}

#[test]
fn no_line_is_longer_than_the_terminal_unless_one_word_is() {
    for situation in SITUATIONS {
        for width in [120, 80, 40] {
            let text =
                tree::tree(&view(&format!("{situation}.yaml")), now(), canvas(width)).draw(canvas(width));
            for line in text.lines().filter(|line| line.chars().count() > width) {
                let bare = line.trim_start_matches(['│', '├', '└', '─', ' ']);
                assert!(!bare.contains(' '), "{situation} at {width}: {line}");
            }
        }
    }
}

#[test]
fn narrow_terminals_lose_no_word() {
    let words = |width| {
        let text = tree::tree(&view("rolling.yaml"), now(), canvas(width)).draw(canvas(width));
        let branches: &[char] = &['│', '├', '└', '─'];
        text.replace(branches, " ").split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(words(40), words(kubectl_liveupdate::render::UNBOUNDED));
}

#[test]
fn a_pipe_gets_lines_that_stand_alone_and_keep_still() {
    let plain = Canvas { ages: false, ..Canvas::plain() };
    let lines = |now: Timestamp| tree::tree(&view("rolling.yaml"), now, plain).flat();
    compare("status-rolling-pipe.txt", &(lines(now()).join("\n") + "\n"));
    let later = "2026-11-23T15:07:00Z".parse().unwrap();
    assert_eq!(lines(now()), lines(later), "the passing of time alone is no change");
}

#[test]
fn all_updates_fit_a_table() {
    let updates: Vec<LiveUpdate> =
        SITUATIONS.iter().map(|name| view(&format!("{name}.yaml")).update).collect();
    for (name, width, wide) in
        [("120", 120, false), ("80", 80, false), ("40", 40, false), ("wide", 400, true)]
    {
        compare(&format!("status-all-{name}.txt"), &table::render(&updates, now(), wide, canvas(width)));
    }
}

#[test]
fn a_node_is_explained_in_every_state() {
    for fixture in ["rolling.yaml", "done.yaml", "spent.yaml"] {
        let documents = documents(fixture);
        let nodes = of_kind::<Node>(&documents, "Node");
        for record in of_kind::<NodeLiveUpdate>(&documents, "NodeLiveUpdate") {
            let name = record.name_any();
            let node = nodes.iter().find(|node| node.name_any() == name).cloned();
            let known = Known { name: name.clone(), node, record: Some(record) };
            for width in [100, 40] {
                let text = explain::tree(&known, now(), canvas(width)).draw(canvas(width));
                compare(&format!("explain-{}-{name}-{width}.txt", fixture.trim_end_matches(".yaml")), &text);
            }
        }
    }
}

#[test]
fn a_node_without_an_agent_is_explained_too() {
    let known = Known { name: "node-99".into(), ..Known::default() };
    compare("explain-unknown.txt", &explain::tree(&known, now(), canvas(80)).draw(canvas(80)));
}
