//! An update that is deleted leaves nothing behind.

use liveupdate_crds::{FINALIZER, LiveUpdate};
use liveupdate_host::simulated::{Durations, Pace, WorldSpec};
use liveupdate_lab::testbed::machines::{NEW, OLD};
use liveupdate_lab::wait::{Answer, until};

use crate::bed::{Bed, SOON, alone, is_clean, is_marked, run, says};

/// The first node jumps for three seconds, the second one prepares until it is told to stop.
fn at_two_speeds(number: u16, world: &mut WorldSpec) {
    world.pace = Pace::Real;
    world.durations = match number {
        1 => Durations { jump: 3_000, ..Durations::default() },
        _ => Durations { preserve: 120_000, ..Durations::default() },
    };
}

#[test]
fn what_has_not_jumped_is_undone_and_what_has_finishes() {
    run(async |bed| {
        let pool = bed.pool("deleted", 3, at_two_speeds).await;
        let boots: Vec<_> = [2, 3].map(|n| pool.node(n).world().running().unwrap()).into();
        pool.roll(|_| {}).await;
        pool.off(1).await;
        for number in [2, 3] {
            pool.prepares(number).await;
        }
        bed.kubectl("delete lu deleted --wait=false").await;
        bed.gone("deleted").await;

        for number in 1..=3 {
            bed.node(&pool.name_of(number), "clean", is_clean).await;
        }
        assert_eq!(pool.node(1).world().running().unwrap().unwrap().release, NEW);
        for (number, boot) in [2, 3].into_iter().zip(boots) {
            assert_eq!(pool.node(number).world().running().unwrap(), boot, "the same boot");
            let record = pool.stands(number, "Idle", "Idle").await;
            assert_eq!((record.kernel.as_str(), record.update_name.as_str()), (OLD, ""));
        }
        // What it got is kept until another update writes over it.
        pool.stands(1, "Updated", "Updated").await;
        says(
            &bed.kubectl("get nlu deleted-1 deleted-2").await,
            &["deleted-1 7.3.5-lu2 Updated Updated 1/1 preserved", "deleted-2 7.3.4-lu1 Idle Idle"],
        );
        let events = bed.kubectl("get events -A --field-selector involvedObject.name=deleted-2").await;
        says(&events, &["Warning Aborted"]);
    });
}

/// Once with the update still waiting for us, once with its finalizer torn off, so that only the marks are
/// left of it.
#[test]
fn a_controller_that_starts_after_the_deletion_cleans_up() {
    alone(async {
        let mut bed = Bed::start().await;
        bed.bed.start_controller().await.unwrap();
        let slow = |_: u16, world: &mut WorldSpec| at_two_speeds(2, world);
        let mut fleets = Vec::new();
        for name in ["waits", "torn"] {
            let pool = bed.pool(name, 1, slow).await;
            pool.roll(|_| {}).await;
            pool.prepares(1).await;
            fleets.push(pool.fleet);
        }
        bed.bed.controller(0).unwrap().kill().unwrap();
        bed.kubectl("delete lu waits torn --wait=false").await;
        bed.kubectl(r#"patch lu torn --type=merge -p {"metadata":{"finalizers":null}}"#).await;
        bed.gone("torn").await;
        let waits = bed.kubectl("get lu waits").await;
        says(&waits, &["waits 7.3.5-lu2"]);
        for node in ["waits-1", "torn-1"] {
            assert!(is_marked(&bed.bed.node(node).await.unwrap()), "nobody is there to clean up");
            let described = bed.kubectl(&format!("describe node {node}")).await;
            says(&described, &["liveupdate.dev/updating="]);
        }

        bed.bed.restart_controller(0).unwrap();
        bed.gone("waits").await;
        for node in ["waits-1", "torn-1"] {
            bed.node(node, "clean", is_clean).await;
            let idle = bed.bed.await_node_update(node, "Idle", SOON, |s| s.state == "Idle").await.unwrap();
            assert_eq!(idle.status.unwrap().kernel, OLD);
        }
    });
}

async fn finalizers(bed: &Bed, update: &str) -> Vec<String> {
    let found = bed.bed.all::<LiveUpdate>().get_metadata(update).await.unwrap();
    found.metadata.finalizers.unwrap_or_default()
}

/// Without any node in flight nobody need wait for a controller that is away.
#[test]
fn an_update_has_our_finalizer_from_its_first_admission_until_nothing_is_in_flight() {
    run(async |bed| {
        let pool = bed.pool("kept", 1, |_, world| at_two_speeds(1, world)).await;
        pool.roll(|update| update.spec.paused = true).await;
        bed.update("kept", "accepted, and nothing begun", |status| status.state == "Paused").await;
        assert_eq!(finalizers(bed, "kept").await, Vec::<String>::new(), "before the first admission");

        bed.kubectl(r#"patch lu kept --type=merge -p {"spec":{"paused":false}}"#).await;
        pool.off(1).await;
        assert_eq!(finalizers(bed, "kept").await, [FINALIZER], "in flight");

        bed.success("kept").await;
        until("the end of the finalizer", SOON, async || {
            let left = finalizers(bed, "kept").await;
            Ok(if left.is_empty() { Answer::Yes(()) } else { Answer::not_yet(left.join(" ")) })
        })
        .await
        .unwrap();
        bed.node(&pool.name_of(1), "clean", is_clean).await;
    });
}
