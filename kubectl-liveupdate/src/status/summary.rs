//! The one word that stands for an update, from its conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use liveupdate_crds::conditions::{ConditionStatus, LiveUpdateCondition, find};
use liveupdate_crds::verbs::{self, Verb, VerbKind};
use liveupdate_crds::{LiveUpdate, LiveUpdateStatus};

use crate::render::Tone;

/// The condition of that type, if it is there and holds.
#[must_use]
pub fn holds(conditions: &[Condition], kind: LiveUpdateCondition) -> Option<&Condition> {
    find(conditions, kind).filter(|condition| condition.status == ConditionStatus::True.as_str())
}

/// The condition of that type, if it is there and does not hold.
#[must_use]
pub fn fails(conditions: &[Condition], kind: LiveUpdateCondition) -> Option<&Condition> {
    find(conditions, kind).filter(|condition| condition.status == ConditionStatus::False.as_str())
}

/// The word and its tone: the first that fits, the gravest first.
#[must_use]
pub fn word(update: &LiveUpdate) -> (String, Tone) {
    let Some(status) = &update.status else {
        return ("Unseen".to_owned(), Tone::Wait);
    };
    if update.metadata.deletion_timestamp.is_some() {
        return ("Deleting".to_owned(), Tone::Wait);
    }
    let (condition, tone) = gravest(status);
    let reason = condition.map_or("Unseen", |condition| condition.reason.as_str());
    // The column of `kubectl get lu` says the same word.
    (if status.state.is_empty() { reason } else { &status.state }.to_owned(), tone)
}

/// The condition that counts most now.
fn gravest(status: &LiveUpdateStatus) -> (Option<&Condition>, Tone) {
    let conditions = &status.conditions;
    if let Some(succeeded) = holds(conditions, LiveUpdateCondition::Succeeded) {
        return (Some(succeeded), Tone::Good);
    }
    if let Some(failed) =
        fails(conditions, LiveUpdateCondition::Succeeded).filter(|_| status.finished_at.is_some())
    {
        return (Some(failed), Tone::Bad);
    }
    if let Some(refused) = fails(conditions, LiveUpdateCondition::Accepted) {
        return (Some(refused), Tone::Bad);
    }
    for kind in [LiveUpdateCondition::Paused, LiveUpdateCondition::Conflicted] {
        if let Some(stopped) = holds(conditions, kind) {
            return (Some(stopped), Tone::Wait);
        }
    }
    match find(conditions, LiveUpdateCondition::Progressing) {
        Some(progress) => (Some(progress), Tone::Plain),
        None => (None, Tone::Wait),
    }
}

/// Whether the verb `hold` is in force, or will be as soon as the controller reads it.
#[must_use]
pub fn is_held(update: &LiveUpdate) -> bool {
    let Some(status) = &update.status else { return false };
    let asked = verbs::parse(update.annotations()).verbs;
    let taken: Vec<_> = status.verbs.iter().filter_map(|line| verbs::parse_echo(line).ok()).collect();
    let given =
        |verbs: &[Verb], kind| verbs.iter().any(|verb| verb.kind == kind && verb.binds(&status.revision));
    if given(&asked, VerbKind::Resume) {
        return false;
    }
    given(&asked, VerbKind::Hold) || (given(&taken, VerbKind::Hold) && !given(&taken, VerbKind::Resume))
}

/// Whether the status speaks of the spec as it is now.
#[must_use]
pub fn is_current(update: &LiveUpdate, status: &LiveUpdateStatus) -> bool {
    update.metadata.generation.is_none_or(|generation| status.observed_generation >= generation)
}
