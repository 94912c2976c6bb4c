//! Holders that do wrong: what becomes of the node, and of them.

use liveupdate_lab::vm::hold::events;
use liveupdate_lab::vm::{Hold, Variant};
use liveupdate_lab_guest::Order;

use crate::bed::{Bed, ENOUGH, Wanted};

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

#[tokio::test]
async fn a_holder_that_refuses_to_be_preserved_stops_the_attempt_before_anybody_stops() {
    let bed = bed("refuse-preserve").await;
    let record = bed.await_node("blocked after three aborts", |status| status.state == "Blocked").await;
    assert_eq!((record.aborts, record.reason.as_str()), (3, "AbortedRepeatedly"), "{record:#?}");
    assert!(record.message.contains(&bed.hold.name), "{record:#?}");
    bed.assert_undisturbed().await;
    assert_eq!((bed.said_times("made"), bed.said_times("quiesced")), (1, 0), "{:?}", bed.said());
}

/// It was its own death: nobody had stopped it, and what is there no more holds up nothing. It dies whenever it is
/// preserved: the node is updated when that is tried while it is not there, and is blocked when it is always quicker.
#[tokio::test]
async fn a_holder_that_dies_while_it_is_preserved_undoes_the_attempt_and_is_never_jumped_with() {
    let bed = bed("die-before-quiesce").await;
    bed.await_node("an attempt that is undone", |status| status.aborts >= 1).await;
    let ends = ["Updated", "Blocked"];
    let record = bed.await_node("the end", |status| ends.contains(&status.state.as_str())).await;
    if record.state == "Blocked" {
        assert_eq!((record.aborts, record.reason.as_str()), (3, "AbortedRepeatedly"), "{record:#?}");
        assert!(record.message.contains(&bed.hold.name), "{record:#?}");
        bed.assert_undisturbed().await;
    }
    // None stood still, and nothing of one came through.
    let times = |what: &str| bed.said_times(what);
    assert!(times("made") >= 2, "{:?}", bed.said());
    assert_eq!((times("quiesced"), times("granted"), times("reclaimed")), (0, 0, 0), "{:?}", bed.said());
}

#[tokio::test]
async fn a_holder_that_dies_after_it_has_stopped_aborts_the_attempt_and_counts_as_a_failure() {
    let bed = bed("die-after-quiesce").await;
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "HolderNotResumed", "{record:#?}");
    assert!(record.message.contains(&bed.hold.name), "{record:#?}");
    bed.assert_undisturbed().await;
}

#[tokio::test]
async fn one_of_two_holders_that_votes_no_stops_the_jump_for_both_and_both_run_on() {
    let mut wanted = Wanted::holder();
    let other = Hold::new("vm-b").arg("--misbehave=vote-no");
    wanted.product.beside.push(other.service());
    let bed = Bed::start(wanted, |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    bed.guest().serial().wait_for("liveupdate-hold: vm-b: verdict", ENOUGH).await.unwrap();
    bed.apply("real", &bed.targets[0]).await;
    let record = bed.await_node("blocked after three aborts", |status| status.state == "Blocked").await;
    assert_eq!((record.aborts, record.reason.as_str()), (3, "AbortedRepeatedly"), "{record:#?}");
    assert!(record.message.contains("vm-b"), "{record:#?}");
    bed.assert_undisturbed().await;
    let times = |holder: &str, what: &str| {
        let said = events(&bed.guest().serial().lines(), holder);
        said.iter().filter(|event| event.what == what).count()
    };
    assert_eq!((times("vm-a", "made"), times("vm-b", "made")), (1, 1));
    // Whoever had stopped goes on, as often as it had.
    assert_eq!(times("vm-a", "resumed"), times("vm-a", "quiesced"), "{:?}", bed.said());
}

#[tokio::test]
async fn an_agent_that_is_dead_from_quiesce_on_has_no_effect() {
    let bed = bed("stop-slowly").await;
    bed.await_line("stops slowly").await;
    // Its successor comes with the next kernel.
    bed.node.order("liveupdate-agent", Order::Stop).await.unwrap();
    let quiesced = bed.said_times("quiesced");
    bed.await_success("real").await;
    assert_eq!(quiesced, 0, "the agent was to be dead before the holder stood");
    assert_eq!(bed.node.running().unwrap().number, 2);
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}
