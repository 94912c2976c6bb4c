//! An update as a tree: steps, nodes, devices, blackout, end.

use jiff::Timestamp;
use kube::ResourceExt;
use liveupdate_crds::conditions::{LiveUpdateCondition, find};
use liveupdate_crds::revision::short;
use liveupdate_crds::update::{Approval, LiveUpdateStatus, Step};
use liveupdate_crds::{IntOrPercent, LiveUpdate};
use liveupdate_planner::Reason;

use super::{View, nodes, summary};
use crate::advice;
use crate::render::tree::Tree;
use crate::render::{Canvas, Tone, units};

/// The whole tree.
#[must_use]
pub fn tree(view: &View, now: Timestamp, canvas: Canvas) -> Tree {
    let update = &view.update;
    let (word, tone) = summary::word(update);
    let mut root = Tree::new(update.name_any(), Tone::Strong)
        .and(format!("→ {}", update.spec.target.release), Tone::Plain)
        .and(word, tone);
    let Some(status) = &update.status else {
        root.push(Tree::new("no controller has seen this update yet", Tone::Wait));
        return root;
    };
    root = root.and(age(update, status, now, canvas), Tone::Faint);
    for line in standing(update, status) {
        root.push(line);
    }
    root.push_branch(steps(update, status, now, canvas));
    root.push_branch(nodes::branch(view, status, now, canvas));
    let last = [devices(status), blackout(status), end(status, now, canvas)];
    for line in last.into_iter().flatten() {
        root.push(line);
    }
    root
}

fn age(update: &LiveUpdate, status: &LiveUpdateStatus, now: Timestamp, canvas: Canvas) -> String {
    let revision = if status.revision.is_empty() { "unknown" } else { short(&status.revision) };
    let created = update.creation_timestamp().map(|created| units::ago(created.0, now, canvas));
    format!("revision {revision}, made {}", created.unwrap_or_else(|| "at an unknown time".to_owned()))
}

/// What is said about the run as a whole: not accepted, paused, held, conflicted, degraded.
fn standing(update: &LiveUpdate, status: &LiveUpdateStatus) -> Vec<Tree> {
    let mut lines = Vec::new();
    if !summary::is_current(update, status) {
        lines.push(Tree::new("the spec was edited; the controller has not read the edit yet", Tone::Wait));
    }
    let mut conditions = Vec::new();
    let accepted = summary::fails(&status.conditions, LiveUpdateCondition::Accepted);
    conditions.extend(accepted.map(|one| ("not accepted", one, Tone::Bad)));
    for (kind, label, tone) in [
        (LiveUpdateCondition::Paused, "paused", Tone::Wait),
        (LiveUpdateCondition::Conflicted, "conflicted", Tone::Wait),
        (LiveUpdateCondition::Degraded, "degraded", Tone::Bad),
    ] {
        conditions.extend(summary::holds(&status.conditions, kind).map(|one| (label, one, tone)));
    }
    let mut told = Vec::new();
    for (label, condition, tone) in conditions {
        let mut line =
            Tree::new(label, tone).and(condition.reason.clone(), tone).and(&condition.message, Tone::Plain);
        let advice = advice::advice_for(&condition.reason, Some(&update.name_any()), None);
        if !advice.is_empty() && !told.contains(&advice) {
            line.push(Tree::new(format!("→ {advice}"), Tone::Strong));
            told.push(advice);
        }
        lines.push(line);
    }
    if summary::is_held(update) && summary::holds(&status.conditions, LiveUpdateCondition::Paused).is_none() {
        lines.push(
            Tree::new("held", Tone::Wait).and("by annotation; not taken by the controller yet", Tone::Plain),
        );
    }
    lines
}

fn steps(update: &LiveUpdate, status: &LiveUpdateStatus, now: Timestamp, canvas: Canvas) -> Tree {
    let mut branch = Tree::new("steps", Tone::Faint);
    let named = &update.spec.strategy.steps;
    let implied = [Step {
        name: "all".to_owned(),
        nodes: IntOrPercent::Percent("100%".to_owned()),
        cover: Vec::new(),
        bake: None,
        approval: Approval::NotRequired,
    }];
    let steps = if named.is_empty() { &implied[..] } else { named };
    let succeeded = summary::holds(&status.conditions, LiveUpdateCondition::Succeeded).is_some();
    let current = status.step.as_ref();
    for (index, step) in steps.iter().enumerate() {
        let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
        let place = current.map_or(i32::MIN, |current| current.index);
        let line = if succeeded || number < place {
            Tree::new(format!("✓ {}", step.name), Tone::Good).and(asked(step, status, false), Tone::Faint)
        } else if number == place {
            present(step, status, now, canvas)
        } else {
            Tree::new(format!("· {}", step.name), Tone::Faint).and(asked(step, status, true), Tone::Faint)
        };
        branch.push(line);
    }
    branch
}

/// What a step asks for: nodes, cover, bake, approval.
fn asked(step: &Step, status: &LiveUpdateStatus, to_come: bool) -> String {
    let mut parts = vec![match &step.nodes {
        IntOrPercent::Int(number) => units::count(*number, "node"),
        IntOrPercent::Percent(percent) if status.counts.eligible > 0 => {
            format!("{} ({percent})", units::count(units::share(&step.nodes, status.counts.eligible), "node"))
        }
        IntOrPercent::Percent(percent) => format!("{percent} of the nodes"),
    }];
    if to_come && !step.cover.is_empty() {
        parts.push("more until every device model is covered".to_owned());
    }
    parts.extend(step.bake.as_ref().map(|bake| format!("bake {bake}")));
    if step.approval == Approval::Required {
        parts.push(if to_come { "approval required" } else { "approved" }.to_owned());
    }
    parts.join(", ")
}

fn present(step: &Step, status: &LiveUpdateStatus, now: Timestamp, canvas: Canvas) -> Tree {
    let Some(at) = &status.step else { return Tree::default() };
    let percent = match &step.nodes {
        IntOrPercent::Percent(percent) => format!(" ({percent})"),
        IntOrPercent::Int(_) => String::new(),
    };
    let mut line = Tree::new(format!("▸ {}", step.name), Tone::Strong).and(
        format!("{} of {}{percent}", status.counts.updated.min(at.target), units::count(at.target, "node")),
        Tone::Plain,
    );
    if let Some(bake) = &step.bake {
        line = line.and(format!("bake {bake}"), Tone::Faint);
    }
    if step.approval == Approval::Required {
        line = line.and("approval required", Tone::Faint);
    }
    if let Some(reached) = &at.reached_at {
        line = line.and(format!("reached {}", units::ago(reached.0, now, canvas)), Tone::Faint);
    }
    if !at.waiting_for.is_empty() {
        line.push(Tree::new("waits for", Tone::Faint).and(&at.waiting_for, Tone::Wait));
    }
    line
}

fn devices(status: &LiveUpdateStatus) -> Option<Tree> {
    let mut line = Tree::new("devices", Tone::Faint);
    for group in &status.devices {
        let tone = match group.outcome.as_str() {
            "Uninterrupted" | "Paused" => Tone::Good,
            "Lost" => Tone::Bad,
            "Reinitialised" | "Stopped" => Tone::Wait,
            _ => Tone::Plain,
        };
        line = line.and(format!("{} {}", group.count, group.outcome), tone);
    }
    (!status.devices.is_empty()).then_some(line)
}

fn blackout(status: &LiveUpdateStatus) -> Option<Tree> {
    let of = status.blackout.as_ref()?;
    let part = |label, milliseconds| format!("{label} {}", units::blackout(milliseconds, false));
    let values =
        format!("{}  {}  {}", part("p50", of.p50_ms), part("p99", of.p99_ms), part("max", of.max_ms));
    let simulated = if of.simulated { "simulated" } else { "" };
    Some(Tree::new("blackout", Tone::Faint).and(values, Tone::Plain).and(simulated, Tone::Wait))
}

fn end(status: &LiveUpdateStatus, now: Timestamp, canvas: Canvas) -> Option<Tree> {
    let line = Tree::new("end", Tone::Faint);
    if let Some(finished) = &status.finished_at {
        let how = find(&status.conditions, LiveUpdateCondition::Succeeded);
        let tone = if how.is_some_and(|how| how.status == "True") { Tone::Good } else { Tone::Bad };
        let reason = how.map_or_else(|| Reason::Aborted.as_str().to_owned(), |how| how.reason.clone());
        let message = how.map_or("", |how| how.message.as_str());
        return Some(
            line.and(reason, tone)
                .and(units::ago(finished.0, now, canvas), Tone::Plain)
                .and(message, Tone::Plain),
        );
    }
    let estimate = status.estimated_end.as_ref()?;
    Some(line.and(format!("estimated {}", units::ahead(estimate.0, now, canvas)), Tone::Plain))
}
