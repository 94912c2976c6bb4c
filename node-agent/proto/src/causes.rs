//! An error's causes, for a log line or a message: the same in every program.

/// The error and its causes on one line, outermost first. A cause that its error has said already is not said
/// again: some libraries repeat it in their own text.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Said {
        text: &'static str,
        source: Option<Box<Said>>,
    }

    fn said(text: &'static str, source: Option<Said>) -> Said {
        Said { text, source: source.map(Box::new) }
    }

    #[test]
    fn every_cause_is_said_once() {
        let root = said("no such file", None);
        let repeated = said("cannot read /a: no such file", Some(root));
        assert_eq!(
            chain(&said("the keeper does not start", Some(repeated))),
            "the keeper does not start: cannot read /a: no such file"
        );
    }
}
