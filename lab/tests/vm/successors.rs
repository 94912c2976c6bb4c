//! Giving back, when those who should take or give die, or have no room.

use liveupdate_crds::LiveUpdateSpec;
use liveupdate_lab::vm::{Boot, Kit, Variant};
use liveupdate_lab_guest::Order;

use crate::bed::{Bed, ENOUGH, FAULT, NONE, Wanted};

const KEEPER: &str = "liveupdate-keeper";
/// What the holder's successors do wrong at first, and what they say then.
const DIES_WHEN_GRANTED: [&str; 2] = ["die-when-granted", "dies with its session granted"];
const DIES_BEFORE_RESUMED: [&str; 2] = ["die-before-resumed", "dies before it goes on"];

/// A guest whose holder's successors do wrong what stands in a file until the test says that they shall not.
async fn bed() -> Bed {
    let bundles = |kit: &Kit| vec![kit.bundle(Variant::Lu2).unwrap(), kit.bundle(Variant::Lu1).unwrap()];
    Bed::start(Wanted::told_each_time(), bundles).await
}

/// A guest that has jumped, and on which successors die.
async fn dying(bed: &Bed, number: usize, [how, says]: [&str; 2], change: fn(&mut LiveUpdateSpec)) -> Boot {
    let mark = bed.guest().serial().mark();
    bed.put(FAULT, how).await;
    bed.apply_with(&name(number), &bed.targets[number % 2], change).await;
    let says = format!("liveupdate-hold: {}: {says}", bed.hold.name);
    bed.guest().serial().wait_for_after(mark, &says, ENOUGH).await.unwrap();
    bed.guest().control().boot(number + 2, ENOUGH).await.unwrap()
}

fn name(number: usize) -> String {
    format!("real-{number}")
}

/// The successor of a successor has everything, and what was in custody ended once.
async fn is_followed_by_the_next(bed: &Bed, number: usize) {
    bed.put(FAULT, NONE).await;
    bed.await_success(&name(number)).await;
    assert!(bed.report().unbroken(bed.hold.seed), "jump {number}: {:?}", bed.report());
    assert_eq!(bed.said_times("made"), 1, "jump {number}: {:?}", bed.said());
    assert!(bed.said_times("dies") > number, "jump {number}: {:?}", bed.said());
    bed.delete(&name(number)).await;
}

fn soon(spec: &mut LiveUpdateSpec) {
    spec.deadlines.reclaim = "20s".parse().unwrap();
}

#[tokio::test]
async fn invariant_8_whoever_dies_after_the_jump_successor_or_keeper_is_followed_by_the_next() {
    let bed = bed().await;
    for (number, death) in [DIES_WHEN_GRANTED, DIES_BEFORE_RESUMED].into_iter().enumerate() {
        dying(&bed, number, death, |_| {}).await;
        is_followed_by_the_next(&bed, number).await;
    }
    dying(&bed, 2, DIES_WHEN_GRANTED, |_| {}).await;
    bed.node.order(KEEPER, Order::Kill).await.unwrap();
    is_followed_by_the_next(&bed, 2).await;
}

/// On a real kernel, too: the session is kept until the verb ends it, and whoever comes then finds nothing.
#[tokio::test]
async fn invariant_8_what_nobody_came_for_is_given_up_by_the_verb_and_the_next_holder_begins_anew() {
    let bed = bed().await;
    dying(&bed, 0, DIES_WHEN_GRANTED, soon).await;
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "Quarantined", "{record:#?}");
    bed.plugin(&["release", &bed.update_name(&name(0)), bed.node.name()]).await;
    let told = "an operator gave up the files";
    let record = bed.await_node("them given up", |status| status.last_failure.contains(told)).await;
    assert_eq!((record.state.as_str(), record.reason.as_str()), ("Failed", "Quarantined"), "{record:#?}");
    // It comes as ever, and begins as it did when the guest was made.
    bed.put(FAULT, NONE).await;
    bed.await_anew().await;
    assert_eq!(bed.said_times("resumed"), 0, "{:?}", bed.said());
}

#[tokio::test]
async fn a_keeper_killed_after_the_jump_whose_files_nobody_kept_says_so_and_claims_nothing() {
    let bed = bed().await;
    let after = dying(&bed, 0, DIES_WHEN_GRANTED, soon).await;
    bed.node.order(KEEPER, Order::Forget).await.unwrap();
    bed.put(FAULT, NONE).await;
    bed.guest().serial().wait_for("was lost when the keeper ended", ENOUGH).await.unwrap();
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "Quarantined", "{record:#?}");
    assert!(record.message.contains("lost: vm-a: "), "{record:#?}");
    // That it jumped is proven; that anybody got anything back is not said.
    assert_eq!((&record.kernel, &record.boot_id), (&after.release, &after.boot_id), "{record:#?}");
    assert_eq!(record.blackout, "", "{record:#?}");
    assert!(record.message.contains(&bed.hold.name), "{record:#?}");
    assert_eq!(bed.said_times("resumed"), 0, "{:?}", bed.said());
    let update = bed.update(&name(0)).await.status.unwrap_or_default();
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

    bed.put("/sys/fs/cgroup/system.slice/vm-a.service/memory.max", "64M").await;
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    assert_eq!(bed.said_times("made"), 1, "{:?}", bed.said());
}
