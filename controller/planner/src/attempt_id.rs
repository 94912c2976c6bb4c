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

fn parse(attempt: &str) -> Option<(&str, &str, u32)> {
    let mut parts = attempt.rsplitn(3, '-');
    let number = parts.next()?.parse().ok()?;
    let uid = parts.next()?;
    Some((parts.next()?, uid, number))
}

fn short_uid(uid: &str) -> String {
    uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect()
}
