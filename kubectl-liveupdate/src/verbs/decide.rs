//! Whether a verb makes sense now, what is written for it, and what will happen. Pure.

use kube::ResourceExt;
use liveupdate_crds::conditions::{LiveUpdateCondition, find};
use liveupdate_crds::revision::short;
use liveupdate_crds::update::{Approval, LiveUpdateStatus};
use liveupdate_crds::verbs::{self, Verb, VerbKind};
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate, NodeLiveUpdateStatus};
use liveupdate_planner::Reason;
use serde_json::{Map, Value, json};

use crate::render::units;
use crate::status::{concerns, summary};

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Let the step after this one begin; the present step when none is named.
    Approve {
        /// The step.
        step: Option<String>,
    },
    /// Undo what has not jumped and end.
    Abort,
    /// Start no more nodes.
    Pause,
    /// Go on.
    Resume,
    /// Try a node again.
    Retry {
        /// The node.
        node: String,
    },
    /// Take a node out.
    Skip {
        /// The node.
        node: String,
    },
    /// Accept the failures so far.
    AcceptFailure,
    /// Give up what a quarantined node keeps.
    Release {
        /// The node.
        node: String,
    },
}

impl Request {
    /// The node that it speaks of.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Retry { node } | Self::Skip { node } | Self::Release { node } => Some(node),
            Self::Approve { .. } | Self::Abort | Self::Pause | Self::Resume | Self::AcceptFailure => None,
        }
    }

    const fn kind(&self) -> VerbKind {
        match self {
            Self::Approve { .. } => VerbKind::Approve,
            Self::Abort => VerbKind::Abort,
            Self::Pause => VerbKind::Hold,
            Self::Resume => VerbKind::Resume,
            Self::Retry { .. } => VerbKind::Retry,
            Self::Skip { .. } => VerbKind::Skip,
            Self::AcceptFailure => VerbKind::AcceptFailure,
            Self::Release { .. } => VerbKind::Release,
        }
    }

    const fn word(&self) -> &'static str {
        match self {
            // The annotation is `hold`; a person says `pause`.
            Self::Pause => "pause",
            _ => verbs::word(self.kind()),
        }
    }
}

/// What is known of the node that a verb speaks of.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// A Node object of that name exists.
    pub exists: bool,
    /// Its `NodeLiveUpdate`.
    pub record: Option<NodeLiveUpdate>,
}

/// What is to be written, and what to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// A merge patch with the resourceVersion that was read.
    pub patch: Value,
    /// The verb that is asked for.
    pub verb: Verb,
    /// What was written.
    pub done: String,
    /// What is told when the controller has taken it.
    pub taken: String,
    /// What will happen, and how to see it.
    pub then: String,
}

impl Decision {
    /// Whether the controller has taken the verb.
    #[must_use]
    pub fn is_taken(&self, update: &LiveUpdate) -> bool {
        let Some(status) = &update.status else { return false };
        // An abort may have ended the run, and with it the bookkeeping, before anybody looked.
        echoes(status).any(|verb| verb == self.verb)
            || (self.verb.kind == VerbKind::Abort && status.finished_at.is_some())
    }
}

/// Decides.
///
/// # Errors
/// A sentence: why it makes no sense now, and what would.
pub fn decide(request: &Request, update: &LiveUpdate, subject: &Subject) -> Result<Decision, String> {
    let name = update.name_any();
    let status = steerable(request, update)?;
    let (argument, then) = match request {
        Request::Approve { step } => approve(update, status, step.as_deref())?,
        Request::Abort => abort(status)?,
        Request::Pause => pause(update)?,
        Request::Resume => resume(update, status)?,
        Request::Retry { node } => retry(update, status, node, subject)?,
        Request::Skip { node } => skip(update, status, node, subject)?,
        Request::AcceptFailure => accept_failure(status)?,
        Request::Release { node } => release(node, subject)?,
    };
    let kind = request.kind();
    let verb = Verb {
        kind,
        again: again(update, status, kind, &argument)?,
        argument,
        revision: status.revision.clone(),
    };
    let existing = update.annotations().get(verbs::annotation(kind)).map(String::as_str);
    let taken: Vec<Verb> = echoes(status).collect();
    let value = verbs::add(existing, &taken, &verb).map_err(|error| error.to_string())?;
    let mut annotations = Map::new();
    annotations.insert(verbs::annotation(kind).to_owned(), value.into());
    // `resume` would win over a `hold` beside it, and a `hold` that stays would outlive its `resume`.
    let opposite = match kind {
        VerbKind::Resume => Some(VerbKind::Hold),
        VerbKind::Hold => Some(VerbKind::Resume),
        VerbKind::Approve
        | VerbKind::Abort
        | VerbKind::Retry
        | VerbKind::Skip
        | VerbKind::AcceptFailure
        | VerbKind::Release => None,
    };
    if let Some(opposite) = opposite {
        annotations.insert(verbs::annotation(opposite).to_owned(), Value::Null);
    }
    let what = if verb.argument.is_empty() { String::new() } else { format!(" {}", verb.argument) };
    let word = request.word();
    Ok(Decision {
        patch: json!({"metadata": {"resourceVersion": update.resource_version(), "annotations": annotations}}),
        done: format!("liveupdate {name:?}: {word}{what} written for revision {}", short(&verb.revision)),
        taken: format!("liveupdate {name:?}: {word}{what} taken by the controller"),
        then: format!("{then}\nFollow it with: kubectl liveupdate status {name} -w"),
        verb,
    })
}

/// What every verb needs: a revision that speaks of the present spec, and all but two a run that is not over.
fn steerable<'a>(request: &Request, update: &'a LiveUpdate) -> Result<&'a LiveUpdateStatus, String> {
    let name = update.name_any();
    let unseen =
        format!("liveupdate {name:?} has no revision yet: no controller has read it; is one running?");
    let status = update.status.as_ref().filter(|status| !status.revision.is_empty()).ok_or(unseen)?;
    if !summary::is_current(update, status) {
        return Err(format!(
            "liveupdate {name:?} was edited and the controller has not read the edit yet: \
             the verb would be bound to the former revision; try again in a moment"
        ));
    }
    // What a run left behind is given up, and its failures accepted, long after its end.
    let after = matches!(request.kind(), VerbKind::Release | VerbKind::AcceptFailure);
    if status.finished_at.is_some() && !after {
        let (word, _) = summary::word(update);
        return Err(format!(
            "liveupdate {name:?} is over ({word}): there is nothing left to {}",
            request.word()
        ));
    }
    if update.metadata.deletion_timestamp.is_some() {
        return Err(format!(
            "liveupdate {name:?} is being deleted: nodes past the jump finish, the others are undone"
        ));
    }
    Ok(status)
}

fn approve(
    update: &LiveUpdate,
    status: &LiveUpdateStatus,
    named: Option<&str>,
) -> Result<(String, String), String> {
    let steps = &update.spec.strategy.steps;
    let current = status
        .step
        .as_ref()
        .ok_or("the update has not begun its first step yet: nothing waits for an approval")?;
    let name = named.unwrap_or(&current.name);
    let all = || steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>().join(", ");
    let place = steps.iter().position(|step| step.name == name).ok_or_else(|| {
        if steps.is_empty() {
            format!("there is no step {name:?}: the update has no steps, and nothing to approve")
        } else {
            format!("there is no step {name:?}: the steps are {}", all())
        }
    })?;
    if steps[place].approval != Approval::Required {
        return Err(format!("step {name:?} needs no approval: it goes on by itself"));
    }
    let number = i32::try_from(place + 1).unwrap_or(i32::MAX);
    if number < current.index {
        return Err(format!("step {name:?} is over: the update is at step {:?}", current.name));
    }
    if number > current.index {
        return Err(format!(
            "step {name:?} has not begun: the update is at step {:?}; approve it when it has its nodes",
            current.name
        ));
    }
    if echoes(status).any(|verb| verb.kind == VerbKind::Approve && verb.argument == name) {
        return Err(format!("step {name:?} is approved already"));
    }
    if current.reached_at.is_none() {
        return Err(format!(
            "step {name:?} has {} of {}: approve it when they are all updated and you have looked at them",
            status.counts.updated.min(current.target),
            units::count(current.target, "node"),
        ));
    }
    let progress = find(&status.conditions, LiveUpdateCondition::Progressing);
    if progress.is_some_and(|progress| progress.reason == Reason::Baking.as_str()) {
        return Err(format!(
            "step {name:?} is still baking ({}): approve it afterwards",
            current.waiting_for
        ));
    }
    let then = match steps.get(place + 1) {
        Some(next) => {
            format!("Step {:?} ({} nodes in all) begins now.", next.name, units::amount(&next.nodes))
        }
        None => "This was the last step: the update ends.".to_owned(),
    };
    Ok((name.to_owned(), then))
}

fn abort(status: &LiveUpdateStatus) -> Result<(String, String), String> {
    if echoes(status).any(|verb| verb.kind == VerbKind::Abort) {
        return Err("the update is being aborted already".to_owned());
    }
    let in_flight = units::count(i64::try_from(status.in_flight.len()).unwrap_or(i64::MAX), "node");
    Ok((
        String::new(),
        format!(
            "No node is started any more. Of {in_flight} in flight, those that have jumped finish; the others are undone and their guests go on."
        ),
    ))
}

fn pause(update: &LiveUpdate) -> Result<(String, String), String> {
    if summary::is_held(update) {
        return Err(
            "the update is paused by `hold` already: `kubectl liveupdate resume` takes it back".to_owned()
        );
    }
    let also = if update.spec.paused { " (spec.paused is true as well)" } else { "" };
    Ok((
        String::new(),
        format!(
            "No further node is started until `kubectl liveupdate resume`{also}. Nodes that have begun still jump and finish: `kubectl liveupdate abort` undoes those that have not jumped."
        ),
    ))
}

fn resume(update: &LiveUpdate, status: &LiveUpdateStatus) -> Result<(String, String), String> {
    let paused =
        summary::holds(&status.conditions, LiveUpdateCondition::Paused).map(|paused| paused.reason.as_str());
    let spent = paused == Some(Reason::FailureBudgetSpent.as_str());
    if !summary::is_held(update) && !spent {
        return Err(if update.spec.paused {
            "the update is paused by spec.paused: set it to false where the spec is kept (a verb does not edit the spec)".to_owned()
        } else if paused == Some(Reason::PolicyHold.as_str()) {
            "the policy holds every update: set spec.hold of liveupdatepolicy/default to false".to_owned()
        } else {
            "the update is not paused: there is nothing to resume".to_owned()
        });
    }
    let open = status.failures - status.accepted_failures;
    let mut then = "Nodes are started again".to_owned();
    if open > 0 {
        then.push_str(&format!(
            "; {} so far accepted, the budget counts from here",
            units::count(open, "failure")
        ));
    }
    then.push('.');
    if update.spec.paused {
        then = "The hold is gone, but spec.paused is true: nothing is started until it is set to false."
            .to_owned();
    } else if paused == Some(Reason::PolicyHold.as_str()) {
        then = "The hold is gone, but liveupdatepolicy/default holds every update.".to_owned();
    }
    Ok((String::new(), then))
}

fn accept_failure(status: &LiveUpdateStatus) -> Result<(String, String), String> {
    let open = status.failures - status.accepted_failures;
    let paused = summary::holds(&status.conditions, LiveUpdateCondition::Paused);
    // Blocked nodes count as failures with `onBlocked: Fail`, though none of them has failed.
    let spent = paused.is_some_and(|paused| paused.reason == Reason::FailureBudgetSpent.as_str());
    if open <= 0 && !spent {
        return Err("there is no failure to accept".to_owned());
    }
    let so_far = match open {
        ..=0 => units::count(status.counts.blocked, "blocked node"),
        open => units::count(open, "failure"),
    };
    Ok((
        String::new(),
        format!(
            "{so_far} so far accepted; the budget of {} counts from here. Failed nodes stay tainted until they are Ready.",
            status.effective.max_failures
        ),
    ))
}

fn retry(
    update: &LiveUpdate,
    status: &LiveUpdateStatus,
    node: &str,
    subject: &Subject,
) -> Result<(String, String), String> {
    let put_back = status.skipped.iter().any(|skipped| skipped == node);
    if !put_back {
        let said = said(update, node, subject)?;
        if said.state != "Failed" && said.reason != Reason::AbortedRepeatedly.as_str() {
            return Err(format!(
                "node {node:?} is {} ({}): only a node that failed, was undone three times or was skipped \
                 is retried; see `kubectl liveupdate explain {node}`",
                said.state, said.reason
            ));
        }
    }
    let target = update.spec.target.named()?;
    if status.bad_targets.iter().any(|bad| bad == target.digest) {
        return Err(format!(
            "bundle {:?} came up as another kernel and is tried on no node any more: set spec.target to another one",
            target.name
        ));
    }
    Ok((node.to_owned(), format!("Node {node:?} is tried again when its turn comes.")))
}

fn skip(
    update: &LiveUpdate,
    status: &LiveUpdateStatus,
    node: &str,
    subject: &Subject,
) -> Result<(String, String), String> {
    if status.skipped.iter().any(|skipped| skipped == node) {
        return Err(format!("node {node:?} is skipped already"));
    }
    let record = subject.record.as_ref().filter(|record| concerns(record, update));
    let said = record.and_then(|record| record.status.as_ref());
    // A node without an agent has no record, and is just what one wants to skip.
    if said.is_none() && !subject.exists {
        return Err(format!(
            "there is no node {node:?}: see `kubectl liveupdate status {}`",
            update.name_any()
        ));
    }
    if said.is_some_and(|said| said.state == "Updated" && said.revision == status.revision) {
        return Err(format!("node {node:?} is updated already: there is nothing to skip"));
    }
    let then = if status.in_flight.iter().any(|entry| entry.node == node) {
        format!("Node {node:?} is in flight: this attempt ends as it ends, no other is begun.")
    } else {
        format!("Node {node:?} is left as it is; percentages are of the nodes that remain.")
    };
    Ok((node.to_owned(), then))
}

/// A node's record says that it is quarantined when its attempt failed so, and when what an attempt before left there
/// keeps another one away.
fn release(node: &str, subject: &Subject) -> Result<(String, String), String> {
    let said = subject.record.as_ref().and_then(|record| record.status.as_ref());
    let Some(said) = said else {
        return Err(format!(
            "node {node:?} has no record: `kubectl get nodeliveupdates` says which are Quarantined"
        ));
    };
    if said.reason != Reason::Quarantined.as_str() {
        return Err(format!(
            "node {node:?} is {} ({}): only of a node that is Quarantined there is anything to release; \
             see `kubectl liveupdate explain {node}`",
            said.state, said.reason
        ));
    }
    let why = if said.message.is_empty() { String::new() } else { format!(" ({})", said.message) };
    let lost: Vec<String> = said
        .devices
        .iter()
        .filter(|device| device.outcome.as_deref() == Some("Lost"))
        .map(|device| match &device.holder {
            Some(holder) => format!("{} of {holder}", device.address),
            None => device.address.clone(),
        })
        .collect();
    let lost = if lost.is_empty() { String::new() } else { format!(" Devices: {}.", lost.join(", ")) };
    Ok((
        node.to_owned(),
        format!(
            "What node {node:?} kept{why} is given up: memory and devices of its holders are gone for good, and a \
             holder that comes now starts from nothing.{lost} The node counts as failed and stays what its record \
             says; `kubectl liveupdate retry` lets it be tried again."
        ),
    ))
}

/// What the node's object says, if it speaks of this update.
fn said<'a>(
    update: &LiveUpdate,
    node: &str,
    subject: &'a Subject,
) -> Result<&'a NodeLiveUpdateStatus, String> {
    let record = subject.record.as_ref();
    if record.is_none() && !subject.exists {
        return Err(format!(
            "there is no node {node:?}: see `kubectl liveupdate status {}`",
            update.name_any()
        ));
    }
    record.filter(|record| concerns(record, update)).and_then(|record| record.status.as_ref()).ok_or_else(
        || {
            format!(
                "node {node:?} is no part of liveupdate {:?}: see `kubectl liveupdate explain {node}`",
                update.name_any()
            )
        },
    )
}

fn echoes(status: &LiveUpdateStatus) -> impl Iterator<Item = Verb> {
    status
        .verbs
        .iter()
        .filter_map(|line| verbs::parse_echo(line).ok())
        .filter(|verb| verb.binds(&status.revision))
}

/// How often the same was asked before. What was asked and not taken yet is refused: asking louder is no help.
fn again(
    update: &LiveUpdate,
    status: &LiveUpdateStatus,
    kind: VerbKind,
    argument: &str,
) -> Result<u32, String> {
    let same = |verb: &Verb| verb.kind == kind && verb.argument == argument && verb.binds(&status.revision);
    let taken: Vec<Verb> = echoes(status).filter(same).collect();
    let value = update.annotations().get(verbs::annotation(kind)).map_or("", String::as_str);
    let asked: Vec<Verb> = verbs::parse_value(kind, value).verbs.into_iter().filter(same).collect();
    let pending = |verb: &&Verb| !taken.iter().any(|other| other.again == verb.again);
    if asked.iter().find(pending).is_some() {
        return Err(format!(
            "{} was asked for already, and the controller has not taken it yet: is it running?",
            verbs::word(kind)
        ));
    }
    Ok(taken.iter().chain(&asked).map(|verb| verb.again + 1).max().unwrap_or(0))
}
