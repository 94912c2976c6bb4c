//! Ids of attempts: `<revision>-<first 8 of the node's UID>-<try>`.
//!
//! Made from what is durable alone, so that a controller which was killed makes the same one again. The
//! try goes up with each attempt that left a trace on the node, whatever its revision, so that no id is
//! used for two even when a spec is edited back and forth.

use alloc::format;
use alloc::string::String;

use crate::input::{Agent, Node};

/// The id of the next attempt at `node`.
pub(crate) fn next(revision: &str, node: &Node) -> String {
    let short = short_uid(&node.uid);
    let record = node.record.as_ref();
    let traces = [
        record.map(|r| r.attempt.as_str()),
        record.map(|r| r.claimed_attempt.as_str()),
        node.mark.as_ref().map(|m| m.attempt.as_str()),
        match &node.agent {
            Agent::Answered(facts) => facts.attempt.as_ref().map(|a| a.attempt.as_str()),
            _ => None,
        },
    ];
    let last = traces
        .into_iter()
        .flatten()
        .filter_map(parse)
        .filter(|(_, uid, _)| *uid == short)
        .map(|(_, _, number)| number)
        .max();
    format!("{revision}-{short}-{}", last.unwrap_or(0).saturating_add(1))
}

/// The revision that an attempt is of; empty when the id is none of ours.
pub(crate) fn revision_of(attempt: &str) -> &str {
    parse(attempt).map_or("", |(revision, _, _)| revision)
}

/// Whether the attempt is of that revision.
pub(crate) fn is_of(attempt: &str, revision: &str) -> bool {
    // Asked far more often than anything else: what is behind the revision, UID and number, is read once.
    let Some(rest) = attempt.strip_prefix(revision).and_then(|rest| rest.strip_prefix('-')) else {
        return false;
    };
    let digits = rest.bytes().rev().take_while(u8::is_ascii_digit).count();
    let uid = rest.len().saturating_sub(digits + 1);
    let dashes = rest.bytes().filter(|byte| *byte == b'-').count();
    dashes == 1 && rest.as_bytes().get(uid) == Some(&b'-') && (1..=10).contains(&digits)
}

fn parse(attempt: &str) -> Option<(&str, &str, u32)> {
    let mut parts = attempt.rsplitn(3, '-');
    let number = parts.next()?.parse().ok()?;
    let uid = parts.next()?;
    Some((parts.next()?, uid, number))
}

fn short_uid(uid: &str) -> String {
    uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_falls_into_its_parts_even_when_the_revision_has_dashes() {
        assert_eq!(parse("7f3c-00-0a1b2c3d-12"), Some(("7f3c-00", "0a1b2c3d", 12)));
        assert_eq!(revision_of("7f3c9a21-0a1b2c3d-1"), "7f3c9a21");
        assert_eq!(revision_of("rubbish"), "");
        for (attempt, revision) in [("7f3c-00-0a1b2c3d-12", "7f3c-00"), ("7f3c9a21-0a1b2c3d-1", "7f3c9a21")] {
            assert!(is_of(attempt, revision), "{attempt}");
        }
        for revision in ["7f3c", "7f3c-0", "7f3c-00-0a1b2c3d", ""] {
            assert!(!is_of("7f3c-00-0a1b2c3d-12", revision), "{revision}");
        }
        assert!(!is_of("rubbish", "rubbish") && !is_of("7f3c-", "7f3c") && !is_of("7f3c-u-x", "7f3c"));
    }

    #[test]
    fn a_uid_is_shortened_without_its_dashes() {
        assert_eq!(short_uid("0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"), "0a1b2c3d");
        assert_eq!(short_uid("0a-1b"), "0a1b");
    }
}
