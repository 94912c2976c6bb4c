//! A LiveUpdate on the real control plane makes real kernels jump.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::time::Duration;

use liveupdate_crds::update::{Bundle, Target};
use liveupdate_crds::{Acknowledgement, LiveUpdate, LiveUpdatePolicySpec};
use liveupdate_lab::testbed::machines::{POOL, update};
use liveupdate_lab::vm::{Kit, KitBundle, NodePlace, Product, Variant};
use liveupdate_lab::{RunDir, Testbed, TestbedOptions};

/// A jump takes three seconds on an idle machine.
const ENOUGH: Duration = Duration::from_secs(240);

/// An update of all guests to a bundle that asks for nothing but the kernel.
fn to(bundle: &KitBundle) -> LiveUpdate {
    let mut update = update("real", &bundle.release);
    update.spec.acknowledge = vec![Acknowledgement::NoKdump];
    update.spec.devices.clear();
    update.spec.target = Target {
        release: bundle.release.clone(),
        bundle: Bundle { name: bundle.name.clone(), digest: bundle.digest.clone() },
    };
    update
}

/// Guests have no room for a crash kernel after a live update.
fn policy() -> LiveUpdatePolicySpec {
    LiveUpdatePolicySpec {
        allowed_acknowledgements: vec![Acknowledgement::NoKdump],
        ..LiveUpdatePolicySpec::default()
    }
}

fn place(index: u8) -> NodePlace {
    NodePlace::new(index, format!("vm-{:02}", index + 1)).label(POOL.0, POOL.1)
}

#[tokio::test]
async fn a_guest_that_holds_nothing_jumps_into_the_next_kernel() {
    let folder = RunDir::create().unwrap();
    let kit = Kit::new(folder.path()).unwrap();
    let target = kit.bundle(Variant::Lu2).unwrap();
    let mut bed = Testbed::start(TestbedOptions::default(), Vec::new()).await.unwrap();
    bed.start_controller().await.unwrap();
    bed.apply_policy(policy()).await.unwrap();
    let node = kit.node(&bed, place(0), &Product::default()).await.unwrap();
    let before = node.running().unwrap();

    bed.apply_update(&to(&target)).await.unwrap();
    let done = bed.await_success("real", ENOUGH).await;
    let done = done.map_err(|error| format!("{error}\n{}", node.guest().serial().transcript())).unwrap();

    let after = node.running().unwrap();
    assert_eq!((before.number, after.number), (1, 2));
    assert!(before.release.ends_with("-lu1") && after.release == target.release, "{before:?} {after:?}");
    assert_ne!(before.boot_id, after.boot_id);
    let record = bed.node_update("vm-01").await.unwrap().status.unwrap();
    assert_eq!(
        (record.state.as_str(), &record.kernel, &record.boot_id),
        ("Updated", &after.release, &after.boot_id)
    );
    assert!(!record.blackout.contains("simulated"), "{}", record.blackout);
    drop(done);
}
