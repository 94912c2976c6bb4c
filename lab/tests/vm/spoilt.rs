//! The tests of devices can fail: a driver that does one thing wrong gets a lower word, and the witness sees what it did.

use liveupdate_lab::vm::driver::Driven;
use liveupdate_lab::vm::witness::Sight;
use liveupdate_lab::vm::{Kit, KitBundle, Variant, updates};

use crate::bed::{Bed, ENOUGH, Wanted};
use crate::devices::{uninterrupted, update};
use crate::passthrough::one;

/// What is wrong (`lab/driver/spoilt.patch`), what the node has to say of the device then, and why, among other things.
const WRONGS: [(&str, &str, &str); 5] = [
    ("gap", "dma=stopped", "bus mastering cleared"),
    ("unseen-gaps", "state=unknown", "holder's state check failed"),
    ("reset", "reset=detected", "resets"),
    ("interrupts", "interrupts=lost", "holder's interrupts check failed"),
    // Only the kernel that comes after it pays for that.
    ("shutdown", "interrupts=relatched(", ""),
];

/// The witness's word on the same.
fn sees(how: &str, sight: &Sight) {
    let cleared = !sight.cleared.is_empty();
    match how {
        "gap" | "unseen-gaps" => assert!(cleared, "{sight:#?}"),
        "reset" => assert!(cleared && sight.resets > 0, "{sight:#?}"),
        "interrupts" => assert!(!cleared && sight.resets == 0 && sight.signals == Some(false), "{sight:#?}"),
        _ => unreachable!("{how}"),
    }
}

/// Among them are the three controls that failed in the experiment before the driver: a kernel that turns bus mastering off
/// when it ends, a first open that resets, and one that only turns bus mastering off for a while.
#[tokio::test]
async fn a_driver_that_does_wrong_gets_a_lower_word_and_the_witness_sees_what_it_did() {
    let wanted = Wanted { passthrough: one(), ..Wanted::holder() };
    let bundles = |kit: &Kit| -> Vec<KitBundle> {
        let kernels = [Variant::Lu2, Variant::Lu1].into_iter().cycle();
        let spoilt =
            WRONGS.iter().zip(kernels).map(|((how, ..), kernel)| Driven::spoilt(kernel, how).unwrap());
        let all = spoilt.chain([Driven::new(Variant::Lu1).unwrap()]);
        all.map(|driven| kit.driven_bundle(&driven).unwrap()).collect()
    };
    let bed = Bed::start(wanted, bundles).await;
    for ((how, fact, why), target) in WRONGS.iter().zip(&bed.targets) {
        let seen = update(&bed, how, target).await;
        let [(device, sight)] = seen.devices.as_slice() else { panic!("one device") };
        let facts = device.facts.clone().unwrap_or_default();
        assert!(facts.contains(fact), "{how}: {device:#?}\n{sight:#?}");
        if *how == "shutdown" {
            // The same module when nothing is wrong yet: it is the fault that costs the word.
            uninterrupted(&seen);
        } else {
            assert_eq!(device.outcome.as_deref(), Some("Reinitialised"), "{how}: {device:#?}\n{sight:#?}");
            let evidence = device.evidence.as_deref().unwrap_or_default();
            assert!(evidence.contains(why), "{how}: {why:?} is not in {device:#?}");
            sees(how, sight);
        }
        bed.delete(how).await;
    }
    let seen = update(&bed, "after-shutdown", &bed.targets[WRONGS.len()]).await;
    let [(device, sight)] = seen.devices.as_slice() else { panic!("one device") };
    assert_eq!(device.outcome.as_deref(), Some("Reinitialised"), "{device:#?}\n{sight:#?}");
    let evidence = device.evidence.as_deref().unwrap_or_default();
    for why in
        ["bus mastering cleared", "holder's dma check failed", "holder's state check failed", "csts=0x2"]
    {
        assert!(evidence.contains(why), "{why:?} is not in {device:#?}");
    }
    // The device and the root port above it, and what it could not write from then on.
    assert!(sight.cleared.len() >= 2 && !sight.errors.is_empty(), "{sight:#?}");
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}

/// Nothing can be taken out of such a kernel until it is booted again: the memory that came stays where it is, and the device
/// goes on writing there. That is said, and no more.
#[tokio::test]
async fn a_driver_that_comes_after_the_first_open_leaves_all_where_it_is_and_nobody_claims_more() {
    let wanted = Wanted { passthrough: one(), ..Wanted::holder() };
    let unserved =
        |kit: &Kit| vec![kit.driven_bundle(&Driven::spoilt(Variant::Lu2, "unserved").unwrap()).unwrap()];
    let bed = Bed::start(wanted, unserved).await;
    bed.apply_with("real", &bed.targets[0], |spec| {
        updates::preserve_devices(spec);
        spec.deadlines.reclaim = "20s".parse().unwrap();
    })
    .await;
    let record = bed.await_node("a failure", |status| status.state == "Failed").await;
    assert_eq!(record.reason, "WrongKernel", "{record:#?}");
    assert!(record.message.contains("the attempt's nonce did not come back"), "{record:#?}");
    assert_eq!(record.kernel, bed.targets[0].release, "{record:#?}");
    let device = record.devices.iter().find(|device| device.address == bed.passed.devices[0].address);
    assert_eq!(device.and_then(|device| device.outcome.as_deref()), Some("Lost"), "{record:#?}");
    assert_eq!(record.blackout, "", "{record:#?}");
    // The keeper tells on the same console what it cannot take: in the middle of this line, at times.
    let unknown = "luo: No registered handler for compatible 'liveupdate.dev/vfio-pci-v1'";
    bed.guest().serial().wait_for(unknown, ENOUGH).await.unwrap();
    assert_eq!((bed.said_times("reclaimed"), bed.said_times("resumed")), (0, 0), "{:?}", bed.said());
    let update = bed.update("real").await.status.unwrap_or_default();
    assert_eq!(update.counts.updated, 0, "{update:#?}");
}
