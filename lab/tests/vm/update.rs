//! A LiveUpdate on the real control plane makes real kernels jump.

use liveupdate_lab::vm::{Variant, phases};

use crate::bed::{Bed, Wanted};
use crate::matrix::{self, Row};

#[tokio::test]
async fn a_guest_that_holds_nothing_jumps_into_the_next_kernel() {
    let bed = Bed::start(Wanted::nobody(), |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    let target = &bed.targets[0];
    let before = bed.node.running().unwrap();

    bed.apply("real", target).await;
    bed.await_success("real").await;

    let after = bed.node.running().unwrap();
    assert_eq!((before.number, after.number), (1, 2));
    assert!(before.release.ends_with("-lu1") && after.release == target.release, "{before:?} {after:?}");
    assert_ne!(before.boot_id, after.boot_id);
    let record = bed.await_node("the end", |status| status.state == "Updated").await;
    assert_eq!((&record.kernel, &record.boot_id), (&after.release, &after.boot_id));
    assert!(!record.blackout.contains("simulated"), "{}", record.blackout);
}

#[tokio::test]
async fn a_holders_memory_and_counter_come_through_the_jump_unbroken() {
    let bed = Bed::start(Wanted::holder(), |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;

    let before = bed.release();
    bed.apply("real", &bed.targets[0]).await;
    bed.await_success("real").await;

    let after = bed.node.running().unwrap();
    assert_eq!((after.number, &after.release), (2, &bed.targets[0].release));
    let report = bed.report();
    assert!(report.unbroken(bed.hold.seed), "{report:?}\n{}", bed.guest().transcript());
    let kernels = [before.as_str(), after.release.as_str()];
    matrix::shows(&[Row { kernels, iommu: "none", held: "memory alone", best: "goes on" }]);
    let phases = phases::of_last_jump(&bed.guest().serial().lines());
    println!("{phases:#?}");
    assert!(phases.whole.is_some(), "{phases:?}");
    assert!(phases.each.iter().all(|(_, took)| took.is_some()), "{phases:?}");
}
