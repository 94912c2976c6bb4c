//! Holders that claim what is not theirs.

use liveupdate_lab::vm::{Hold, Variant};

use crate::bed::{Bed, ENOUGH, Wanted};

/// A second service that runs the reference holder, with arguments of its own.
async fn beside(service: &str, name: &str, args: &[&str]) -> Bed {
    let mut other = Hold::new(name);
    other.args = args.iter().map(|&arg| arg.to_owned()).collect();
    let mut other = other.service();
    other.name = service.to_owned();
    let bed = Bed::start(Wanted::holder(), |kit| vec![kit.bundle(Variant::Lu2).unwrap()]).await;
    // After the holder that does no wrong has its name.
    let services = vec![bed.hold.service(), other];
    bed.node.add_service(&bed.plane, &Default::default(), services).await.unwrap();
    bed
}

#[tokio::test]
async fn a_holder_that_claims_anothers_name_gets_nothing_before_the_jump_nor_after_it() {
    let bed = beside("thief", "vm-a", &[]).await;
    let serial = bed.guest().serial();
    serial.wait_for("a connection was refused: vm-a is process", ENOUGH).await.unwrap();
    bed.apply("real", &bed.targets[0]).await;
    bed.await_success("real").await;
    // It asks again on the next kernel, where only the name's owner may.
    let theirs = "vm-a is the name of unit vm-a.service, and you are unit thief.service";
    serial.wait_for(theirs, ENOUGH).await.unwrap();
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    assert_eq!(bed.said_times("reclaimed"), 1, "{:?}", bed.said());
}

#[tokio::test]
async fn a_holder_that_names_a_file_which_it_does_not_hold_is_refused_and_harms_nobody() {
    let bed = beside("vm-b", "vm-b", &["--misbehave=declare-unheld"]).await;
    bed.guest().serial().wait_for("liveupdate-hold: vm-b: refused: ", ENOUGH).await.unwrap();
    bed.apply("real", &bed.targets[0]).await;
    bed.await_success("real").await;
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    assert!(!bed.guest().serial().transcript().contains("was believed"));
}
