//! Events of `events.k8s.io/v1`.

use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster::{About, Note};

/// The API's limit for a note, in bytes.
const MAX_NOTE: usize = 1024;

/// The Event for a note. Cluster-scoped objects have theirs in the namespace `default`.
pub(super) fn body(note: &Note, instance: &str) -> Value {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (version, kind, name, uid) = match &note.about {
        About::Update { name, uid } => ("liveupdate.dev/v1alpha1", "LiveUpdate", name, uid),
        About::Node { name, uid } => ("v1", "Node", name, uid),
    };
    let now = Timestamp::now();
    // Unlike Kubernetes' own: a hash of the time alone is used twice by two writers of one instant.
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    let suffix = format!(".{:x}.{serial:x}", now.as_microsecond());
    let stem = name.get(..200).unwrap_or(name);
    let at = k8s_openapi::jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%S%.6fZ", now).unwrap_or_default();
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": format!("{stem}{suffix}"), "namespace": "default"},
        "eventTime": at,
        "reportingController": "liveupdate.dev/controller",
        "reportingInstance": cut(instance, 128),
        "action": "Update",
        "reason": note.reason,
        "regarding": {"apiVersion": version, "kind": kind, "name": name, "uid": uid},
        "note": cut(&note.message, MAX_NOTE),
        "type": if note.warning { "Warning" } else { "Normal" },
    })
}

fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The API server takes none of the fields of the old kind in a new one.
    #[test]
    fn an_event_has_nothing_of_the_old_kind() {
        let note = Note {
            about: About::Update { name: "a".into(), uid: "u".into() },
            reason: "Completed".into(),
            message: String::new(),
            warning: false,
        };
        let event = body(&note, "x");
        let old = event.as_object().unwrap().keys().filter(|key| key.starts_with("deprecated")).count();
        assert_eq!(old, 0);
    }

    #[test]
    fn two_events_of_one_instant_have_two_names() {
        let note = Note {
            about: About::Node { name: "a".into(), uid: "u".into() },
            reason: "Updated".into(),
            message: "ü".repeat(2000),
            warning: false,
        };
        let (one, two) = (body(&note, "x"), body(&note, "x"));
        assert_ne!(one["metadata"]["name"], two["metadata"]["name"]);
        assert!(one["note"].as_str().unwrap().len() <= MAX_NOTE);
    }
}
