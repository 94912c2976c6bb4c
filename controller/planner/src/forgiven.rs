//! Attempts that the verb `retry` has forgiven, as long as the node's own record still speaks of them.

use crate::fleet::Fleet;
use crate::input::{Node, NodeEnd, Verb, VerbKind};
use crate::run::{MAX_ABORTS, Run};

/// The note that an attempt at a node is forgiven.
pub(crate) fn note(run: &Run<'_>, node: &str, attempt: &str) -> Verb {
    run.note(VerbKind::Retry, node, attempt)
}

/// The attempt of which the node's record says something that `retry` forgets.
pub(crate) fn bad_attempt<'n>(run: &Run<'_>, node: &'n Node) -> Option<&'n str> {
    let record = run.own_record(node)?;
    let bad = matches!(record.end, Some(NodeEnd::Failed { .. })) || record.aborts >= MAX_ABORTS;
    bad.then_some(record.attempt.as_str())
}

/// Whether what the node's record says was forgiven by `retry`, and is only still to be written.
pub(crate) fn is_forgiven(run: &Run<'_>, node: &Node) -> bool {
    let may_be = run.record.verbs.iter().any(|verb| verb.kind == VerbKind::Retry);
    may_be
        && bad_attempt(run, node)
            .is_some_and(|attempt| run.record.verbs.contains(&note(run, &node.name, attempt)))
}

/// Whether a note is still needed: the record still says something bad of its attempt.
pub(crate) fn is_needed(run: &Run<'_>, note: &Verb, fleet: &Fleet<'_>) -> bool {
    let Some((name, attempt)) = note.argument.split_once('/') else { return false };
    let node = fleet.index_of(name).map(|index| fleet.at(index));
    node.and_then(|node| bad_attempt(run, node)) == Some(attempt)
}
