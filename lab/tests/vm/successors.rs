//! Giving back, when those who should take or give die, or have no room.

use liveupdate_crds::LiveUpdateSpec;
use liveupdate_lab::vm::{Hold, Variant};
use liveupdate_lab_guest::Order;

use crate::bed::{Bed, ENOUGH, INIT, Wanted};

const KEEPER: &str = "liveupdate-keeper";
/// Only on the boot on which a test puts it there.
const MENDED: &str = "/run/lab-mended";

/// A guest whose holder's successors die in a way until the test says that they shall not.
async fn bed(how: &str) -> Bed {
    let hold = Hold::new("vm-a").arg(&format!("--misbehave={how}"));
    let hold = hold.arg(&format!("--misbehave-until={MENDED}"));
    let wanted = Wanted { hold, ..Wanted::holder() };
    Bed::start(wanted, |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await
}

async fn mend(bed: &Bed) {
    bed.node.output(INIT, &["put", MENDED, "yes"]).await.unwrap();
}

/// The successor of a successor has everything, and what was in custody ended once.
async fn taken_over_by_the_next(how: &str, says: &str) {
    let bed = bed(how).await;
    bed.apply("real", &bed.targets[0]).await;
    bed.await_line(says).await;
    bed.guest().control().boot(2, ENOUGH).await.unwrap();
    mend(&bed).await;
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    assert_eq!(bed.said_times("made"), 1, "{:?}", bed.said());
    assert!(bed.said_times("dies") >= 1, "{:?}", bed.said());
}

#[tokio::test]
async fn invariant_8_a_successor_that_dies_with_its_session_granted_is_followed_by_the_next() {
    taken_over_by_the_next("die-when-granted", "dies with its session granted").await;
}

#[tokio::test]
async fn invariant_8_a_successor_that_dies_before_it_goes_on_is_followed_by_the_next() {
    taken_over_by_the_next("die-before-resumed", "dies before it goes on").await;
}

#[tokio::test]
async fn invariant_8_a_keeper_killed_after_the_jump_gives_back_when_it_is_started_again() {
    let bed = bed("die-when-granted").await;
    bed.apply("real", &bed.targets[0]).await;
    bed.await_line("dies with its session granted").await;
    bed.guest().control().boot(2, ENOUGH).await.unwrap();
    bed.node.order(KEEPER, Order::Kill).await.unwrap();
    mend(&bed).await;
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    assert_eq!(bed.said_times("made"), 1, "{:?}", bed.said());
}

/// On a real kernel, too: the session is kept until the verb ends it, and whoever comes then finds nothing.
#[tokio::test]
async fn invariant_8_what_nobody_came_for_is_given_up_by_the_verb_and_the_next_holder_begins_anew() {
    let bed = bed("die-when-granted").await;
    let soon = |spec: &mut LiveUpdateSpec| spec.deadlines.reclaim = "20s".parse().unwrap();
    bed.apply_with("real", &bed.targets[0], soon).await;
    bed.await_line("dies with its session granted").await;
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "Quarantined", "{record:#?}");
    bed.plugin(&["release", &bed.update_name("real"), bed.node.name()]).await;
    let told = "an operator gave up the files";
    let record = bed.await_node("them given up", |status| status.last_failure.contains(told)).await;
    assert_eq!((record.state.as_str(), record.reason.as_str()), ("Failed", "Quarantined"), "{record:#?}");
    // It comes as ever, and begins as it did when the guest was made.
    mend(&bed).await;
    bed.await_anew().await;
    assert_eq!(bed.said_times("resumed"), 0, "{:?}", bed.said());
}

#[tokio::test]
async fn a_keeper_killed_after_the_jump_whose_files_nobody_kept_says_so_and_claims_nothing() {
    let bed = bed("die-when-granted").await;
    let soon = |spec: &mut LiveUpdateSpec| spec.deadlines.reclaim = "20s".parse().unwrap();
    bed.apply_with("real", &bed.targets[0], soon).await;
    bed.await_line("dies with its session granted").await;
    let after = bed.guest().control().boot(2, ENOUGH).await.unwrap();
    bed.node.order(KEEPER, Order::Forget).await.unwrap();
    mend(&bed).await;
    bed.guest().serial().wait_for("was lost when the keeper ended", ENOUGH).await.unwrap();
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "Quarantined", "{record:#?}");
    assert!(record.message.contains("lost: vm-a: "), "{record:#?}");
    // That it jumped is proven; that anybody got anything back is not said.
    assert_eq!((&record.kernel, &record.boot_id), (&after.release, &after.boot_id), "{record:#?}");
    assert_eq!(record.blackout, "", "{record:#?}");
    assert!(record.message.contains(&bed.hold.name), "{record:#?}");
    assert_eq!(bed.said_times("resumed"), 0, "{:?}", bed.said());
    let update = bed.update("real").await.status.unwrap_or_default();
    assert_eq!(update.counts.updated, 0, "{update:#?}");
}

#[tokio::test]
async fn invariant_8_a_successor_whose_control_group_is_too_small_gets_nothing_until_it_has_room() {
    let bed = Bed::start(Wanted::holder(), |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    // Known of from the next kernel on: it is too late for any gate.
    let mut small = bed.hold.service();
    small.memory_max = Some("8M".into());
    bed.node.add_service(&bed.plane, &Default::default(), vec![small]).await.unwrap();
    bed.apply("real", &bed.targets[0]).await;
    let why =
        "your control group cannot take the memory: /sys/fs/cgroup/system.slice/vm-a.service: memory.max";
    bed.guest().serial().wait_for(why, ENOUGH).await.unwrap();
    let record = bed.await_node("that it waits", |status| status.state == "Reclaiming").await;
    assert_eq!(record.blackout, "", "{record:#?}");
    assert_eq!(bed.said_times("granted"), 0, "{:?}", bed.said());

    bed.node
        .output(INIT, &["put", "/sys/fs/cgroup/system.slice/vm-a.service/memory.max", "64M"])
        .await
        .unwrap();
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    assert_eq!(bed.said_times("made"), 1, "{:?}", bed.said());
}
