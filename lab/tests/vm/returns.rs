//! What comes after the jump when nothing goes as it should: a kernel that hangs, a power cut, too little room.

use std::time::Duration;

use liveupdate_crds::LiveUpdateSpec;
use liveupdate_lab::vm::{Initrd, Kit, Reset, Variant};
use liveupdate_lab_guest::HANGS;

use crate::bed::{Bed, ENOUGH, Wanted};

/// A node is waited for no longer than that, where a test wants it to be given up.
const RETURN: &str = "20s";

#[tokio::test]
async fn a_next_kernel_that_hangs_is_said_not_to_have_returned_and_no_more_than_that_is_claimed() {
    let wanted = Wanted { guest: |options| options.reset = Reset::BootsAgain, ..Wanted::holder() };
    let bundles = |kit: &Kit| {
        let kernel = kit.kernels().kernel(Variant::Lu2).unwrap();
        let image = std::fs::read(kernel.image()).unwrap();
        let mut hanging = Initrd::new().unwrap();
        hanging.contents(HANGS.trim_start_matches('/'), 0o644, b"");
        let initrd = hanging.write(&kit.disk_folder().join("../hanging")).unwrap();
        let initrd = std::fs::read(initrd).unwrap();
        vec![kit.bundle_with("hangs", &kernel.release, &image, &initrd).unwrap()]
    };
    let bed = Bed::start(wanted, bundles).await;
    let before = bed.node.running().unwrap();
    let soon = |spec: &mut LiveUpdateSpec| spec.deadlines.r#return = RETURN.parse().unwrap();
    bed.apply_with("real", &bed.targets[0], soon).await;
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "DidNotReturn", "{record:#?}");
    // It did jump, and hangs there: nobody who looks from outside can know that, and nobody says so.
    bed.guest().serial().wait_for("lab-init: hangs", ENOUGH).await.unwrap();
    assert_eq!((&record.kernel, &record.boot_id), (&before.release, &before.boot_id), "{record:#?}");
    assert_eq!(record.blackout, "", "{record:#?}");
    assert!(!record.message.contains(&bed.targets[0].release), "{record:#?}");
    assert_eq!(bed.said_times("resumed"), 0, "{:?}", bed.said());

    // Somebody presses the button: the old kernel runs again, and the failure stays one.
    bed.guest().reset().await.unwrap();
    bed.guest().boot(2).await.unwrap();
    bed.guest().serial().wait_for("liveupdate-keeper: ready", ENOUGH).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let record = bed.await_node("the failure", |status| status.state == "Failed").await;
    assert_eq!((record.kernel.as_str(), record.reason.as_str()), (before.release.as_str(), "DidNotReturn"));
}

#[tokio::test]
async fn invariant_11_a_power_cut_right_after_success_takes_nothing_and_the_node_tells_which_kernel_runs() {
    let wanted = Wanted { guest: |options| options.reset = Reset::BootsAgain, ..Wanted::nobody() };
    let bed = Bed::start(wanted, |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    let before = bed.node.running().unwrap();
    bed.write_without_syncing("ours").await;
    bed.apply("real", &bed.targets[0]).await;
    bed.await_success("real").await;
    // No word to the guest: what it had not written to its disk is gone.
    bed.guest().reset().await.unwrap();

    let after = bed.guest().boot(3).await.unwrap();
    assert_eq!(after.release, before.release, "nothing made the new kernel the default");
    let record = bed.await_node("the boot that followed", |status| status.boot_id == after.boot_id).await;
    assert_eq!(record.kernel, after.release, "{record:#?}");
    // What was done stays done; that it has left the target is said.
    assert!(record.message.contains("it has booted another kernel since"), "{record:#?}");
    bed.assert_nothing_lost("ours").await;
}

#[tokio::test]
async fn a_bundle_that_does_not_fit_the_scratch_memory_blocks_the_node_and_says_by_how_much() {
    let wanted = Wanted {
        // The last one counts.
        guest: |options| options.append.push("kho_scratch=16M,8M,16M".into()),
        ..Wanted::holder()
    };
    let bed = Bed::start(wanted, |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    bed.apply("real", &bed.targets[0]).await;
    let record = bed.await_node("a block", |status| status.state == "Blocked").await;
    for found in ["KexecHandover", "scratch_len: ", "do not fit", "kho_scratch="] {
        assert!(record.message.contains(found), "{found}: {record:#?}");
    }
    bed.assert_undisturbed().await;
    assert_eq!(bed.said_times("quiesced"), 0);
    // It stays so: nobody tries whether it might fit after all.
    tokio::time::sleep(Duration::from_secs(5)).await;
    bed.assert_undisturbed().await;
}
