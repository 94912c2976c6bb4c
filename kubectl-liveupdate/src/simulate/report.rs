//! What a simulation says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use liveupdate_planner::{Bound, NodeEnd};
use serde::Serialize;

use super::course::{LARGE, ROUNDED, assumed};
use super::fleet::Fleet;
use super::manifest::Asked;
use super::run::Ran;
use crate::render::table::{Column, draw};
use crate::render::{Canvas, Tone, units};

/// Everything, as `-o json` prints it. Times are milliseconds from the start.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Always true.
    pub simulated: bool,
    /// Name of the update.
    pub update: String,
    /// Its revision.
    pub revision: String,
    /// The release.
    pub target: String,
    /// What was drawn from.
    pub seed: u64,
    /// Nodes of the fleet.
    pub nodes: u32,
    /// Guests of the fleet.
    pub guests: u64,
    /// How the run went.
    pub run: RunReport,
    /// How it goes with a kernel that comes up as another one on every node.
    pub bad_kernel: BadReport,
    /// What was assumed.
    pub assumptions: Vec<String>,
}

/// How the run went.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunReport {
    /// How it ended, or at what it stands.
    pub result: String,
    /// A sentence about that.
    pub message: String,
    /// It ended.
    pub finished: bool,
    /// How long.
    pub duration_ms: u64,
    /// Most nodes unavailable at once.
    pub peak_unavailable: u32,
    /// The most that may be.
    pub max_unavailable: u32,
    /// What bounds that.
    pub bounded_by: &'static str,
    /// Updated nodes.
    pub updated: u32,
    /// Failed nodes.
    pub failed: u32,
    /// Blocked nodes.
    pub blocked: u32,
    /// Skipped nodes.
    pub skipped: u32,
    /// Nodes that still wait.
    pub waiting: u32,
    /// Devices by outcome.
    pub devices: BTreeMap<&'static str, u64>,
    /// Blackout of the nodes.
    pub blackout: Option<BlackoutReport>,
    /// The steps.
    pub timeline: Vec<StepReport>,
}

/// Blackouts in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlackoutReport {
    /// Median.
    pub p50_ms: u64,
    /// 99th percentile, nearest rank.
    pub p99_ms: u64,
    /// Longest.
    pub max_ms: u64,
}

/// One step.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// Nodes in all.
    pub nodes: u32,
    /// When it began.
    pub began_ms: u64,
    /// When its nodes were updated.
    pub reached_ms: Option<u64>,
    /// When the next one could begin.
    pub passed_ms: Option<u64>,
}

/// What a bad kernel costs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BadReport {
    /// Nodes that came up with another kernel or failed otherwise.
    pub nodes_hit: u32,
    /// Guests on them.
    pub guests_hit: u64,
    /// How long until the run had stopped itself.
    pub stopped_after_ms: u64,
    /// Why it stands.
    pub reason: String,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn tell(milliseconds: u64) -> String {
    let milliseconds = i64::try_from(milliseconds).unwrap_or(i64::MAX);
    if milliseconds == 0 { "0s".to_owned() } else { units::duration(milliseconds) }
}

impl Report {
    /// Of two runs over the same fleet.
    #[must_use]
    pub fn new(asked: &Asked, fleet: &Fleet, seed: u64, good: &Ran, bad: &Ran) -> Self {
        let hit = || {
            fleet.machines.iter().zip(&bad.ends).filter(|(_, end)| end.as_ref().is_some_and(Ran::is_failure))
        };
        Self {
            simulated: true,
            update: asked.update.metadata.name.clone().unwrap_or_default(),
            revision: asked.spec.revision.to_string(),
            target: asked.spec.release.to_string(),
            seed,
            nodes: u32::try_from(fleet.machines.len()).unwrap_or(u32::MAX),
            guests: fleet.guests(),
            run: RunReport::new(fleet, good),
            bad_kernel: BadReport {
                nodes_hit: u32::try_from(hit().count()).unwrap_or(u32::MAX),
                guests_hit: hit().map(|(machine, _)| u64::from(machine.guests)).sum(),
                stopped_after_ms: millis(bad.duration),
                reason: standing(bad),
            },
            assumptions: assumptions(asked, good, fleet),
        }
    }

    /// For people.
    #[must_use]
    pub fn text(&self, canvas: Canvas) -> String {
        let run = &self.run;
        let mut out = format!(
            "{} → {} over {}, seed {}\n\n",
            Tone::Strong.paint(&self.update, canvas),
            self.target,
            units::count(self.nodes, "imagined node"),
            self.seed
        );
        let mut line = |label: &str, text: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}  {text}", Tone::Faint.paint(&format!("{label:<10}"), canvas));
        };
        let word = if run.finished { "after" } else { "and stands since" };
        line("result", &format!("{} {word} {}", run.result, tell(run.duration_ms)));
        if !run.message.is_empty() {
            line("", &run.message);
        }
        let counts = [
            (run.updated, "updated"),
            (run.failed, "failed"),
            (run.blocked, "blocked"),
            (run.skipped, "skipped"),
            (run.waiting, "waiting"),
        ];
        let counts: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        line("nodes", &counts.join(", "));
        line(
            "peak",
            &format!(
                "{} unavailable at once; at most {} may be ({})",
                run.peak_unavailable, run.max_unavailable, run.bounded_by
            ),
        );
        if !run.devices.is_empty() {
            let devices: Vec<_> = run.devices.iter().map(|(word, count)| format!("{count} {word}")).collect();
            line("devices", &devices.join(", "));
        }
        if let Some(of) = run.blackout {
            let values = format!("p50 {}  p99 {}  max {}", tell(of.p50_ms), tell(of.p99_ms), tell(of.max_ms));
            line("blackout", &format!("{values}  (simulated)"));
        }
        out.push('\n');
        out.push_str(&self.timeline(canvas));
        let bad = &self.bad_kernel;
        let _ = write!(
            out,
            "\n{}\n  {} and {} hit, of {} and {}\n  stopped by itself after {}: {}\n\n{}\n",
            Tone::Bad.paint("If the target came up as another kernel on every node:", canvas),
            units::count(bad.nodes_hit, "node"),
            units::count(i64::try_from(bad.guests_hit).unwrap_or(i64::MAX), "guest"),
            self.nodes,
            self.guests,
            tell(bad.stopped_after_ms),
            bad.reason,
            Tone::Faint.paint("Assumed:", canvas),
        );
        for assumption in &self.assumptions {
            let _ = writeln!(out, "  {}", Tone::Faint.paint(assumption, canvas));
        }
        out
    }

    fn timeline(&self, canvas: Canvas) -> String {
        let columns = [("STEP", 0), ("NODES", 0), ("BEGAN", 2), ("REACHED", 1), ("PASSED", 1)]
            .map(|(title, rank)| Column { title, rank });
        let time = |at: Option<u64>| at.map_or_else(|| "never".to_owned(), tell);
        let rows: Vec<_> = self
            .run
            .timeline
            .iter()
            .map(|step| {
                let texts = [
                    step.name.clone(),
                    step.nodes.to_string(),
                    time(Some(step.began_ms)),
                    time(step.reached_ms),
                    time(step.passed_ms),
                ];
                texts.into_iter().map(|text| (text, Tone::Plain)).collect()
            })
            .collect();
        draw(&columns, &rows, canvas)
    }
}

impl RunReport {
    fn new(fleet: &Fleet, ran: &Ran) -> Self {
        let mut devices = BTreeMap::new();
        let mut blackouts = Vec::new();
        for (machine, end) in fleet.machines.iter().zip(&ran.ends) {
            if let Some(NodeEnd::Updated { blackout: Some(blackout), .. }) = end {
                blackouts.push(millis(*blackout));
                for (outcome, count) in &fleet.courses[machine.course].outcomes {
                    *devices.entry(outcome.as_str()).or_insert(0) += u64::from(*count);
                }
            }
        }
        blackouts.sort_unstable();
        // Nearest rank.
        let at = |percent: usize| {
            blackouts.get((blackouts.len() * percent).div_ceil(100).saturating_sub(1)).copied()
        };
        let blackout = at(50).zip(at(99)).zip(at(100));
        let report = &ran.report;
        Self {
            result: standing(ran),
            message: report.message.clone(),
            finished: ran.finished.is_some(),
            duration_ms: millis(ran.duration),
            peak_unavailable: ran.peak,
            max_unavailable: report.max_unavailable,
            bounded_by: match report.bounded_by {
                Bound::Spec => "by the spec",
                Bound::Policy => "by the policy",
                Bound::InFlightLimit => "by the most attempts in flight",
            },
            updated: report.updated,
            failed: report.failed,
            blocked: report.blocked,
            skipped: report.skipped,
            waiting: report.waiting,
            devices,
            blackout: blackout.map(|((p50_ms, p99_ms), max_ms)| BlackoutReport { p50_ms, p99_ms, max_ms }),
            timeline: ran
                .steps
                .iter()
                .map(|step| StepReport {
                    name: step.name.clone(),
                    nodes: step.nodes,
                    began_ms: millis(step.began),
                    reached_ms: step.reached.map(millis),
                    passed_ms: step.passed.map(millis),
                })
                .collect(),
        }
    }
}

/// How a run ended, or at what it stands.
fn standing(ran: &Ran) -> String {
    let report = &ran.report;
    let not_accepted = report.not_accepted.as_ref().map(|(reason, _)| *reason);
    let finished = ran.finished.map(|finished| finished.reason);
    let reason = finished.or(not_accepted).or(report.paused).or(report.progress);
    reason.map_or_else(|| "nothing happened".to_owned(), |reason| reason.as_str().to_owned())
}

fn assumptions(asked: &Asked, good: &Ran, fleet: &Fleet) -> Vec<String> {
    let seconds = |duration: Duration| tell(millis(duration));
    let mut lines = vec![
        "every node is healthy, passes all gates, and its devices can do what is asked of them".to_owned(),
        format!(
            "a node takes {} for gates, {} to stage, {} per guest to preserve, {} to settle",
            seconds(assumed::PREFLIGHT),
            seconds(assumed::STAGE),
            seconds(assumed::PRESERVE_PER_GUEST),
            seconds(assumed::SETTLE)
        ),
        format!(
            "the jump takes {}, the return {} per guest, and {} until the kubelet has reported",
            seconds(assumed::JUMP),
            seconds(assumed::RECLAIM_PER_GUEST),
            seconds(assumed::KUBELET)
        ),
    ];
    if u32::try_from(fleet.machines.len()).is_ok_and(|nodes| nodes > LARGE) {
        lines.push(format!("a node's times are rounded up to whole {}", seconds(ROUNDED)));
    }
    if good.approved > 0 {
        lines.push(format!("{} given at once", units::count(good.approved, "approval")));
    }
    if !asked.has_policy {
        lines.push("no policy in the file: one that allows what is acknowledged".to_owned());
    }
    lines
}
