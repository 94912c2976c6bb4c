//! Holders that do wrong: what becomes of the node, and of them.

use liveupdate_crds::NodeLiveUpdateStatus;
use liveupdate_lab::vm::hold::events;
use liveupdate_lab::vm::{Hold, Variant};
use liveupdate_lab_guest::Order;

use crate::bed::{Bed, ENOUGH, FAULT, Wanted};

/// With an update that is asked for already.
async fn bed(how: &str) -> Bed {
    let bed = started(Wanted::misbehaving(how)).await;
    bed.apply("real", &bed.targets[0]).await;
    bed
}

async fn started(wanted: Wanted) -> Bed {
    Bed::start(wanted, |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await
}

/// Asks for an update while the holder does that wrong, and gives the node's word when it has come to an end so. The guest
/// is as it was then, and the update is gone.
async fn ends(bed: &Bed, fault: &str, state: &str) -> NodeLiveUpdateStatus {
    bed.put(FAULT, fault).await;
    bed.apply(fault, &bed.targets[0]).await;
    let update = bed.update_name(fault);
    let ended = |status: &NodeLiveUpdateStatus| status.update_name == update && status.state == state;
    let record = bed.await_node(&format!("{state} by {fault}"), ended).await;
    bed.assert_undisturbed().await;
    bed.delete(fault).await;
    record
}

/// Three tries, then somebody has to look.
async fn holds_up_the_jump(bed: &Bed, fault: &str, why: &str) {
    let record = ends(bed, fault, "Blocked").await;
    assert_eq!((record.aborts, record.reason.as_str()), (3, "AbortedRepeatedly"), "{fault}: {record:#?}");
    assert!(record.message.contains(why), "{fault}: {record:#?}");
    // It was made once: its memory was never given up.
    assert_eq!(bed.said_times("made"), 1, "{fault}: {:?}", bed.said());
}

#[tokio::test]
async fn a_holder_that_refuses_votes_no_or_answers_late_stops_the_jump_each_time_and_runs_on() {
    let bed = started(Wanted::told_each_time()).await;
    let vm = bed.hold.name.clone();
    holds_up_the_jump(&bed, "refuse-preserve", &vm).await;
    assert_eq!(bed.said_times("quiesced"), 0, "nobody stops for that: {:?}", bed.said());
    holds_up_the_jump(&bed, "vote-no", "asked to misbehave").await;
    assert_eq!(bed.said_times("quiesced"), 0, "it refuses to: {:?}", bed.said());
    holds_up_the_jump(&bed, "answer-late", &vm).await;
    // Each time it stood still for a moment, and went on where it had stopped.
    assert_eq!((bed.said_times("quiesced"), bed.said_times("resumed")), (3, 3), "{:?}", bed.said());
}

/// It is not there any more to go on after the abort, or does not say that it does: what ran in it is lost, which is no
/// mere abort.
async fn fails(bed: &Bed, fault: &str) {
    let record = ends(bed, fault, "Failed").await;
    assert_eq!(record.reason, "HolderNotResumed", "{fault}: {record:#?}");
    assert!(record.message.contains(&bed.hold.name), "{fault}: {record:#?}");
}

#[tokio::test]
async fn a_holder_that_dies_when_it_should_stop_or_never_answers_aborts_the_attempt_and_counts_as_a_failure()
{
    // For those who do not say that they go on, each time.
    let bed = started(Wanted { waits: true, ..Wanted::told_each_time() }).await;
    // Started again by its service manager, it is a holder like any other.
    for (deaths, fault) in ["die-in-quiesce", "die-after-quiesce"].into_iter().enumerate() {
        fails(&bed, fault).await;
        assert_eq!(bed.said_times("made"), deaths + 2, "{:?}", bed.said());
        assert!(bed.said_times("dies") >= 1, "{:?}", bed.said());
    }
    fails(&bed, "never-answer").await;
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
async fn one_of_two_holders_that_votes_no_stops_the_jump_for_both_and_both_run_on() {
    let mut wanted = Wanted::holder();
    let other = Hold::new("vm-b").arg("--misbehave=vote-no");
    wanted.product.beside.push(other.service());
    let bed = started(wanted).await;
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
