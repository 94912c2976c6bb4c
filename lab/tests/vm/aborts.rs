//! The verb `abort` with commands on their way: while the target is staged, when the machine has settled, and when a holder is
//! already told to stop. Each time the node stays where it is, and no device notices.

use std::time::SystemTime;

use liveupdate_crds::LiveUpdateSpec;
use liveupdate_lab::vm::updates;

use crate::bed::{Bed, ENOUGH, FAULT, NONE};
use crate::device_faults::went_on;
use crate::summary::whole;

async fn abort(bed: &Bed, name: &str) {
    bed.plugin(&["abort", &bed.update_name(name)]).await;
}

async fn apply(bed: &Bed, name: &str) {
    bed.apply_with(name, &bed.targets[0], |spec: &mut LiveUpdateSpec| {
        updates::preserve_devices(spec);
        // Two thirds of it are for the verb to get there.
        spec.deadlines.quiesce = "12s".parse().unwrap();
    })
    .await;
}

/// The update is over without a jump, and nothing of it is left on the node.
async fn over(bed: &Bed, name: &str) {
    let update = bed.update_name(name);
    let aborted = bed.plane.await_update(&update, "aborted", ENOUGH, |status| {
        status.state == "Aborted" && status.in_flight.is_empty()
    });
    let status = aborted.await.unwrap().status.unwrap_or_default();
    let counts = (status.counts.updated, status.counts.failed);
    assert_eq!(counts, (0, 0), "{status:#?}\n{}", bed.guest().transcript());
    let record = bed.await_node("an attempt that is undone", |status| status.state == "Idle").await;
    println!("{name}: {} {:?}", record.reason, record.last_failure);
    bed.delete(name).await;
}

/// Nobody has preserved anything yet.
async fn while_it_is_staged(bed: &Bed) {
    let since = SystemTime::now();
    let preserved = bed.said_times("preserved");
    apply(bed, "staged").await;
    let update = bed.update_name("staged");
    let begun = bed.plane.await_update(&update, "begun", ENOUGH, |status| !status.in_flight.is_empty());
    begun.await.unwrap();
    abort(bed, "staged").await;
    over(bed, "staged").await;
    assert_eq!(bed.said_times("preserved"), preserved, "{:?}", bed.said());
    for sight in went_on(bed, since).await {
        assert_eq!(sight.signals, None, "nobody was told to stop: {sight:#?}");
    }
}

/// All is preserved, bystanders are gone, and the holder is told to stop or about to be; it takes its time. That it has
/// stopped in the end, and that the permission to jump was there, changes nothing.
async fn after(bed: &Bed, name: &str, said: &str) {
    let (mark, since) = (bed.guest().serial().mark(), SystemTime::now());
    bed.put(FAULT, "stop-slowly").await;
    apply(bed, name).await;
    bed.guest().serial().wait_for_after(mark, said, ENOUGH).await.unwrap();
    abort(bed, name).await;
    over(bed, name).await;
    bed.put(FAULT, NONE).await;
    let lines = bed.guest().serial().lines();
    let settled = lines.iter().skip(mark).any(|line| line.text.ends_with("] settled"));
    assert!(settled, "{}", bed.guest().transcript());
    if lines.iter().skip(mark).any(|line| line.text.contains("vm-a: quiesced")) {
        whole(bed, mark).await;
    }
    went_on(bed, since).await;
}

/// What was lost would be counted by the last `whole` for all of them.
pub(crate) async fn aborted_with_commands_on_their_way(bed: &Bed) {
    // Built before anybody waits for it.
    bed.plugin(&["--help"]).await;
    while_it_is_staged(bed).await;
    after(bed, "settled", "] settled").await;
    after(bed, "stopping", "vm-a: stops slowly").await;
}
