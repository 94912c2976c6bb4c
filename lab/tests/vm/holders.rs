//! Holders that do wrong: what becomes of the node, and of them.

use liveupdate_lab::vm::Variant;

use crate::bed::{Bed, Wanted};

async fn bed(how: &str) -> Bed {
    let bed = Bed::start(Wanted::misbehaving(how), |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    bed.apply("real", &bed.targets[0]).await;
    bed
}

#[tokio::test]
async fn a_holder_that_votes_no_stops_the_jump_and_runs_on() {
    let bed = bed("vote-no").await;
    // Three tries, then somebody has to look.
    let record = bed.await_node("blocked after three aborts", |status| status.state == "Blocked").await;
    assert_eq!((record.aborts, record.reason.as_str()), (3, "AbortedRepeatedly"), "{record:#?}");
    assert!(record.message.contains("asked to misbehave"), "{record:#?}");
    bed.assert_undisturbed().await;
    // It was made once: its memory was never given up.
    assert_eq!(bed.said_times("made"), 1);
}

#[tokio::test]
async fn a_holder_that_never_answers_aborts_the_attempt_and_counts_as_a_failure() {
    let bed = bed("never-answer").await;
    // Nor does it answer that it goes on.
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "HolderNotResumed", "{record:#?}");
    assert!(record.message.contains(&bed.hold.name), "{record:#?}");
    bed.assert_undisturbed().await;
}

#[tokio::test]
async fn a_holder_that_dies_when_it_should_stop_aborts_the_attempt_and_counts_as_a_failure() {
    let bed = bed("die-in-quiesce").await;
    // It is not there any more to go on after the abort: what ran in it is lost, which is no mere abort.
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "HolderNotResumed", "{record:#?}");
    assert!(record.message.contains(&bed.hold.name), "{record:#?}");
    bed.assert_undisturbed().await;
    // Started again by its service manager, it is a holder like any other.
    assert!(bed.said_times("dies") >= 1, "{:?}", bed.said());
}

#[tokio::test]
async fn a_holder_that_answers_late_stops_the_jump_and_runs_on() {
    let bed = bed("answer-late").await;
    let record = bed.await_node("blocked after three aborts", |status| status.state == "Blocked").await;
    assert_eq!((record.aborts, record.reason.as_str()), (3, "AbortedRepeatedly"), "{record:#?}");
    assert!(record.message.contains(&bed.hold.name), "{record:#?}");
    bed.assert_undisturbed().await;
    // Each time it stood still for a moment, and went on where it had stopped.
    assert_eq!((bed.said_times("made"), bed.said_times("resumed")), (1, 3), "{:?}", bed.said());
}
