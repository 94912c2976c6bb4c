//! What an update's status shall say, with sentences for people.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::time::Duration;

use crate::Time;
use crate::fleet::Fleet;
use crate::input::NodeEnd;
use crate::output::{NodeClass, Reason, StepReport, UpdateReport};
use crate::progress::Waits;
use crate::run::Run;
use crate::stop;

/// The report of one update.
pub(crate) fn of(run: &Run<'_>, runs: &[Run<'_>], fleet: &Fleet<'_>, now: Time) -> UpdateReport {
    let tally = run.tally;
    let (progress, waiting_for) = progress(run, runs, fleet);
    let mut report = UpdateReport {
        record: run.record.clone(),
        not_accepted: run.not_accepted.clone(),
        progress: Some(progress),
        message: String::new(),
        paused: run.stop.map(|stop| stop.reason).filter(|reason| stops_for_now(*reason)),
        remarks: run.remarks.clone(),
        conflicted_with: run.conflicts.iter().map(|&other| runs[other].update.name.clone()).collect(),
        total: tally.total,
        eligible: tally.eligible,
        updated: tally.updated,
        failed: tally.failed,
        blocked: tally.blocked,
        skipped: tally.skipped,
        waiting: tally.waiting,
        step: None,
        max_unavailable: run.limit.max_unavailable,
        bounded_by: run.limit.bounded_by,
        max_failures: run.limit.max_failures,
        frozen: run.was_finished,
        ..UpdateReport::default()
    };
    outcomes(run, &mut report);
    if run.was_finished {
        return report;
    }
    if run.active().is_none() || run.record.finished.is_some() {
        report.message = waiting_for;
        return report;
    }
    report.estimated_end = estimate(run, now);
    report.message = format!(
        "step {}/{} \"{}\": {} of {} updated, {} in flight, {waiting_for}",
        run.progress.step + 1,
        run.progress.of,
        run.progress.name,
        tally.updated,
        run.progress.target,
        run.record.in_flight.len(),
    );
    report.step = Some(StepReport {
        index: run.progress.step + 1,
        of: run.progress.of,
        name: run.progress.name.clone(),
        target: run.progress.target,
        waiting_for,
    });
    report
}

fn stops_for_now(reason: Reason) -> bool {
    matches!(reason, Reason::Paused | Reason::PolicyHold | Reason::FailureBudgetSpent)
}

/// Why the run stands or goes on, and what it waits for.
fn progress(run: &Run<'_>, runs: &[Run<'_>], fleet: &Fleet<'_>) -> (Reason, String) {
    if let Some(finished) = run.record.finished {
        return (finished.reason, finished_message(run, fleet, finished.reason));
    }
    if run.update.deleting {
        let left = run.record.in_flight.len();
        return (Reason::Aborted, format!("being deleted: {left} attempts finish or are undone"));
    }
    if let Some((reason, why)) = &run.not_accepted {
        return (*reason, why.clone());
    }
    if stop::is_aborting(run) {
        return (Reason::Aborted, "aborting: attempts before the jump are undone, others finish".to_string());
    }
    if let Some(stop) = run.stop {
        return (stop.reason, stopped(run, stop.reason));
    }
    let tally = run.tally;
    if tally.total == 0 {
        return (Reason::NoNodes, "no node is selected".to_string());
    }
    if tally.eligible == 0 {
        return (Reason::NoNodes, format!("all {} selected nodes are skipped", tally.total));
    }
    match run.progress.waits {
        Waits::Eligible => (
            Reason::CanaryTooSmall,
            format!("it asks for more nodes than the {} that are eligible", tally.eligible),
        ),
        Waits::Bake(bake) => {
            (Reason::Baking, format!("watched for {} from the last verified node", Written(bake)))
        }
        Waits::Ready(away) => (
            Reason::Baking,
            format!("{away} updated nodes are not Ready: the step is watched until they are, or are skipped"),
        ),
        Waits::Approval => {
            let revision = &run.record.revision;
            let step = &run.progress.name;
            let message = format!(
                "waits for approval: `kubectl liveupdate approve {}` (liveupdate.dev/approve: {step}@{revision})",
                run.update.name
            );
            (Reason::WaitingForApproval, message)
        }
        Waits::Models => (Reason::Progressing, "waits for nodes to say which devices they hold".to_string()),
        Waits::Nodes | Waits::Nothing => (Reason::Progressing, waits_for_nodes(run, runs)),
    }
}

fn stopped(run: &Run<'_>, reason: Reason) -> String {
    match reason {
        Reason::PolicyHold => "stopped by `hold` of LiveUpdatePolicy/default".to_string(),
        Reason::FailureBudgetSpent => format!(
            "stopped: {} failures and {} may fail; `kubectl liveupdate resume {}` accepts them and goes on",
            run.open_failures(),
            run.limit.max_failures,
            run.update.name
        ),
        Reason::DryRun => {
            let tally = run.tally;
            format!("dry run: {} clear or waiting, {} blocked", tally.waiting, tally.blocked)
        }
        _ => format!(
            "paused by spec.paused or the verb hold; `kubectl liveupdate resume {}` goes on",
            run.update.name
        ),
    }
}

fn waits_for_nodes(run: &Run<'_>, runs: &[Run<'_>]) -> String {
    let tally = run.tally;
    let startable = run.members.iter().any(|member| member.standing.startable);
    if run.progress.open > 0 && startable {
        let by = run.limit.unavailable;
        let limit = run.limit.max_unavailable;
        return if !run.update.has_finalizer && by < limit {
            "about to start".to_string()
        } else {
            format!("waits for slots ({by} of {limit} nodes unavailable)")
        };
    }
    if !run.record.in_flight.is_empty() {
        return "waits for those in flight".to_string();
    }
    let preflights = run.members.iter().filter(|member| member.standing.reason == Reason::Preflight).count();
    if preflights > 0 {
        return format!("waits for the gates of {preflights} nodes");
    }
    if tally.conflicted > 0 {
        let others: Vec<&str> = run.conflicts.iter().map(|&other| runs[other].update.name.as_str()).collect();
        return format!("waits for {} nodes that {} has", tally.conflicted, others.join(", "));
    }
    if tally.blocked > 0 || tally.failed > 0 {
        return format!(
            "waits for {} blocked and {} failed nodes: mend, retry or skip them",
            tally.blocked, tally.failed
        );
    }
    "goes on".to_string()
}

fn finished_message(run: &Run<'_>, fleet: &Fleet<'_>, reason: Reason) -> String {
    let tally = run.tally;
    let mut message = match reason {
        Reason::Aborted => format!("aborted: {} of {} nodes were updated", tally.updated, tally.total),
        _ => format!("{} of {} nodes run the target", tally.updated, tally.total),
    };
    let names: Vec<&str> = run
        .members
        .iter()
        .filter(|member| {
            matches!(member.standing.class, NodeClass::Skipped | NodeClass::Failed | NodeClass::Blocked)
        })
        .map(|member| fleet.at(member.node).name.as_str())
        .collect();
    if !names.is_empty() {
        let shown = names.len().min(10);
        let _ = write!(message, "; left out: {}", names[..shown].join(", "));
        if names.len() > shown {
            let _ = write!(message, " and {} more", names.len() - shown);
        }
    }
    message
}

/// Blackouts and devices of the nodes that are updated.
fn outcomes(run: &Run<'_>, report: &mut UpdateReport) {
    let members = run.members.iter().map(|member| &member.standing);
    let entries = run.entries.iter().filter(|entry| entry.recorded).map(|entry| &entry.standing);
    for standing in members.chain(entries) {
        let Some(NodeEnd::Updated { blackout, simulated, devices, .. }) = standing.end.as_deref() else {
            continue;
        };
        report.blackouts.extend(blackout);
        report.simulated |= *simulated;
        devices.iter().for_each(|(outcome, number)| report.devices.add(outcome, number));
    }
    report.blackouts.sort_unstable();
}

/// By the mean time between verified nodes so far, and the bakes that are still to come.
fn estimate(run: &Run<'_>, now: Time) -> Option<Time> {
    if run.stop.is_some() {
        return None;
    }
    let tally = run.tally;
    let (Some(first), Some(last)) = (tally.first_verified, tally.last_verified) else { return None };
    let span = last.since(first);
    if tally.verified < 2 || span.is_zero() {
        return None;
    }
    let left = tally.eligible.saturating_sub(tally.updated);
    let pace = span / (tally.verified - 1);
    Some(now.after(pace.saturating_mul(left).saturating_add(run.progress.bakes)))
}

/// A duration as people write it: `1h30m`, `45s`, `800ms`.
pub(crate) struct Written(pub(crate) Duration);

impl core::fmt::Display for Written {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let seconds = self.0.as_secs();
        if seconds == 0 {
            return write!(f, "{}ms", self.0.subsec_millis());
        }
        for (unit, number) in [("h", seconds / 3600), ("m", seconds / 60 % 60), ("s", seconds % 60)] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}
