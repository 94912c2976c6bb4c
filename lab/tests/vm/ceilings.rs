//! What a node says beforehand: the best that each of its devices could get, and that it refuses whoever asks for more.

use liveupdate_crds::{Continuity, NodeLiveUpdateStatus};
use liveupdate_lab::vm::{KitBundle, updates};

use crate::bed::Bed;
use crate::device_targets::{blocked, evidence};

/// Each device could get this, and nothing better.
fn all_have(bed: &Bed, status: &NodeLiveUpdateStatus, wanted: Continuity) -> bool {
    let ceiling = |address: &str| {
        let device = status.devices.iter().find(|device| device.address == address);
        device.and_then(|device| device.ceiling)
    };
    bed.passed.watched().all(|device| ceiling(device.address) == Some(wanted))
}

/// Before anybody asks for an update.
pub(crate) async fn are(bed: &Bed, wanted: Continuity) {
    let what = format!("a ceiling of {wanted:?} for each device");
    bed.await_node(&what, |status| status.update_name.is_empty() && all_have(bed, status, wanted)).await;
}

/// To this target, by what an update in earnest would meet; nothing is begun.
pub(crate) async fn are_for(bed: &Bed, target: &KitBundle, wanted: Continuity) {
    let name = "verdicts";
    bed.apply_with(name, target, |spec| {
        updates::preserve_devices(spec);
        spec.strategy.dry_run = true;
    })
    .await;
    let update = bed.update_name(name);
    let preserved = |status: &NodeLiveUpdateStatus, address: &str| {
        let device = status.devices.iter().find(|device| device.address == address);
        device.is_some_and(|device| device.verdict.as_deref() == Some("Preserved"))
    };
    let judged = |status: &NodeLiveUpdateStatus| {
        status.update_name == update && bed.passed.watched().all(|device| preserved(status, device.address))
    };
    let record = bed.await_node("verdicts", judged).await;
    assert!(all_have(bed, &record, wanted), "{record:#?}");
    bed.delete(name).await;
    assert_eq!((bed.said_times("preserved"), bed.said_times("quiesced")), (0, 0), "{:?}", bed.said());
}

/// Behind an IOMMU: an update that asks for more is refused before anything stops, in the words of the gate that stands
/// against it.
pub(crate) async fn more_is_refused(bed: &Bed, target: &KitBundle, possible: Continuity) {
    let more = |spec: &mut liveupdate_crds::LiveUpdateSpec| {
        spec.devices.iter_mut().for_each(|rule| rule.minimum_continuity = Some(Continuity::Uninterrupted));
    };
    let record = blocked(bed, "more", target, more).await;
    assert_eq!(record.reason, "ContinuityShortfall", "{record:#?}");
    let short = format!("Uninterrupted is asked for by the team, {possible:?} is possible: gate ");
    assert!(record.message.contains(&short), "{record:#?}");
    let why = evidence(&record, "IommuStatePreserved");
    assert!(why.contains("the kernel turns translation off when it jumps"), "{record:#?}");
    assert!(all_have(bed, &record, possible), "{record:#?}");
    bed.assert_undisturbed().await;
    assert_eq!((bed.said_times("preserved"), bed.said_times("quiesced")), (0, 0), "{:?}", bed.said());
}
