//! The tests of devices can fail: a driver that does one thing wrong gets a lower word, and the witness sees what it did.

use liveupdate_lab::vm::driver::Driven;
use liveupdate_lab::vm::witness::Sight;
use liveupdate_lab::vm::{Kit, KitBundle, Variant};

use crate::bed::{Bed, Wanted};
use crate::devices::{uninterrupted, update};
use crate::passthrough::one;

/// What is wrong (`lab/driver/spoilt.patch`), and what the node has to say of the device then.
const WRONGS: [(&str, &str); 5] = [
    ("gap", "dma=stopped"),
    ("unseen-gaps", "state=unknown"),
    ("reset", "reset=detected"),
    ("interrupts", "interrupts=lost"),
    // Only the kernel that comes after it pays for that.
    ("shutdown", "interrupts=relatched("),
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
            WRONGS.iter().zip(kernels).map(|((how, _), kernel)| Driven::spoilt(kernel, how).unwrap());
        let all = spoilt.chain([Driven::new(Variant::Lu1).unwrap()]);
        all.map(|driven| kit.driven_bundle(&driven).unwrap()).collect()
    };
    let bed = Bed::start(wanted, bundles).await;
    for ((how, fact), target) in WRONGS.iter().zip(&bed.targets) {
        let seen = update(&bed, how, target).await;
        let [(device, sight)] = seen.devices.as_slice() else { panic!("one device") };
        let facts = device.facts.clone().unwrap_or_default();
        assert!(facts.contains(fact), "{how}: {device:#?}\n{sight:#?}");
        if *how == "shutdown" {
            // The same module when nothing is wrong yet: it is the fault that costs the word.
            uninterrupted(&seen);
        } else {
            assert_eq!(device.outcome.as_deref(), Some("Reinitialised"), "{how}: {device:#?}\n{sight:#?}");
            sees(how, sight);
        }
        bed.delete(how).await;
    }
    let seen = update(&bed, "after-shutdown", &bed.targets[WRONGS.len()]).await;
    let [(device, sight)] = seen.devices.as_slice() else { panic!("one device") };
    assert_eq!(device.outcome.as_deref(), Some("Reinitialised"), "{device:#?}\n{sight:#?}");
    // The device and the root port above it, and what it could not write from then on.
    assert!(sight.cleared.len() >= 2 && !sight.errors.is_empty(), "{sight:#?}");
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
}
