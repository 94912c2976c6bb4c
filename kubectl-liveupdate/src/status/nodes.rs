//! The tree's branch of nodes: in flight, waiting, failed, blocked, skipped.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;
use liveupdate_crds::conditions::LiveUpdateCondition;
use liveupdate_crds::update::LiveUpdateStatus;
use liveupdate_crds::{NodeLiveUpdate, NodeLiveUpdateStatus, Reason};

use super::{View, summary};
use crate::advice;
use crate::render::tree::Tree;
use crate::render::{Canvas, Tone, units};

/// Lines of single nodes that are shown before the rest is only counted.
const MOST: usize = 10;

/// The branch, with a count of every class in its first line.
#[must_use]
pub fn branch(view: &View, status: &LiveUpdateStatus, now: Timestamp, canvas: Canvas) -> Tree {
    let counts = &status.counts;
    let numbers = [
        (counts.updated, "updated", Tone::Good),
        (counts.in_flight, "in flight", Tone::Strong),
        (counts.waiting, "waiting", Tone::Wait),
        (counts.failed, "failed", Tone::Bad),
        (counts.blocked, "blocked", Tone::Bad),
        (counts.skipped, "skipped", Tone::Faint),
    ];
    let mut branch = Tree::new("nodes", Tone::Faint).and(format!("{} selected:", counts.total), Tone::Plain);
    for (number, label, tone) in numbers {
        if number > 0 || label == "updated" {
            branch = branch.and(format!("{number} {label}"), tone);
        }
    }
    branch.push_branch(in_flight(view, status, now, canvas));
    branch.push_branch(waiting(view, status));
    branch.push_branch(failed(view, status));
    branch.push_branch(left_out(view, status, "Blocked", Tree::new("blocked", Tone::Bad)));
    let mut skipped = left_out(view, status, "Skipped", Tree::new("skipped", Tone::Faint));
    if let Some(line) = by_verb(status) {
        skipped.push(line);
    }
    branch.push_branch(skipped);
    if status.effective.max_unavailable > 0 {
        branch.push(limits(status));
    }
    branch
}

fn limits(status: &LiveUpdateStatus) -> Tree {
    let effective = &status.effective;
    let bound = match effective.bounded_by.as_str() {
        "Policy" => " (bounded by the policy)",
        "InFlightLimit" => " (bounded by the most attempts in flight)",
        _ => "",
    };
    Tree::new("limits", Tone::Faint).and(
        format!(
            "at most {} unavailable{bound}, {} may fail",
            effective.max_unavailable, effective.max_failures
        ),
        Tone::Plain,
    )
}

fn in_flight(view: &View, status: &LiveUpdateStatus, now: Timestamp, canvas: Canvas) -> Tree {
    let mut branch = Tree::new("in flight", Tone::Strong);
    let known: BTreeMap<String, &NodeLiveUpdate> =
        view.nodes.iter().map(|node| (node.name_any(), node)).collect();
    for entry in status.in_flight.iter().take(MOST) {
        let said = known.get(&entry.node).and_then(|node| node.status.as_ref());
        let said = said.filter(|said| said.attempt == entry.attempt || said.attempt.is_empty());
        let state = said.map_or("", |said| if said.state.is_empty() { &said.reason } else { &said.state });
        branch.push(
            Tree::new(entry.node.clone(), Tone::Plain)
                .and(state, Tone::Wait)
                .and(units::since(entry.since.0, now, canvas), Tone::Plain)
                .and(format!("attempt {}", entry.attempt), Tone::Faint),
        );
    }
    more(&mut branch, status.in_flight.len());
    branch
}

fn waiting(view: &View, status: &LiveUpdateStatus) -> Tree {
    let mut branch = Tree::new("waiting", Tone::Wait);
    for group in &status.waiting {
        let total = usize::try_from(group.count).unwrap_or(0);
        let names = units::names(group.nodes.iter().map(String::as_str), total, MOST);
        let mut line =
            Tree::new(format!("{} ×{}", group.reason, group.count), Tone::Wait).and(names, Tone::Plain);
        if !group.message.is_empty() {
            line.push(Tree::new(group.message.clone(), Tone::Faint));
        }
        // What stops the whole run is told above, once.
        let paused = summary::holds(&status.conditions, LiveUpdateCondition::Paused);
        if paused.is_none_or(|paused| paused.reason != group.reason) {
            push_advice(&mut line, &group.reason, view, group.nodes.first());
        }
        branch.push(line);
    }
    branch
}

fn failed(view: &View, status: &LiveUpdateStatus) -> Tree {
    let allowed = status.effective.max_failures;
    let accepted = match status.accepted_failures {
        0 => String::new(),
        accepted => format!(", {accepted} of them accepted"),
    };
    let mut branch = Tree::new("failed", Tone::Bad).and(
        format!("{} so far{accepted}, {allowed} allowed", units::count(status.failures, "failure")),
        Tone::Plain,
    );
    for node in &status.failing {
        let mut line = Tree::new(node.node.clone(), Tone::Plain)
            .and(node.reason.clone(), Tone::Bad)
            .and(&node.message, Tone::Plain);
        push_advice(&mut line, &node.reason, view, Some(&node.node));
        branch.push(line);
    }
    let total = usize::try_from(status.counts.failed).unwrap_or(0);
    more(&mut branch, total.max(status.failing.len()));
    branch
}

/// Nodes of a state by reason, from their own objects; what the update names itself is told there.
fn left_out(view: &View, status: &LiveUpdateStatus, state: &str, mut branch: Tree) -> Tree {
    let told: Vec<&str> = status.waiting.iter().map(|group| group.reason.as_str()).collect();
    let mut groups: BTreeMap<&str, Vec<(String, &NodeLiveUpdateStatus)>> = BTreeMap::new();
    for node in &view.nodes {
        let Some(said) = node.status.as_ref().filter(|said| said.state == state) else { continue };
        let by_verb = said.reason == Reason::Skipped.as_str();
        if !by_verb && !told.contains(&said.reason.as_str()) {
            groups.entry(&said.reason).or_default().push((node.name_any(), said));
        }
    }
    for (reason, nodes) in groups {
        let mut group = Tree::new(format!("{reason} ×{}", nodes.len()), Tone::Bad);
        for (name, said) in nodes.iter().take(MOST) {
            group.push(Tree::new(name.clone(), Tone::Plain).and(&said.message, Tone::Plain));
        }
        more(&mut group, nodes.len());
        push_advice(&mut group, reason, view, nodes.first().map(|(name, _)| name));
        branch.push(group);
    }
    branch
}

fn by_verb(status: &LiveUpdateStatus) -> Option<Tree> {
    let names = units::names(status.skipped.iter().map(String::as_str), status.skipped.len(), MOST);
    let line = Tree::new("by the verb `skip`", Tone::Plain).and(names, Tone::Plain);
    (!status.skipped.is_empty()).then_some(line)
}

fn more(branch: &mut Tree, total: usize) {
    if total > MOST {
        branch.push(Tree::new(format!("… and {} more", total - MOST), Tone::Faint));
    }
}

fn push_advice(line: &mut Tree, reason: &str, view: &View, node: Option<&String>) {
    let advice = advice::advice_for(reason, Some(&view.update.name_any()), node.map(String::as_str));
    if !advice.is_empty() {
        line.push(Tree::new(format!("→ {advice}"), Tone::Strong));
    }
}
