//! Devices that a holder has through VFIO, over a jump: what became of them by the node's word, and by the witness's.

use std::time::{Duration, SystemTime};

use liveupdate_crds::node::DeviceStatus;
use liveupdate_lab::vm::driver::Driven;
use liveupdate_lab::vm::passthrough::{Behind, Nvme};
use liveupdate_lab::vm::witness::Sight;
use liveupdate_lab::vm::{Kit, KitBundle, Variant};

use crate::bed::{Bed, Wanted};
use crate::passthrough::{Passthrough, RATE, preserve};

fn bundle(kit: &Kit, kernel: Variant) -> KitBundle {
    kit.driven_bundle(&Driven::new(kernel).unwrap()).unwrap()
}

async fn bed(passthrough: Passthrough) -> Bed {
    let wanted = Wanted { passthrough, ..Wanted::holder() };
    Bed::start(wanted, |kit| vec![bundle(kit, Variant::Lu2), bundle(kit, Variant::Lu1)]).await
}

/// When the console first said this after a mark.
async fn said(bed: &Bed, mark: usize, text: &str) -> SystemTime {
    bed.guest().serial().wait_for_after(mark, text, Duration::from_secs(1)).await.unwrap().wall
}

/// One update of a bed's only device: the node's word and what was seen of it from Quiesce to Resumed.
struct Seen {
    device: DeviceStatus,
    sight: Sight,
    /// Quiesce, the jump, the next kernel's first line, Resumed.
    moments: [SystemTime; 4],
}

async fn update(bed: &Bed, name: &str, target: &KitBundle, device: &Nvme) -> Seen {
    let mark = bed.guest().serial().mark();
    bed.apply_with(name, target, preserve).await;
    bed.await_success(name).await;
    let record = bed.await_node("the end", |status| status.state == "Updated").await;
    let found = record.devices.iter().find(|found| found.address == device.address).cloned();
    let found = found.unwrap_or_else(|| panic!("{}: {record:#?}", device.address));
    let hold = &bed.hold.name;
    let texts = [
        format!("liveupdate-hold: {hold}: quiesced"),
        "Starting new kernel".to_owned(),
        "Linux version".to_owned(),
        format!("liveupdate-hold: {hold}: resumed"),
    ];
    let mut moments = [SystemTime::UNIX_EPOCH; 4];
    for (moment, text) in moments.iter_mut().zip(&texts) {
        *moment = said(bed, mark, text).await;
    }
    let sight = bed.passed.sight(device, moments[0], moments[3]);
    let (outcome, facts) =
        (found.outcome.clone().unwrap_or_default(), found.facts.clone().unwrap_or_default());
    assert_eq!(sight.contradictions(&outcome, &facts), Vec::<String>::new(), "{found:#?}\n{sight:#?}");
    assert!(sight.saw_enumeration(), "the witness looked away: {sight:#?}");
    Seen { device: found, sight, moments }
}

fn uninterrupted(seen: &Seen) {
    assert_eq!(seen.device.outcome.as_deref(), Some("Uninterrupted"), "{:#?}", seen.device);
    assert!(seen.sight.cleared.is_empty() && seen.sight.resets == 0, "{:#?}", seen.sight);
    // In each part of the way the device went on writing.
    for (from, to) in seen.moments.iter().zip(&seen.moments[1..]) {
        let within = seen.sight.completions.iter().filter(|at| (from..to).contains(at)).count();
        assert!(within > 0, "no completion between {from:?} and {to:?}: {:?}", seen.sight.completions);
    }
    // Nothing but the throttle parts them.
    let gap = seen.sight.longest_gap().unwrap_or_default();
    assert!(gap < Duration::from_secs(3) / RATE, "a hole of {gap:?}: {:?}", seen.sight.completions);
}

#[tokio::test]
async fn an_nvme_without_iommu_goes_on_through_the_jump_and_its_witness_agrees() {
    let bed = bed(Passthrough::one()).await;
    let device = bed.passed.devices[0].clone();
    let seen = update(&bed, "real", &bed.targets[0], &device).await;
    println!("{:#?}\n{:#?}", seen.device, seen.sight);
    uninterrupted(&seen);
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

#[tokio::test]
async fn an_nvme_behind_a_switch_goes_on_ten_times_in_a_row() {
    let bed = bed(Passthrough { devices: vec![Behind::Switch], ..Passthrough::default() }).await;
    let device = bed.passed.devices[0].clone();
    for number in 0..10 {
        let name = format!("real-{number}");
        let seen = update(&bed, &name, &bed.targets[number % 2], &device).await;
        println!("{number}: {:?}", seen.device.facts);
        uninterrupted(&seen);
        assert!(bed.report().unbroken(bed.hold.seed), "{number}: {:?}", bed.report());
        bed.delete(&name).await;
    }
}

#[tokio::test]
async fn a_device_behind_an_iommu_stops_before_translation_does_and_nobody_says_more() {
    let bed = bed(Passthrough { iommu: true, ..Passthrough::one() }).await;
    let device = bed.passed.devices[0].clone();
    let seen = update(&bed, "real", &bed.targets[0], &device).await;
    println!("{:#?}\n{:#?}", seen.device, seen.sight);
    let outcome = seen.device.outcome.as_deref();
    assert_eq!(outcome, Some("Reinitialised"), "{:#?}", seen.device);
    // It was stopped before its addresses meant something else, so that no access was stopped.
    let stopped = seen.sight.cleared.first().map(|(at, _)| *at);
    let off = seen.sight.translation_off.first().copied();
    assert!(stopped.is_some() && off.is_some() && stopped < off, "{:#?}", seen.sight);
    assert_eq!(seen.sight.faults, Vec::<String>::new());
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}
