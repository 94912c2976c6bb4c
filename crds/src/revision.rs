//! The revision of an update: what makes it another undertaking, in hex digits.

use core::fmt::Write as _;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::LiveUpdateSpec;

/// Bytes of the hash that are kept.
const BYTES: usize = 16;
/// Hex digits of a revision.
pub const DIGITS: usize = 2 * BYTES;
/// Of these, what people are shown where they only tell one from another.
const SHOWN: usize = 8;

/// Hash of what an update does to a node: target, devices and acknowledgements. Edits of the strategy,
/// of the deadlines or of the selector do not change it, so that they apply to the run as it is.
///
/// The first 32 hex digits of the SHA-256 of canonical JSON (keys sorted, no spaces; tokens sorted,
/// rules in their order, because the first match counts). An approval is bound to it: nobody is to find two specs
/// that have the same (docs/adr/0012-an-approval-names-all-of-its-revision.md).
pub fn revision(spec: &LiveUpdateSpec) -> String {
    let mut acknowledge = spec.acknowledge.clone();
    acknowledge.sort_unstable();
    acknowledge.dedup();
    let acknowledge: Vec<&str> = acknowledge.into_iter().map(crate::Acknowledgement::as_str).collect();
    let hashed = json!({"target": spec.target, "devices": spec.devices, "acknowledge": acknowledge});
    let mut text = String::new();
    canonical(&hashed, &mut text);
    Sha256::digest(text.as_bytes()).iter().take(BYTES).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The beginning of a revision, for people.
pub fn short(revision: &str) -> &str {
    revision.get(..SHOWN).unwrap_or(revision)
}

/// Sorts keys itself: whether `serde_json` does depends on the features that others ask of it.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (index, (key, value)) in entries.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                let _ = write!(text, "{}:", Value::from(key.as_str()));
                canonical(value, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            let _ = write!(text, "{value}");
        }
    }
}
