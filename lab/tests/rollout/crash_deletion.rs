//! Invariant 6 where an update is deleted in the middle: a controller that dies just before or just after any write
//! that follows, and is started again, leaves nothing of the update.

use std::time::Instant;

use liveupdate_crds::{IntOrPercent, LiveUpdate, LiveUpdateStatus, NodeLiveUpdateStatus};
use liveupdate_host::Host as _;
use liveupdate_host::simulated::{Durations, Pace, WorldSpec};
use liveupdate_lab::testbed::{Observer, machines};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::write_proxy::{Moment, Place, Write, WriteClass};
use liveupdate_lab::{Testbed, TestbedOptions, WriteProxy};

use crate::kill::{LONG, each_in_turn, killed, named, quiet};

const NODES: u16 = 2;

/// Its guests' memory is preserved until the node is told to stop.
fn preserves_for_long() -> WorldSpec {
    let durations = Durations { preserve: 600_000, ..Durations::default() };
    WorldSpec { pace: Pace::Real, durations, ..machines::world() }
}

struct Matrix {
    bed: Testbed,
    proxy: WriteProxy,
    observer: Observer,
    runs: usize,
}

impl Matrix {
    async fn start() -> Matrix {
        let nodes = machines::nodes_like(NODES, &preserves_for_long());
        let mut bed = Testbed::start(TestbedOptions::default(), nodes).await.unwrap();
        bed.apply_policy(machines::policy()).await.unwrap();
        let observer = Observer::start(&bed).unwrap();
        let proxy = WriteProxy::start(&bed.plane, &Testbed::controller_account()).await.unwrap();
        bed.start_controller_with(proxy.kubeconfig()).await.unwrap();
        bed.await_known(LONG).await.unwrap();
        Matrix { bed, proxy, observer, runs: 0 }
    }

    /// Deletes an update of which every node is in the middle, with the controller killed at one place.
    async fn run(&mut self, place: Option<Place>) -> (Option<Write>, Vec<Write>) {
        self.runs += 1;
        let name = format!("run-{}", self.runs);
        let mut update = machines::update(&name, machines::NEW);
        update.spec.strategy.max_unavailable = IntOrPercent::Int(i32::from(NODES));
        self.bed.apply_update(&update).await.unwrap();
        let begun = |status: &NodeLiveUpdateStatus| status.reason == "InProgress";
        for node in self.bed.fleet.nodes() {
            self.bed.await_node_update(node.name(), "in flight", LONG, begun).await.unwrap();
            until(&format!("{} to have its image", node.name()), LONG, async || {
                let staged = node.world().host().unwrap().staged().unwrap();
                Ok(staged.map_or_else(|| Answer::not_yet("nothing is staged"), |_| Answer::Yes(())))
            })
            .await
            .unwrap();
        }
        if place.is_none() {
            // What only tells would be counted with what follows.
            quiet(&self.proxy).await;
        }
        let flying = |status: &LiveUpdateStatus| status.counts.in_flight == i32::from(NODES);
        self.bed.await_update(&name, "all in flight", LONG, flying).await.unwrap();
        let begin = async |bed: &Testbed| bed.delete_update(&name).await.unwrap();
        let rests = async |bed: &Testbed| nothing_left(bed, &name).await;
        let struck = killed(&mut self.bed, &self.proxy, place, begin, rests).await;
        let writes = self.proxy.writes().into_iter().filter(|write| write.class == WriteClass::Object);
        (struck, writes.collect())
    }
}

/// Waits until an update is gone with its marks and what it had begun.
async fn nothing_left(bed: &Testbed, name: &str) {
    until(&format!("the end of {name}"), LONG, async || {
        // While a controller is started anew nothing of this can be asked for in vain: the API server stays.
        let found = bed.all::<LiveUpdate>().get_opt(name).await.unwrap();
        let marked = bed.marked().await?;
        Ok(match found {
            None if marked.is_empty() => Answer::Yes(()),
            found => Answer::not_yet(format!("{marked:?}, {:?}", found.map(|update| update.metadata))),
        })
    })
    .await
    .unwrap();
    let idle = |status: &NodeLiveUpdateStatus| status.state == "Idle" && status.update_name.is_empty();
    for node in bed.fleet.nodes() {
        bed.await_node_update(node.name(), "Idle", LONG, idle).await.unwrap();
        assert!(node.world().host().unwrap().staged().unwrap().is_none(), "{} has the image", node.name());
        assert!(node.world().jumps().unwrap().is_empty(), "{} jumped", node.name());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariant_6_a_controller_killed_at_any_write_of_a_deletion_leaves_nothing_of_the_update() {
    let mut matrix = Matrix::start().await;
    let (_, writes) = matrix.run(None).await;
    println!("undisturbed: {} writes", writes.len());
    writes.iter().for_each(|write| println!("  {write} -> {:?}", write.code));
    let place = |number, moment| Place { class: WriteClass::Object, number, moment };
    // Not every run has those that came when the update was gone, nor more than one status of it.
    let made: Vec<_> = writes.iter().filter(|write| write.code.is_some_and(|code| code < 400)).collect();
    let of_update = |write: &&&Write| write.resource == "liveupdates" && write.subresource == "status";
    let made = made.len() - made.iter().filter(of_update).count().saturating_sub(1);
    // They follow each other: just after one is just before the next.
    let places = (1..=made).map(|number| place(number, Moment::Before));
    let places = places.chain([place(made, Moment::After)]);
    let (mut wrong, begun) = (Vec::new(), Instant::now());
    let never = each_in_turn(places.collect(), async |place| {
        let (struck, _) = matrix.run(Some(place)).await;
        let at = format!("{:?} {}", place.moment, named(place, struck.as_ref()));
        println!("{at}");
        let violations = matrix.observer.violations(LONG).await.unwrap();
        wrong.extend(violations.iter().map(|violation| format!("killed {at}: {violation}")));
        struck.is_some()
    });
    let never = never.await;
    println!("all deaths in {:.0} s", begun.elapsed().as_secs_f32());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(never.is_empty(), "no write ever came at {never:?}");
}
