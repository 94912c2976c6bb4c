//! Faults on a device's way: attempts that are undone, successors that die, and what others do to it behind its holder's
//! back.

use std::time::SystemTime;

use liveupdate_crds::NodeLiveUpdateStatus;
use liveupdate_lab::vm::witness::Sight;
use liveupdate_lab::vm::{PATIENCE, updates};

use crate::aborts::aborted_with_commands_on_their_way;
use crate::bed::{Bed, ENOUGH, FAULT, INIT, NONE, told_by_file};
use crate::cadence::no_hole;
use crate::devices::{bed, seen, uninterrupted, update};
use crate::passthrough::{SLOW, three};
use crate::summary::whole;

/// Once because the holder comes too late; once because the kernel refuses the second of three devices when the first one is
/// frozen already; and once because the keeper sees that one asleep, and does not even ask the kernel.
async fn undone_with_commands_on_their_way(bed: &Bed) {
    let (mark, from) = (bed.guest().serial().mark(), SystemTime::now());
    bed.put(FAULT, "answer-late").await;
    bed.apply_with("undone", &bed.targets[0], updates::preserve_devices).await;
    bed.await_node("an attempt that is undone", |status| status.aborts >= 1).await;
    // At once: it would be tried again until it is blocked.
    bed.delete("undone").await;
    whole(bed, mark).await;

    bed.put(FAULT, "keep-interrupts").await;
    let mark = bed.guest().serial().mark();
    bed.apply_with("frozen", &bed.targets[0], updates::preserve_devices).await;
    refused(bed, "frozen").await;
    let second = &bed.passed.devices[1].address;
    let frozen = format!("{second}: live update: interrupts are still on");
    bed.guest().serial().wait_for_after(mark, &frozen, ENOUGH).await.unwrap();
    worked_through_a_refused_freeze(bed, mark).await;

    bed.put(FAULT, "sleep-device").await;
    bed.apply_with("asleep", &bed.targets[0], updates::preserve_devices).await;
    let record = refused(bed, "asleep").await;
    bed.put(FAULT, NONE).await;
    assert!(record.message.contains("its power state is D3hot, not D0"), "{record:#?}");
    assert!(record.message.contains(second), "{record:#?}");
    for sight in went_on(bed, from).await {
        assert_eq!(sight.signals, Some(true), "{sight:#?}");
    }
}

/// The first device was frozen and let go again: neither has cost it a command's turn.
async fn worked_through_a_refused_freeze(bed: &Bed, mark: usize) {
    let moment =
        async |text: &str| bed.guest().serial().wait_for_after(mark, text, ENOUGH).await.unwrap().wall;
    let hold = &bed.hold.name;
    let stood = moment(&format!("liveupdate-hold: {hold}: quiesced")).await;
    let resumed = moment(&format!("liveupdate-hold: {hold}: resumed")).await;
    let sight = bed.passed.sight(&bed.passed.devices[0], stood, resumed).unwrap();
    no_hole(&sight, SLOW, stood, resumed);
}

/// An update that is under way ends at the jump, and nothing is lost. Gives the node's word.
async fn refused(bed: &Bed, name: &str) -> NodeLiveUpdateStatus {
    let (mark, update) = (bed.guest().serial().mark(), bed.update_name(name));
    let failed = |status: &NodeLiveUpdateStatus| status.update_name == update && status.state == "Failed";
    let record = bed.await_node("a failure", failed).await;
    assert_eq!(record.reason, "KernelRefused", "{record:#?}");
    whole(bed, mark).await;
    bed.delete(name).await;
    record
}

/// The same kernel runs, and no device has stopped since that moment. Gives what was seen of each.
pub(crate) async fn went_on(bed: &Bed, since: SystemTime) -> Vec<Sight> {
    bed.assert_undisturbed().await;
    let sight = |device| bed.passed.sight(device, since, SystemTime::now()).unwrap();
    let all: Vec<Sight> = bed.passed.devices.iter().map(sight).collect();
    for sight in &all {
        assert!(sight.cleared.is_empty() && sight.resets == 0 && sight.errors.is_empty(), "{sight:#?}");
        assert!(!sight.completions.is_empty(), "{sight:#?}");
    }
    all
}

/// Somebody takes the update back before all holders have said that their files can be taken.
async fn deleted_while_a_holder_is_preserved(bed: &Bed) {
    let (mark, since) = (bed.guest().serial().mark(), SystemTime::now());
    bed.put(FAULT, "not-ready").await;
    bed.apply_with("early", &bed.targets[0], updates::preserve_devices).await;
    bed.guest().serial().wait_for_after(mark, "vm-a: is not ready", ENOUGH).await.unwrap();
    bed.delete("early").await;
    assert_eq!((bed.said_times("preserved"), bed.said_times("quiesced")), (0, 0), "{:?}", bed.said());
    bed.put(FAULT, NONE).await;
    // It learns that nothing comes of it, and says that it was ready all the same.
    bed.await_line("preserved").await;
    went_on(bed, since).await;
}

/// Somebody takes the update back while the machine waits for a process that does not end: the devices are preserved,
/// and nobody has stopped yet.
async fn deleted_while_the_machine_settles(bed: &Bed) {
    let (mark, since) = (bed.guest().serial().mark(), SystemTime::now());
    bed.guest().control().start(INIT, &["stubborn"], PATIENCE).await.unwrap();
    let says = async |text: &str| bed.guest().serial().wait_for_after(mark, text, ENOUGH).await.unwrap();
    says("lab-init: does not end when it is asked to").await;
    bed.apply_with("deleted", &bed.targets[0], updates::preserve_devices).await;
    says("settle: processes").await;
    bed.delete("deleted").await;
    assert_eq!((bed.said_times("preserved"), bed.said_times("quiesced")), (2, 0), "{:?}", bed.said());
    for sight in went_on(bed, since).await {
        assert_eq!(sight.signals, None, "nobody was told to stop: {sight:#?}");
    }
}

/// An update whose successors do this wrong, until one of them has said so; gives the console's mark of before.
async fn successors_that(bed: &Bed, name: &str, fault: &str, says: &str) -> usize {
    let mark = bed.guest().serial().mark();
    bed.put(FAULT, fault).await;
    bed.apply_with(name, &bed.targets[0], updates::preserve_devices).await;
    let says = format!("liveupdate-hold: {}: {says}", bed.hold.name);
    bed.guest().serial().wait_for_after(mark, &says, ENOUGH).await.unwrap();
    mark
}

/// It had taken both out, bound and attached them: the next one goes on with what it left.
async fn taken_over_by_the_next_successor(bed: &Bed) {
    let mark = successors_that(bed, "next", "die-before-resumed", "dies before it goes on").await;
    bed.put(FAULT, NONE).await;
    bed.await_success("next").await;
    uninterrupted(&seen(bed, "next", mark).await);
    whole(bed, mark).await;
    bed.delete("next").await;
}

/// By the call that VMMs make by habit: it is refused.
async fn reset_by_its_holder(bed: &Bed) {
    let mark = bed.guest().serial().mark();
    bed.put(FAULT, "reset-device").await;
    uninterrupted(&update(bed, "habit", &bed.targets[1]).await);
    bed.put(FAULT, NONE).await;
    for device in &bed.passed.devices {
        let refused = format!("device {} could not be reset: ", device.address);
        bed.guest().serial().wait_for_after(mark, &refused, ENOUGH).await.unwrap();
    }
    whole(bed, mark).await;
    bed.delete("habit").await;
}

/// While nobody has them: one is gone when it is asked for, one is not what it was, and the third goes on beside them.
async fn removed_and_reset_by_others(bed: &Bed) {
    let mark = successors_that(bed, "others", "die-when-granted", "dies with its session granted").await;
    let [removed, reset, _] = bed.passed.devices.as_slice() else { panic!("three devices") };
    bed.put(&format!("/sys/bus/pci/devices/{}/remove", removed.address), "1").await;
    bed.put(&format!("/sys/bus/pci/devices/{}/reset", reset.address), "1").await;
    bed.put(FAULT, NONE).await;
    let seen = seen(bed, "others", mark).await;
    let words: Vec<_> = seen.devices.iter().map(|(device, _)| device.outcome.as_deref()).collect();
    assert_eq!(words, [Some("Lost"), Some("Reinitialised"), Some("Uninterrupted")], "{:#?}", seen.devices);
    let (reset, sight) = &seen.devices[1];
    assert!(reset.facts.as_deref().unwrap_or_default().contains("reset=detected"), "{reset:#?}");
    assert!(sight.resets > 0, "{sight:#?}");
    // What it held beside them is whole.
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

#[tokio::test]
async fn devices_go_on_when_attempts_are_undone_and_successors_die_and_are_said_to_be_lost_or_reset_when_they_are()
 {
    let bed = bed(three(), &[&told_by_file(), "--depth=16"]).await;
    deleted_while_a_holder_is_preserved(&bed).await;
    deleted_while_the_machine_settles(&bed).await;
    aborted_with_commands_on_their_way(&bed).await;
    undone_with_commands_on_their_way(&bed).await;
    taken_over_by_the_next_successor(&bed).await;
    reset_by_its_holder(&bed).await;
    removed_and_reset_by_others(&bed).await;
}

/// Nobody took them out, and they write on into memory that is kept for that: by the verb they are stopped and reset, and the
/// kernel ends their session.
#[tokio::test]
async fn devices_that_nobody_came_for_are_stopped_by_the_verb_and_their_session_ends() {
    let bed = bed(three(), &["--misbehave=die-when-granted"]).await;
    let mark = bed.guest().serial().mark();
    bed.apply_with("nobody", &bed.targets[0], |spec| {
        updates::preserve_devices(spec);
        spec.deadlines.reclaim = "20s".parse().unwrap();
    })
    .await;
    let granted = bed.guest().serial().wait_for_after(mark, "dies with its session granted", ENOUGH);
    let since = granted.await.unwrap().wall;
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "Quarantined", "{record:#?}");
    let sight = |device| bed.passed.sight(device, since, SystemTime::now()).unwrap();
    for device in &bed.passed.devices {
        assert_eq!(
            (sight(device).resets, sight(device).cleared.len()),
            (0, 0),
            "it goes on for whoever comes"
        );
    }
    bed.plugin(&["release", &bed.update_name("nobody"), bed.node.name()]).await;
    let told = "an operator gave up the files";
    bed.await_node("them given up", |status| status.last_failure.contains(told)).await;
    for device in &bed.passed.devices {
        let given_up = format!("{}: live update: given up; it is stopped and reset", device.address);
        bed.guest().serial().wait_for_after(mark, &given_up, ENOUGH).await.unwrap();
        let sight = sight(device);
        assert!(sight.resets > 0 && !sight.cleared.is_empty(), "{sight:#?}");
    }
    let console = bed.guest().serial().transcript();
    assert!(!console.contains("Unable to finish session"), "{console}");
}
