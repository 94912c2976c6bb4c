//! What the demo promises, looked for in what a person reads at its end.

use super::machines::{TARGET_RELEASE, WITHOUT_HANDOVER};

/// What is not said in the tree of `kubectl liveupdate status`, of `nodes` nodes; none when all is.
pub(super) fn missing(tree: &str, nodes: u16) -> Vec<String> {
    let devices = 3 * (nodes - 1);
    let promised = [
        vec![format!("→ {TARGET_RELEASE}"), "CompletedWithSkipped".into()],
        vec![format!("{nodes} selected"), format!("{} updated", nodes - 1), "1 skipped".into()],
        // Each of the two kinds came back once, and never by another device's doing.
        vec![format!("{} Uninterrupted", devices - 2), "1 Paused".into(), "1 Reinitialised".into()],
        vec!["blackout".into(), "p99".into(), "simulated".into()],
        vec![format!("hv-{WITHOUT_HANDOVER:02}"), "KexecHandover".into()],
    ];
    let said = |words: &[String]| tree.lines().any(|line| words.iter().all(|word| has(line, word)));
    let lines = promised.iter().filter(|words| !said(words));
    lines.map(|words| format!("no line with {}", words.join(", "))).collect()
}

/// Whole words, so that `11 Paused` is not `1 Paused`.
fn has(line: &str, words: &str) -> bool {
    let ends = |text: Option<char>| text.is_none_or(|c| !c.is_alphanumeric());
    line.match_indices(words).any(|(at, found)| {
        ends(line[..at].chars().next_back()) && ends(line[at + found.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
demo  → 7.3.5-lu2  CompletedWithSkipped  revision 7f3c9a21, made 40s ago
├─ nodes  20 selected:  19 updated  1 skipped
│  ├─ skipped
│  │  └─ GateNotPassed ×1
│  │     └─ hv-07  KexecHandover: /proc/cmdline: kho=on is not there
├─ devices  55 Uninterrupted  1 Paused  1 Reinitialised
└─ blackout  p50 812ms  p99 1.91s  max 1.91s  simulated
";

    #[test]
    fn what_was_promised_and_is_not_told_is_missed_by_name() {
        assert_eq!(missing(TREE, 20), Vec::<String>::new());
        let spoilt = [
            ("CompletedWithSkipped", "Completed"),
            ("1 skipped", "2 skipped"),
            ("19 updated", "119 updated"),
            ("KexecHandover", "CustodySafe"),
            ("hv-07", "hv-08"),
            ("1 Paused", "11 Paused"),
            ("  1 Reinitialised", ""),
            ("55", "54"),
            ("simulated", ""),
        ];
        for (from, to) in spoilt {
            let tree = TREE.replace(from, to);
            assert_ne!(tree, TREE);
            assert_eq!(missing(&tree, 20).len(), 1, "{tree}");
        }
        assert_eq!(missing("", 20).len(), 5);
    }
}
