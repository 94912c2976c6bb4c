//! One-shot verbs: annotations on a `LiveUpdate`, bound to its revision.
//!
//! Git owns the spec, so what a person does to a running update is no edit of it. There is one annotation
//! per verb, `liveupdate.dev/<verb>`, with a comma-separated list of items:
//!
//! ```text
//! item  = [ argument "@" ] revision [ "#" again ]
//! liveupdate.dev/approve:        canary@7f3c9a21d04be68c5512f0a9937e6b1d
//! liveupdate.dev/retry:          node-a@7f3c9a21,node-b@7f3c9a21,node-a@7f3c9a21#1
//! liveupdate.dev/hold:           7f3c9a21
//! ```
//!
//! - `argument` is a step (`approve`) or a node (`retry`, `skip`, `release`); the other verbs have none. `@` may stand
//!   before the revision all the same.
//! - `revision` is at least four hex digits of `status.revision`, and all of them for `approve`. Items of another revision
//!   are ignored: an approval that was meant for one kernel never lets another one through.
//! - `again` tells apart the second, third … time that the same thing is asked for (a node that failed,
//!   was retried, and failed again). It is left out when it is 0.
//!
//! A verb that was taken is echoed in `status.verbs` as `verb: item`, and is not taken twice. Whoever asks for
//! the next one leaves out what was taken before ([`add`]); the controller then forgets it, so that neither list
//! grows. `hold` stands until `resume`, which wins where both stand: writing one takes the other away.
//!
//! Reading is lenient per item: what is malformed is reported and the rest counts (invariant 9).

use std::collections::BTreeMap;

use liveupdate_planner::MIN_REVISION;
pub use liveupdate_planner::{Verb, VerbKind};

use crate::revision;

/// All verbs, in the order of the documentation.
pub const ALL: [VerbKind; 8] = [
    VerbKind::Approve,
    VerbKind::Abort,
    VerbKind::Resume,
    VerbKind::Retry,
    VerbKind::Skip,
    VerbKind::Hold,
    VerbKind::AcceptFailure,
    VerbKind::Release,
];

/// Fewest hex digits of a revision that this verb may be bound to ([`Verb::binds`]).
const fn digits(kind: VerbKind) -> usize {
    match kind {
        VerbKind::Approve => revision::DIGITS,
        VerbKind::Abort
        | VerbKind::Resume
        | VerbKind::Retry
        | VerbKind::Skip
        | VerbKind::Hold
        | VerbKind::AcceptFailure
        | VerbKind::Release => MIN_REVISION,
    }
}

/// The verb as it is written in annotations, on the command line and in `status.verbs`.
#[must_use]
pub const fn word(kind: VerbKind) -> &'static str {
    match kind {
        VerbKind::Approve => "approve",
        VerbKind::Abort => "abort",
        VerbKind::Resume => "resume",
        VerbKind::Retry => "retry",
        VerbKind::Skip => "skip",
        VerbKind::Hold => "hold",
        VerbKind::AcceptFailure => "accept-failure",
        VerbKind::Release => "release",
    }
}

/// Key of the verb's annotation.
#[must_use]
pub const fn annotation(kind: VerbKind) -> &'static str {
    match kind {
        VerbKind::Approve => "liveupdate.dev/approve",
        VerbKind::Abort => "liveupdate.dev/abort",
        VerbKind::Resume => "liveupdate.dev/resume",
        VerbKind::Retry => "liveupdate.dev/retry",
        VerbKind::Skip => "liveupdate.dev/skip",
        VerbKind::Hold => "liveupdate.dev/hold",
        VerbKind::AcceptFailure => "liveupdate.dev/accept-failure",
        VerbKind::Release => "liveupdate.dev/release",
    }
}

/// What the verb's argument names; none for verbs without one.
#[must_use]
pub const fn argument_name(kind: VerbKind) -> Option<&'static str> {
    match kind {
        VerbKind::Approve => Some("step"),
        VerbKind::Retry | VerbKind::Skip | VerbKind::Release => Some("node"),
        VerbKind::Abort | VerbKind::Resume | VerbKind::Hold | VerbKind::AcceptFailure => None,
    }
}

/// Why one item of an annotation or of `status.verbs` cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerbError {
    /// There is no `@revision`, or it is no revision.
    #[error(
        "verb {verb}: {item:?} is not bound to a revision: write {form}, \
         with {digits} or more of the hex digits of status.revision"
    )]
    NotBound {
        /// The verb.
        verb: &'static str,
        /// What was written.
        item: String,
        /// How it is written right.
        form: &'static str,
        /// How many hex digits it takes.
        digits: usize,
    },
    /// The verb needs an argument and has none.
    #[error("verb {verb}: {item:?} names no {argument}: write {form}")]
    NoArgument {
        /// The verb.
        verb: &'static str,
        /// What was written.
        item: String,
        /// What is missing.
        argument: &'static str,
        /// How it is written right.
        form: &'static str,
    },
    /// The verb takes no argument and has one.
    #[error("verb {verb}: {item:?} has an argument, and this verb takes none: write REVISION alone")]
    UnexpectedArgument {
        /// The verb.
        verb: &'static str,
        /// What was written.
        item: String,
    },
    /// What stands after `#` is no number.
    #[error("verb {verb}: in {item:?}, what stands after # must be a number")]
    BadAgain {
        /// The verb.
        verb: &'static str,
        /// What was written.
        item: String,
    },
    /// An argument that the encoding cannot carry.
    #[error(
        "verb {verb}: {argument:?} cannot be named in an annotation: it holds one of `,@#`, a space, or nothing"
    )]
    Unwritable {
        /// The verb.
        verb: &'static str,
        /// What was to be written.
        argument: String,
    },
    /// A line of `status.verbs` that names no verb.
    #[error("{0:?} is no echo of a verb: verb: item expected")]
    NoVerb(String),
}

/// What was read: the verbs, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the order of [`ALL`], then as written; each once.
    pub verbs: Vec<Verb>,
    /// One for each malformed item.
    pub problems: Vec<VerbError>,
}

/// Reads all verbs from an object's annotations. Never fails as a whole.
#[must_use]
pub fn parse(annotations: &BTreeMap<String, String>) -> Parsed {
    let mut all = Parsed::default();
    for kind in ALL {
        if let Some(value) = annotations.get(annotation(kind)) {
            let one = parse_value(kind, value);
            all.verbs.extend(one.verbs);
            all.problems.extend(one.problems);
        }
    }
    all
}

/// Reads the value of one verb's annotation.
#[must_use]
pub fn parse_value(kind: VerbKind, value: &str) -> Parsed {
    let mut parsed = Parsed::default();
    for item in value.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        match parse_item(kind, item) {
            Ok(verb) if !parsed.verbs.contains(&verb) => parsed.verbs.push(verb),
            Ok(_) => {}
            Err(problem) => parsed.problems.push(problem),
        }
    }
    parsed
}

/// Reads one item.
///
/// # Errors
/// Says what is wrong with it and how it is written right.
pub fn parse_item(kind: VerbKind, item: &str) -> Result<Verb, VerbError> {
    let verb = word(kind);
    let own = || item.to_owned();
    let (bound, again) = match item.rsplit_once('#') {
        None => (item, 0),
        Some((bound, again)) => {
            (bound, again.trim().parse().map_err(|_| VerbError::BadAgain { verb, item: own() })?)
        }
    };
    let (argument, revision) = match (bound.rsplit_once('@'), argument_name(kind)) {
        (Some((argument, revision)), _) => (argument.trim(), revision.trim()),
        (None, None) => ("", bound.trim()),
        (None, Some(_)) => return Err(not_bound(kind, item)),
    };
    if !is_revision(kind, revision) {
        return Err(not_bound(kind, item));
    }
    match argument_name(kind) {
        Some(name) if argument.is_empty() => {
            return Err(VerbError::NoArgument { verb, item: own(), argument: name, form: form(kind) });
        }
        None if !argument.is_empty() => return Err(VerbError::UnexpectedArgument { verb, item: own() }),
        _ => {}
    }
    Ok(Verb { kind, argument: argument.to_owned(), revision: revision.to_owned(), again })
}

/// Writes one item.
///
/// # Errors
/// When argument or revision hold what the encoding cannot carry.
pub fn format_item(verb: &Verb) -> Result<String, VerbError> {
    let item = spell(verb);
    match parse_item(verb.kind, &item) {
        Ok(read) if read == *verb && !item.contains(|c: char| c == ',' || c.is_whitespace()) => Ok(item),
        _ => Err(VerbError::Unwritable { verb: word(verb.kind), argument: verb.argument.clone() }),
    }
}

/// The new value of the verb's annotation when `verb` is asked for in addition to what stands there and is not
/// among the `taken` ones. Items of other revisions are dropped, since nobody takes them any more; so is what
/// is malformed.
///
/// # Errors
/// As [`format_item`].
pub fn add(existing: Option<&str>, taken: &[Verb], verb: &Verb) -> Result<String, VerbError> {
    let mut items: Vec<String> = parse_value(verb.kind, existing.unwrap_or_default())
        .verbs
        .iter()
        .filter(|other| other.binds(&verb.revision) && *other != verb && !taken.contains(other))
        .map(spell)
        .collect();
    items.push(format_item(verb)?);
    Ok(items.join(","))
}

/// A line of `status.verbs`: `skip: node-a@7f3c9a21`.
#[must_use]
pub fn echo(verb: &Verb) -> String {
    format!("{}: {}", word(verb.kind), spell(verb))
}

/// Reads a line of `status.verbs`.
///
/// # Errors
/// When it names no verb, or its item is malformed.
pub fn parse_echo(line: &str) -> Result<Verb, VerbError> {
    let no_verb = || VerbError::NoVerb(line.to_owned());
    let (verb, item) = line.split_once(':').ok_or_else(no_verb)?;
    let kind = ALL.into_iter().find(|kind| word(*kind) == verb.trim()).ok_or_else(no_verb)?;
    parse_item(kind, item.trim())
}

fn not_bound(kind: VerbKind, item: &str) -> VerbError {
    VerbError::NotBound { verb: word(kind), item: item.to_owned(), form: form(kind), digits: digits(kind) }
}

fn spell(verb: &Verb) -> String {
    let at = if verb.argument.is_empty() { "" } else { "@" };
    let again = if verb.again == 0 { String::new() } else { format!("#{}", verb.again) };
    format!("{}{at}{}{again}", verb.argument, verb.revision)
}

const fn form(kind: VerbKind) -> &'static str {
    match kind {
        VerbKind::Approve => "STEP@REVISION",
        VerbKind::Retry | VerbKind::Skip | VerbKind::Release => "NODE@REVISION",
        VerbKind::Abort | VerbKind::Resume | VerbKind::Hold | VerbKind::AcceptFailure => "REVISION",
    }
}

fn is_revision(kind: VerbKind, text: &str) -> bool {
    text.len() >= digits(kind)
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "7f3c9a21d04be68c5512f0a9937e6b1d";

    fn verb(kind: VerbKind, argument: &str, again: u32) -> Verb {
        let revision = if kind == VerbKind::Approve { WHOLE } else { "7f3c9a21" };
        Verb { kind, argument: argument.into(), revision: revision.into(), again }
    }

    #[test]
    fn an_approval_names_all_of_its_revision() {
        let item = format!("canary@{WHOLE}");
        assert_eq!(parse_item(VerbKind::Approve, &item), Ok(verb(VerbKind::Approve, "canary", 0)));
        let error = parse_item(VerbKind::Approve, "canary@7f3c9a21").unwrap_err().to_string();
        assert!(
            error.ends_with("write STEP@REVISION, with 32 or more of the hex digits of status.revision"),
            "{error}"
        );
    }

    #[test]
    fn every_verb_survives_writing_and_reading() {
        for kind in ALL {
            let argument = if argument_name(kind).is_some() { "node-1.example.com" } else { "" };
            for again in [0, 1, 17] {
                let verb = verb(kind, argument, again);
                let item = format_item(&verb).unwrap();
                assert_eq!(parse_item(kind, &item).unwrap(), verb, "{item}");
                assert_eq!(parse_echo(&echo(&verb)).unwrap(), verb);
            }
            assert_eq!(annotation(kind), format!("{}/{}", crate::GROUP, word(kind)));
        }
    }

    #[test]
    fn invariant_9_malformed_items_are_reported_and_the_rest_counts() {
        let parsed = parse_value(
            VerbKind::Retry,
            " node-a@7f3c9a21 , node-b, @7f3c9a21, node-c@7f3, node-d@XYZW,node-e@7f3c#x,,node-f@7f3c#2,",
        );
        let nodes: Vec<_> = parsed.verbs.iter().map(|verb| (verb.argument.as_str(), verb.again)).collect();
        assert_eq!(nodes, [("node-a", 0), ("node-f", 2)]);
        let problems: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 5, "{problems:#?}");
        assert_eq!(
            problems[0],
            "verb retry: \"node-b\" is not bound to a revision: write NODE@REVISION, \
             with 4 or more of the hex digits of status.revision"
        );
        assert_eq!(problems[1], "verb retry: \"@7f3c9a21\" names no node: write NODE@REVISION");
    }

    #[test]
    fn verbs_without_an_argument_are_bound_too() {
        assert_eq!(parse_item(VerbKind::Hold, "7f3c9a21"), Ok(verb(VerbKind::Hold, "", 0)));
        assert_eq!(parse_item(VerbKind::Hold, "@7f3c9a21"), Ok(verb(VerbKind::Hold, "", 0)));
        for wrong in ["true", "", "canary@7f3c9a21"] {
            assert!(parse_item(VerbKind::Abort, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_annotations_of_an_object_are_read_and_others_left_alone() {
        let annotations = BTreeMap::from([
            ("liveupdate.dev/skip".to_owned(), "node-b@7f3c9a21,node-b@7f3c9a21".to_owned()),
            ("liveupdate.dev/approve".to_owned(), format!("canary@{WHOLE}")),
            ("liveupdate.dev/unknown".to_owned(), "x".to_owned()),
        ]);
        let expected = vec![verb(VerbKind::Approve, "canary", 0), verb(VerbKind::Skip, "node-b", 0)];
        assert_eq!(parse(&annotations), Parsed { verbs: expected, problems: vec![] });
    }

    #[test]
    fn adding_keeps_this_revision_and_drops_the_others() {
        let retry = verb(VerbKind::Retry, "node-b", 0);
        let existing = Some("node-a@7f3c,node-z@00000000,node-b@7f3c9a21,rubbish");
        assert_eq!(add(existing, &[], &retry).unwrap(), "node-a@7f3c,node-b@7f3c9a21");
        assert_eq!(add(None, &[], &retry).unwrap(), "node-b@7f3c9a21");
        let again = verb(VerbKind::Retry, "node-b", 1);
        let both = "node-b@7f3c9a21,node-b@7f3c9a21#1";
        assert_eq!(add(Some("node-b@7f3c9a21"), &[], &again).unwrap(), both);
        assert_eq!(add(Some("node-b@7f3c9a21"), &[retry], &again).unwrap(), "node-b@7f3c9a21#1");
    }

    #[test]
    fn what_the_encoding_cannot_carry_is_refused() {
        for argument in ["a,b", "a b", "a#b", "", " "] {
            let error = format_item(&verb(VerbKind::Approve, argument, 0));
            assert!(matches!(error, Err(VerbError::Unwritable { .. })), "{argument:?}: {error:?}");
        }
    }

    #[test]
    fn a_verb_speaks_of_its_revision_alone() {
        let binds = |bound: &str, revision| {
            Verb { revision: bound.into(), ..verb(VerbKind::Hold, "", 0) }.binds(revision)
        };
        assert!(binds("7f3c", "7f3c9a21"));
        assert!(binds("7f3c9a21", "7f3c9a21"));
        assert!(!binds("7f3", "7f3c9a21"));
        assert!(!binds("7f3d", "7f3c9a21"));
        assert!(!binds("7f3c9a21f", "7f3c9a21"));
    }
}
