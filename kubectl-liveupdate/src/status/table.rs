//! All updates, one line each, with the columns that `kubectl get lu` has.

use jiff::Timestamp;
use kube::ResourceExt;
use liveupdate_crds::LiveUpdate;
use liveupdate_crds::revision::short;

use super::summary;
use crate::render::table::{Column, draw};
use crate::render::{Canvas, Tone, units};

/// Draws the table.
#[must_use]
pub fn render(updates: &[LiveUpdate], now: Timestamp, wide: bool, canvas: Canvas) -> String {
    if updates.is_empty() {
        return String::new();
    }
    let titles = [
        ("NAME", 0),
        ("TARGET", 4),
        ("STEP", 3),
        ("UPDATED", 1),
        ("TOTAL", 1),
        ("FAILED", 2),
        ("BLACKOUT-P99", 5),
        ("STATUS", 0),
        ("AGE", 3),
        ("REVISION", 6),
        ("SUMMARY", 7),
    ];
    let shown = if wide { titles.len() } else { titles.len() - 2 };
    let columns: Vec<_> = titles[..shown].iter().map(|(title, rank)| Column { title, rank: *rank }).collect();
    let rows: Vec<_> = updates.iter().map(|update| row(update, now)).collect();
    draw(&columns, &rows, canvas)
}

fn row(update: &LiveUpdate, now: Timestamp) -> Vec<(String, Tone)> {
    let status = update.status.clone().unwrap_or_default();
    let counts = &status.counts;
    let step =
        status.step.map_or_else(String::new, |step| format!("{}/{} {}", step.index, step.of, step.name));
    let failed = if counts.failed > 0 { Tone::Bad } else { Tone::Plain };
    let age = update.creation_timestamp().map_or_else(String::new, |created| units::age(created.0, now));
    vec![
        (update.name_any(), Tone::Strong),
        (update.spec.target.release.clone(), Tone::Plain),
        (step, Tone::Plain),
        (counts.updated.to_string(), Tone::Plain),
        (counts.total.to_string(), Tone::Plain),
        (counts.failed.to_string(), failed),
        (status.blackout.map_or_else(String::new, |blackout| blackout.p99), Tone::Plain),
        summary::word(update),
        (age, Tone::Plain),
        (short(&status.revision).to_owned(), Tone::Faint),
        (status.summary, Tone::Plain),
    ]
}
