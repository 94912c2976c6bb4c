//! Plans and reports as text.

use std::fmt::Write;

use liveupdate_planner::{Action, NodeReport, Report, Time, UpdateReport};

use super::clock;

/// Actions of one pass, those of one kind on one line.
pub(super) fn actions(out: &mut String, now: Time, actions: &[Action]) {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for action in actions {
        let (what, whom) = describe(action);
        match lines.iter_mut().find(|(other, _)| *other == what) {
            Some((_, list)) => list.push(whom),
            None => lines.push((what, vec![whom])),
        }
    }
    for (what, whom) in lines {
        let _ = writeln!(out, "  {} {what} {}", clock(now), whom.join(" "));
    }
}

fn describe(action: &Action) -> (String, String) {
    let of = |what: &str, node: &str, attempt: &str| (what.to_owned(), format!("{node}/{attempt}"));
    match action {
        Action::AddFinalizer { update } => ("AddFinalizer".into(), update.to_string()),
        Action::RemoveFinalizer { update } => ("RemoveFinalizer".into(), update.to_string()),
        Action::CommitRecord { update } => ("CommitRecord".into(), update.to_string()),
        Action::Preflight { node, update } => (format!("Preflight {update}:"), node.to_string()),
        Action::Mark { node, mark, .. } => of("Mark", node, &mark.attempt),
        Action::Unmark { node, mark } => of("Unmark", node, &mark.attempt),
        Action::Claim { node, attempt, .. } => of("Claim", node, attempt),
        Action::Run { node, attempt, .. } => of("Run", node, attempt),
        Action::Permit { node, attempt, .. } => of("Permit", node, attempt),
        Action::Abort { node, attempt, why } => of(&format!("Abort ({why})"), node, attempt),
        Action::AskOutcome { node, attempt } => of("AskOutcome", node, attempt),
        Action::ReadLease { node } => ("ReadLease".into(), node.to_string()),
        Action::RecordEnd { node, attempt } => of("RecordEnd", node, attempt),
        Action::Confirm { node, attempt } => of("Confirm", node, attempt),
        Action::Release { node, attempt, .. } => of("Release", node, attempt),
    }
}

/// What changed in the report; returns the new one.
pub(super) fn merge(out: &mut String, old: &Report, new: &Report, now: Time) -> Report {
    for (name, report) in &new.updates {
        let line = update(report);
        if old.updates.get(name).map(update).as_ref() != Some(&line) {
            let _ = writeln!(out, "  {} = {name}: {line}", clock(now));
        }
    }
    // Nodes that say the same stand on one line.
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, report) in &new.nodes {
        let line = node(report);
        if old.nodes.get(name).map(node).as_ref() == Some(&line) {
            continue;
        }
        match lines.iter_mut().find(|(said, _)| *said == line) {
            Some((_, names)) => names.push(name),
            None => lines.push((line, vec![name])),
        }
    }
    for (line, names) in lines {
        let _ = writeln!(out, "  {} - {}: {line}", clock(now), names.join(" "));
    }
    for gone in old.nodes.keys().filter(|name| new.nodes.get(name).is_none()) {
        let _ = writeln!(out, "  {} - {gone}: no report", clock(now));
    }
    new.clone()
}

fn update(report: &UpdateReport) -> String {
    let mut line = report.progress.map_or_else(String::new, |reason| reason.to_string());
    if let Some(paused) = report.paused {
        let _ = write!(line, " (paused: {paused})");
    }
    let _ = write!(line, ", {}", report.message);
    let _ = write!(
        line,
        " | {} total, {} eligible: {} updated, {} failed, {} blocked, {} skipped, {} waiting; {} failures",
        report.total,
        report.eligible,
        report.updated,
        report.failed,
        report.blocked,
        report.skipped,
        report.waiting,
        report.record.failures,
    );
    if !report.conflicted_with.is_empty() {
        let _ = write!(line, "; conflicts with {}", report.conflicted_with.join(" "));
    }
    if !report.record.bad_targets.is_empty() {
        let _ = write!(line, "; bad {:?}", report.record.bad_targets);
    }
    if report.frozen {
        line.push_str("; frozen");
    }
    for remark in &report.remarks {
        let _ = write!(line, "; {remark}");
    }
    line
}

fn node(report: &NodeReport) -> String {
    format!("{:?} {} ({})", report.class, report.reason, report.message)
}
