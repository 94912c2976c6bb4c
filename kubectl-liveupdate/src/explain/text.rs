//! What `explain` draws.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use liveupdate_crds::node::{DeviceStatus, GateStatus};
use liveupdate_crds::revision::short;
use liveupdate_crds::{MARK_ANNOTATION, NodeLiveUpdateStatus, TAINT_KEY};

use super::Known;
use crate::advice;
use crate::render::tree::Tree;
use crate::render::{Canvas, Tone, units};

/// The whole explanation.
#[must_use]
pub fn tree(known: &Known, now: Timestamp, canvas: Canvas) -> Tree {
    let mut root = Tree::new(known.name.clone(), Tone::Strong);
    let status = known.record.as_ref().and_then(|record| record.status.as_ref());
    if let Some(status) = status {
        root = root
            .and(status.state.clone(), state_tone(&status.state))
            .and(&status.reason, state_tone(&status.state));
    }
    match &known.node {
        Some(node) => root.push_branch(object(node, status)),
        None => {
            root.push(Tree::new("there is no Node object of this name, or it may not be read", Tone::Wait));
        }
    }
    let Some(status) = status else {
        let mut line = Tree::new("no agent has ever answered for this node", Tone::Wait);
        let advice = advice::advice_for("AgentMissing", None, Some(&known.name));
        line.push(Tree::new(format!("→ {advice}"), Tone::Strong));
        root.push(line);
        return root;
    };
    root.push_branch(kernel(status));
    root.push(standing(known, status));
    root.push_branch(gates(status));
    root.push_branch(devices(status));
    root.push_branch(attempt(status, now, canvas));
    root
}

fn state_tone(state: &str) -> Tone {
    match state {
        "Updated" => Tone::Good,
        "Failed" | "Blocked" | "Quarantined" => Tone::Bad,
        "Idle" | "Skipped" => Tone::Faint,
        _ => Tone::Wait,
    }
}

fn object(node: &Node, status: Option<&NodeLiveUpdateStatus>) -> Tree {
    let mut branch = Tree::new("node", Tone::Faint);
    let ready = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    branch.push(match ready.into_iter().find(|condition| condition.type_ == "Ready") {
        Some(condition) if condition.status == "True" => Tree::new("Ready", Tone::Good),
        Some(condition) => Tree::new("not Ready", Tone::Bad)
            .and(condition.reason.clone().unwrap_or_default(), Tone::Plain)
            .and(condition.message.clone().unwrap_or_default(), Tone::Plain),
        None => Tree::new("has no Ready condition: no kubelet has reported", Tone::Bad),
    });
    let spec = node.spec.as_ref();
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        branch.push(Tree::new("cordoned by somebody else", Tone::Wait));
    }
    let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    if let Some(taint) = taints.into_iter().find(|taint| taint.key == TAINT_KEY) {
        let update = taint.value.clone().unwrap_or_default();
        let mark = node.annotations().get(MARK_ANNOTATION).cloned().unwrap_or_default();
        branch.push(
            Tree::new(format!("marked by update {update}"), Tone::Wait)
                .and(format!("{TAINT_KEY}:{}", taint.effect), Tone::Plain)
                .and(mark, Tone::Faint),
        );
    }
    let uid = node.uid().unwrap_or_default();
    if status.is_some_and(|status| !status.node_uid.is_empty() && status.node_uid != uid) {
        branch.push(Tree::new(
            "was made again: what follows speaks of the former node of this name",
            Tone::Bad,
        ));
    }
    branch
}

fn kernel(status: &NodeLiveUpdateStatus) -> Tree {
    let mut branch = Tree::new("kernel", Tone::Faint).and(status.kernel.clone(), Tone::Plain);
    branch.push(Tree::new("boot id", Tone::Faint).and(status.boot_id.clone(), Tone::Plain));
    if let Some(digest) = &status.bundle_digest {
        branch.push(Tree::new("bundle", Tone::Faint).and(digest, Tone::Plain));
    }
    branch
}

/// Whose the node is, why it is as it is, and what to do.
fn standing(known: &Known, status: &NodeLiveUpdateStatus) -> Tree {
    let mut line = Tree::new("state", Tone::Faint).and(&status.state, state_tone(&status.state));
    line = line.and(&status.reason, state_tone(&status.state)).and(&status.message, Tone::Plain);
    let update = match status.update_name.as_str() {
        "" => "no update wants it".to_owned(),
        name if status.revision.is_empty() => format!("wanted by update {name}"),
        name => format!("wanted by update {name}, revision {}", short(&status.revision)),
    };
    line.push(Tree::new(update, Tone::Plain));
    if let Some(reason) = advice::reason(&status.reason)
        .filter(|reason| status.message.is_empty() && !reason.meaning().is_empty())
    {
        line.push(Tree::new(reason.meaning(), Tone::Plain));
    }
    if status.aborts > 0 {
        let text =
            format!("{} undone before the jump (three are tried)", units::count(status.aborts, "attempt"));
        let mut undone = Tree::new(text, Tone::Wait);
        // Where the message tells it too, once is enough.
        if !status.last_failure.is_empty() && !status.message.contains(&status.last_failure) {
            undone.push(Tree::new("the last one", Tone::Faint).and(&status.last_failure, Tone::Plain));
        }
        line.push(undone);
    }
    let update = Some(status.update_name.as_str()).filter(|name| !name.is_empty());
    let advice = advice::advice_for(&status.reason, update, Some(&known.name));
    // This is what that advice would lead to.
    if !advice.is_empty() && status.reason != "GateNotPassed" {
        line.push(Tree::new(format!("→ {advice}"), Tone::Strong));
    }
    line
}

fn gates(status: &NodeLiveUpdateStatus) -> Tree {
    let passed = status.gates.iter().filter(|gate| gate.result == "Pass").count();
    let total = status.gates.len();
    let mut branch = Tree::new("gates", Tone::Faint).and(format!("{passed} of {total} pass"), Tone::Plain);
    let open: Vec<_> = status.gates.iter().filter(|gate| gate.result != "Pass").collect();
    if open.is_empty() && total > 0 {
        branch.push(Tree::new("nothing is in the way", Tone::Good));
    }
    for gate in open {
        branch.push(open_gate(gate));
    }
    branch
}

fn open_gate(gate: &GateStatus) -> Tree {
    let tone = if gate.result == "Fail" { Tone::Bad } else { Tone::Wait };
    let subject = gate.subject.as_ref().map_or_else(String::new, |subject| format!("of {subject}"));
    let mut line =
        Tree::new(gate.id.clone(), Tone::Plain).and(gate.result.clone(), tone).and(subject, Tone::Plain);
    let evidence = gate.evidence.as_deref().unwrap_or("no evidence on record");
    line.push(Tree::new("found", Tone::Faint).and(evidence, Tone::Plain));
    if let Some(remedy) = &gate.remedy {
        line.push(Tree::new(format!("→ {remedy}"), Tone::Strong));
    }
    line
}

fn devices(status: &NodeLiveUpdateStatus) -> Tree {
    let mut branch = Tree::new("devices", Tone::Faint).and(&status.verdict, Tone::Plain);
    for device in &status.devices {
        branch.push(one_device(device));
    }
    branch
}

fn one_device(device: &DeviceStatus) -> Tree {
    let holder = device.holder.as_ref().map_or_else(String::new, |holder| format!("held by {holder}"));
    let mut line = Tree::new(device.address.clone(), Tone::Strong)
        .and(&device.model, Tone::Plain)
        .and(holder, Tone::Plain);
    let ceiling = device.ceiling.map_or_else(|| "unknown".to_owned(), |ceiling| format!("{ceiling:?}"));
    let verdict = device.verdict.as_deref().unwrap_or("unknown");
    let decided = device.decided_by.as_ref().map_or_else(String::new, |voice| {
        let who = match voice.as_str() {
            "Platform" => "the platform's policy",
            "Team" => "the update",
            "Workload" => "the workload's owner",
            "Node" => "what the node can do",
            other => other,
        };
        format!("decided by {who}")
    });
    line.push(
        Tree::new(format!("could get {ceiling}"), Tone::Plain)
            .and(format!("would get {verdict}"), Tone::Plain)
            .and(decided, Tone::Faint),
    );
    if let Some(outcome) = &device.outcome {
        let tone = match outcome.as_str() {
            "Uninterrupted" | "Paused" => Tone::Good,
            "Lost" => Tone::Bad,
            _ => Tone::Wait,
        };
        let facts = device.facts.as_deref().unwrap_or("no facts on record");
        let mut got = Tree::new("got", Tone::Faint).and(outcome, tone).and(facts, Tone::Faint);
        if let Some(evidence) = &device.evidence {
            got.push(Tree::new(evidence, Tone::Faint));
        }
        line.push(got);
    }
    line
}

fn attempt(status: &NodeLiveUpdateStatus, now: Timestamp, canvas: Canvas) -> Tree {
    let mut branch = Tree::new("last attempt", Tone::Faint).and(&status.attempt, Tone::Plain);
    if let Some(verified) = &status.verified_at {
        branch = branch.and(format!("verified {}", units::ago(verified.0, now, canvas)), Tone::Good);
    }
    for (index, step) in status.steps.iter().enumerate() {
        let took = status.steps.get(index + 1).map(|next| {
            let milliseconds = next.at.0.as_millisecond() - step.at.0.as_millisecond();
            format!("took {}", units::duration(milliseconds))
        });
        branch.push(
            Tree::new(units::clock(step.at.0), Tone::Faint)
                .and(&step.state, Tone::Plain)
                .and(took.unwrap_or_default(), Tone::Faint),
        );
    }
    if !status.blackout.is_empty() {
        branch.push(Tree::new("blackout", Tone::Faint).and(&status.blackout, Tone::Strong));
    }
    branch
}
