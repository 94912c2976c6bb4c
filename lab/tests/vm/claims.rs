//! Holders that claim what is not theirs.

use liveupdate_lab::vm::{Hold, Variant};
use liveupdate_lab_guest::Service;

use crate::bed::{Bed, ENOUGH, Wanted};

/// The reference holder, run by a service of that name.
fn service(service: &str, hold: &Hold) -> Service {
    Service { name: service.to_owned(), ..hold.service() }
}

/// One claims the name of another, before the jump and after it; the other one names a file that it does not hold.
#[tokio::test]
async fn holders_that_claim_what_is_not_theirs_are_refused_and_harm_nobody() {
    let bed = Bed::start(Wanted::holder(), |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    // After the holder that does no wrong has its name.
    let thief = service("thief", &Hold::new("vm-a"));
    let liar = service("vm-b", &Hold::new("vm-b").arg("--misbehave=declare-unheld"));
    bed.node
        .add_service(&bed.plane, &Default::default(), vec![bed.hold.service(), thief, liar])
        .await
        .unwrap();
    let serial = bed.guest().serial();
    serial.wait_for("a connection was refused: vm-a is process", ENOUGH).await.unwrap();
    serial.wait_for("liveupdate-hold: vm-b: refused: ", ENOUGH).await.unwrap();

    bed.apply("real", &bed.targets[0]).await;
    bed.await_success("real").await;
    // It asks again on the next kernel, where only the name's owner may.
    let theirs = "vm-a is the name of unit vm-a.service, and you are unit thief.service";
    serial.wait_for(theirs, ENOUGH).await.unwrap();
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    assert_eq!(bed.said_times("reclaimed"), 1, "{:?}", bed.said());
    assert!(!serial.transcript().contains("was believed"));
}
