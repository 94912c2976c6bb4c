//! The pages that are made from the code are those that the code makes now.

use std::fs;
use std::path::Path;

use kubectl_liveupdate::advice::advice;
use liveupdate_planner::Reason;

#[test]
fn the_generated_pages_are_those_of_the_code() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for (name, text) in kubectl_liveupdate::docs::pages() {
        let found = fs::read_to_string(folder.join(name)).unwrap_or_default();
        let line = (1..).zip(found.lines().zip(text.lines())).find(|(_, (old, new))| old != new);
        assert!(found == text, "docs/{name} is not what the code says: run `make generate`\n{line:?}");
    }
}

#[test]
fn every_reason_is_explained_and_every_command_is_shown() {
    let [(_, reasons), (_, commands)] = kubectl_liveupdate::docs::pages();
    for reason in Reason::ALL {
        let row = reasons.lines().find(|line| line.starts_with(&format!("| `{reason}` |")));
        assert_eq!(row.map(|row| row.matches(" | ").count()), Some(2), "{reason}: {row:?}");
        assert!(reason.meaning().ends_with('.'), "{reason} is not explained in a sentence");
    }
    let all =
        ["status", "explain", "approve", "abort", "pause", "resume", "retry", "skip", "release", "simulate"];
    for command in all {
        assert!(commands.contains(&format!("## kubectl liveupdate {command}\n")), "{command}");
        assert!(commands.contains(&format!("Usage: kubectl liveupdate {command} ")), "{command}");
    }
    assert!(!commands.contains("__complete"), "what is hidden stays hidden");
}

/// A node that fails or is blocked needs a person: none of its reasons leaves them alone.
#[test]
fn what_stops_a_node_says_what_to_do() {
    let stops = [
        Reason::GateNotPassed,
        Reason::DeviceNotCovered,
        Reason::ContinuityShortfall,
        Reason::AgentUnreachable,
        Reason::AgentMissing,
        Reason::AgentMisbehaves,
        Reason::NodeNotReady,
        Reason::NodeMalformed,
        Reason::ForeignMaintenance,
        Reason::AbortedRepeatedly,
        Reason::WrongKernel,
        Reason::DidNotReturn,
        Reason::KernelRefused,
        Reason::VerifyFailed,
        Reason::Quarantined,
        Reason::HolderNotResumed,
        Reason::BlackoutOverBudget,
        Reason::NodeGone,
        Reason::BadTarget,
    ];
    for reason in stops {
        assert!(!advice(reason).is_empty(), "{reason}  has no advice");
    }
}
