//! The one word that stands for an update, from its conditions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use liveupdate_crds::{LiveUpdate, LiveUpdateStatus, verbs};

use crate::render::Tone;

/// The condition of that type, if it is there.
#[must_use]
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// The condition of that type, if it is there and holds.
#[must_use]
pub fn holds<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    condition(conditions, kind).filter(|condition| condition.status == "True")
}

/// The word and its tone: the first that fits, the gravest first.
#[must_use]
pub fn word(update: &LiveUpdate) -> (String, Tone) {
    let Some(status) = &update.status else {
        return ("Unseen".to_owned(), Tone::Wait);
    };
    let conditions = &status.conditions;
    let word = |text: &str, tone| (text.to_owned(), tone);
    if update.metadata.deletion_timestamp.is_some() {
        return word("Deleting", Tone::Wait);
    }
    if let Some(succeeded) = condition(conditions, "Succeeded") {
        match succeeded.status.as_str() {
            "True" => return word(&succeeded.reason, Tone::Good),
            "False" if status.finished_at.is_some() => return word(&succeeded.reason, Tone::Bad),
            _ => {}
        }
    }
    if let Some(refused) = condition(conditions, "Accepted").filter(|accepted| accepted.status == "False") {
        return word(&refused.reason, Tone::Bad);
    }
    if let Some(paused) = holds(conditions, "Paused") {
        return word(&paused.reason, Tone::Wait);
    }
    if let Some(conflicted) = holds(conditions, "Conflicted") {
        return word(&conflicted.reason, Tone::Wait);
    }
    match condition(conditions, "Progressing") {
        Some(progress) => word(&progress.reason, Tone::Plain),
        None => word("Unseen", Tone::Wait),
    }
}

/// Whether `hold` stands in the annotations for the present revision.
#[must_use]
pub fn is_held(update: &LiveUpdate) -> bool {
    let revision = update.status.as_ref().map_or("", |status| status.revision.as_str());
    let value = update.annotations().get(verbs::annotation(verbs::VerbKind::Hold));
    value.is_some_and(|value| {
        let parsed = verbs::parse_value(verbs::VerbKind::Hold, value);
        parsed.verbs.iter().any(|verb| verbs::binds(&verb.revision, revision))
    })
}

/// Whether the status speaks of the spec as it is now.
#[must_use]
pub fn is_current(update: &LiveUpdate, status: &LiveUpdateStatus) -> bool {
    update.metadata.generation.is_none_or(|generation| status.observed_generation >= generation)
}
