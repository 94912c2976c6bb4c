//! What a person reads of a run that is over, as plain kubectl prints it. Times, ages and chosen ids are
//! masked; everything else is held by the files in `golden/`. `LIVEUPDATE_REFRESH_GOLDENS=1` writes them anew.

use std::path::Path;

use liveupdate_crds::IntOrPercent;
use liveupdate_crds::update::OnBlocked;
use liveupdate_host::simulated::{Answer, FactsSpec, GateSpec};

use crate::bed::{Bed, run, step};

/// Letters and digits of hexadecimal numbers.
fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_uid(word: &str) -> bool {
    let lengths: Vec<usize> = word.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && word.split('-').all(is_hex)
}

fn is_time(word: &str) -> bool {
    let day = word.get(..10).unwrap_or_default();
    word.contains('T') && word.ends_with('Z') && day.split('-').map(str::len).eq([4, 2, 2])
}

/// `34s`, `2m10s`, `512ms`.
fn is_duration(word: &str) -> bool {
    let unit = word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let numbers = unit.len() < word.len();
    let units = ["s", "m", "ms", "h"].contains(&unit.trim_end_matches(|c: char| c.is_ascii_digit()));
    let composed = word.strip_suffix('s').and_then(|rest| rest.split_once('m'));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers && (units || composed.is_some_and(|(minutes, seconds)| digits(minutes) && digits(seconds)))
}

/// `45fb9b5ca1e257bf29fa496069a540e3-8f3e21b7-1`: revision, beginning of a UID, try.
fn attempt(word: &str) -> Option<String> {
    let parts: Vec<&str> = word.split('-').collect();
    match parts.as_slice() {
        [revision, uid, number]
            if revision.len() == 32 && uid.len() == 8 && is_hex(revision) && is_hex(uid) =>
        {
            Some(format!("{revision}-UID-{number}"))
        }
        _ => None,
    }
}

fn masked(word: &str) -> String {
    let bare = word.trim_end_matches(',');
    if is_uid(bare) {
        "UID".to_owned()
    } else if is_time(bare) {
        "TIME".to_owned()
    } else if is_duration(bare) {
        "DURATION".to_owned()
    } else {
        attempt(bare).unwrap_or_else(|| word.to_owned())
    }
}

/// Lines whose value is another one each time, by what they begin with.
const VOLATILE: [&str; 8] =
    ["Resource Version:", "Max Ms:", "p50Ms:", "p99Ms:", "Blackout Ms:", "maxMs:", "Counter:", "Generation:"];

fn mask(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        let body = line.trim();
        match VOLATILE.iter().find(|name| body.starts_with(*name)) {
            Some(name) => format!("{indent}{name} NUMBER\n"),
            None => {
                format!("{indent}{}\n", body.split_whitespace().map(masked).collect::<Vec<_>>().join(" "))
            }
        }
    });
    lines.collect()
}

fn is_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rollout/golden").join(name);
    let text = mask(text);
    if std::env::var_os("LIVEUPDATE_REFRESH_GOLDENS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, golden, "{} differs; LIVEUPDATE_REFRESH_GOLDENS=1 writes it anew", path.display());
}

async fn raw(bed: &Bed, args: &str) -> String {
    let output = bed.bed.plane.kubectl(args.split_whitespace()).await.unwrap();
    assert_eq!(output.code, Some(0), "kubectl {args}: {}", output.stderr);
    output.stdout
}

/// Events are counted by kubectl's own clock, and come in the order in which the server took them.
fn without_events(text: &str) -> &str {
    text.split("\nEvents:").next().unwrap()
}

#[test]
fn a_finished_run_reads_well() {
    run(async |bed| {
        let pool = bed
            .pool("read", 4, |number, world| match number {
                2 => world.devices[0].facts = FactsSpec::paused(4),
                3 => world.devices[0].facts = FactsSpec::reinitialised(),
                4 => world.gates.push(GateSpec {
                    id: "KexecHandover".into(),
                    subject: None,
                    release: None,
                    result: Answer::Fail,
                    evidence: Some("/proc/cmdline: kho=on is not there".into()),
                    remedy: Some("boot the node once with kho=on".into()),
                }),
                _ => {}
            })
            .await;
        pool.roll(|update| {
            update.spec.strategy.on_blocked = OnBlocked::Skip;
            let (one, all) = (IntOrPercent::Int(1), IntOrPercent::Percent("100%".into()));
            update.spec.strategy.steps = vec![step("canary", one), step("rest", all)];
        })
        .await;
        bed.success("read").await;
        for (number, state) in [(1, "Updated"), (2, "Updated"), (3, "Updated"), (4, "Skipped")] {
            pool.node_update(&pool.name_of(number), state, |status| status.state == state).await;
        }
        let table = raw(bed, "get lu/read nlu/read-1 nlu/read-2 nlu/read-3 nlu/read-4").await;
        is_golden("get.txt", &table);
        is_golden("describe-lu.txt", without_events(&raw(bed, "describe lu read").await));
        for (name, node) in [("updated", "read-1"), ("paused", "read-2"), ("skipped", "read-4")] {
            let described = raw(bed, &format!("describe nlu {node}")).await;
            is_golden(&format!("describe-nlu-{name}.txt"), without_events(&described));
        }
    });
}
