//! CEL rules that more than one field uses. Each message says what to write.
//!
//! The API server bounds what all rules may cost at worst and estimates it from `maxItems` and
//! `maxLength`. A value that is a number or a string has no bound that the estimate knows (3 MB), so
//! that rules over such values must not walk the string: they compare it with the strings there are.

use kube::core::{Message, Rule};

/// A count above zero, or `1%` to `100%`.
pub(crate) fn at_least_one_node() -> Rule {
    Rule::new(format!("type(self) == int ? self > 0 : self in {}", percentages(1))).message(
        "write a number of nodes above 0, such as 5, or a percentage from 1% to 100%, such as \"10%\"",
    )
}

/// A count, or `0%` to `100%`.
pub(crate) fn any_number_of_nodes() -> Rule {
    Rule::new(format!("type(self) == int ? self >= 0 : self in {}", percentages(0)))
        .message("write a number of nodes, such as 0 or 3, or a percentage from 0% to 100%, such as \"5%\"")
}

/// The rules as the local evaluator can read them. It knows no `type()`; what takes its place means the
/// same, but the API server's estimate holds it for too dear.
pub(crate) fn for_local_evaluation(schema: &str) -> String {
    schema
        .replace("type(self) == int", "self != string(self)")
        .replace("type(s.nodes) == int", "s.nodes != string(s.nodes)")
        .replace("type(s.nodes) == string", "s.nodes == string(s.nodes)")
}

fn percentages(from: u32) -> String {
    let all: Vec<String> = (from..=100).map(|percent| format!("'{percent}%'")).collect();
    format!("[{}]", all.join(", "))
}

/// The longest text of a duration; with at most six digits to a number the sum cannot overflow.
pub(crate) const DURATION_LENGTH: u32 = 20;

const DURATION: &str = r"^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h))+$";

/// A well-formed duration, from zero up to this one.
pub(crate) fn duration_up_to(longest: &str) -> Rule {
    Rule::new(format!("self.matches('{DURATION}') && duration(self) <= duration('{longest}')")).message(
        format!("write a duration with the units ms, s, m or h, such as 30s or 1h30m, of at most {longest}")
            .as_str(),
    )
}

/// As [`duration_up_to`], but zero is refused: no time at all is no deadline that can be kept.
pub(crate) fn deadline_up_to(longest: &str) -> Rule {
    Rule::new(format!(
        "self.matches('{DURATION}') && duration(self) > duration('0s') && duration(self) <= duration('{longest}')"
    ))
    .message(
        format!("write a duration above 0 with the units ms, s, m or h, such as 30s or 1h30m, of at most {longest}")
            .as_str(),
    )
}

/// A name of at most 63 characters as in a DNS label.
pub(crate) fn dns_label() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message(
        "write a name of lower-case letters, digits and '-', beginning and ending with a letter or digit, such as canary-1",
    )
}

/// Four hex digits as `lspci -n` prints them.
pub(crate) fn four_hex_digits() -> Rule {
    Rule::new("self.matches('^[0-9a-f]{4}$')")
        .message("write four lower-case hex digits as lspci -n prints them, such as \"10de\"")
}

/// A digest, and no tag alone: what a tag names can be another thing tomorrow.
pub(crate) fn image_has_a_digest() -> Rule {
    Rule::new("self.contains('@')").message(
        "name the artifact by its digest, not by a tag: a tag can be moved to other bytes, a digest cannot; write REGISTRY/REPOSITORY@sha256:… as `kubectl liveupdate bundle push` prints it",
    )
}

/// `REGISTRY/REPOSITORY@sha256:…`, whose other mistakes are told by [`image_has_a_digest`].
pub(crate) fn image_is_a_reference() -> Rule {
    Rule::new("!self.contains('@') || self.matches('^[a-z0-9]([-.a-z0-9]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([-._]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}$')").message(
        "write REGISTRY/REPOSITORY@sha256: and 64 lower-case hex digits, without a scheme and without a tag, such as registry.example/kernels/7.3.5-lu2@sha256:…",
    )
}

/// The three rules that fence a part of an object (`spec` or `status`) by its epoch. They stand on the
/// root, because a rule on the epoch itself could be dodged by leaving the part out.
pub(crate) fn epoch_stays(part: &str) -> Rule {
    Rule::new(format!(
        "!has(oldSelf.{part}) || !has(oldSelf.{part}.epoch) || (has(self.{part}) && has(self.{part}.epoch))"
    ))
    .message(
        format!("{part}.epoch is missing: it is on record and must stay, because it is what refuses a controller that no longer leads")
            .as_str(),
    )
}

/// See [`epoch_stays`].
pub(crate) fn epoch_of_same_cluster(part: &str) -> Rule {
    Rule::new(format!("{}self.{part}.epoch.cluster == oldSelf.{part}.epoch.cluster", either_missing(part)))
        .message(Message::Expression(format!(
            "'wrong cluster: the writer speaks for cluster ' + self.{part}.epoch.cluster + ', but this object belongs to cluster ' + oldSelf.{part}.epoch.cluster"
        )))
}

/// See [`epoch_stays`].
pub(crate) fn epoch_never_lower(part: &str) -> Rule {
    Rule::new(format!(
        "{}self.{part}.epoch.cluster != oldSelf.{part}.epoch.cluster || self.{part}.epoch.counter >= oldSelf.{part}.epoch.counter",
        either_missing(part)
    ))
    // `format` and not `+`: the estimate knows no length of string(int), and refuses what is added to it.
    .message(Message::Expression(format!(
        "'stale leader: epoch %d is lower than %d, which is on record'.format([self.{part}.epoch.counter, oldSelf.{part}.epoch.counter])"
    )))
}

fn either_missing(part: &str) -> String {
    format!(
        "!has(oldSelf.{part}) || !has(oldSelf.{part}.epoch) || !has(self.{part}) || !has(self.{part}.epoch) || "
    )
}
