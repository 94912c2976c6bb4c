//! Invariants 5 and 6: a controller that dies just before or just after any one of its writes, and is started
//! again, brings the run to the end that it has undisturbed.

use std::collections::BTreeMap;
use std::time::Instant;

use liveupdate_crds::update::{Approval, Counts, OnBlocked, OutcomeCount, Step};
use liveupdate_crds::{IntOrPercent, LiveUpdate};
use liveupdate_lab::testbed::{Observer, machines};
use liveupdate_lab::write_proxy::{Moment, Place, Write, WriteClass};
use liveupdate_lab::{Testbed, TestbedOptions, WriteProxy};

use crate::kill::{LONG, each_in_turn, killed, named, quiet};

/// Beside [`machines::NEW`], so that runs can go back and forth and the last node is on neither.
const NEWER: &str = "7.3.6-lu3";

/// All that must not depend on who died when.
#[derive(Clone, Debug, PartialEq, Eq)]
struct End {
    state: String,
    summary: String,
    conditions: Vec<(String, String, String)>,
    counts: Counts,
    devices: Vec<OutcomeCount>,
    /// By node: state, reason, and attempts of this run's revision.
    nodes: BTreeMap<String, (String, String)>,
    /// By node: jumps of this run.
    jumps: BTreeMap<String, usize>,
    failures: i32,
}

/// One run.
struct Case {
    /// The write at which the controller was killed.
    struck: Option<Write>,
    end: End,
    writes: Vec<Write>,
}

/// Of its nodes the last one can never be updated.
struct Matrix {
    nodes: u16,
    bed: Testbed,
    proxy: WriteProxy,
    observer: Observer,
    runs: usize,
}

impl Matrix {
    async fn start(count: u16) -> Matrix {
        let mut world = machines::world();
        world.bundles.push(machines::bundle(NEWER));
        let mut nodes = machines::nodes_like(count - 1, &world);
        let mut lacking = world;
        lacking.gates.push(machines::failing_gate("KexecHandover"));
        nodes.push(machines::node(count - 1, lacking));
        let mut bed = Testbed::start(TestbedOptions::default(), nodes).await.unwrap();
        bed.apply_policy(machines::policy()).await.unwrap();
        let observer = Observer::start(&bed).unwrap();
        let proxy = WriteProxy::start(&bed.plane, &Testbed::controller_account()).await.unwrap();
        bed.start_controller_with(proxy.kubeconfig()).await.unwrap();
        for node in 1..=count {
            let known = |status: &liveupdate_crds::NodeLiveUpdateStatus| !status.state.is_empty();
            bed.await_node_update(&format!("hv-{node:02}"), "known", LONG, known).await.unwrap();
        }
        quiet(&proxy).await;
        Matrix { nodes: count, bed, proxy, observer, runs: 0 }
    }

    fn blocked(&self) -> String {
        format!("hv-{:02}", self.nodes)
    }

    /// Every run goes to the release that the one before did not.
    fn next(&mut self) -> LiveUpdate {
        self.runs += 1;
        let release = if self.runs % 2 == 1 { machines::NEW } else { NEWER };
        let mut update = machines::update(&format!("run-{}", self.runs), release);
        let step = |name: &str, nodes| Step {
            name: name.into(),
            nodes,
            cover: Vec::new(),
            bake: None,
            approval: Approval::NotRequired,
        };
        update.spec.strategy.max_unavailable = IntOrPercent::Int(2);
        update.spec.strategy.on_blocked = OnBlocked::Skip;
        update.spec.strategy.steps =
            vec![step("canary", IntOrPercent::Int(1)), step("rest", IntOrPercent::Percent("100%".into()))];
        update
    }

    fn jumps(&self) -> BTreeMap<String, usize> {
        let nodes = self.bed.fleet.nodes();
        nodes.map(|node| (node.name().to_owned(), node.world().jumps().unwrap().len())).collect()
    }

    /// One run to its end, with the controller killed at one place. None: no write came to that place.
    async fn run(&mut self, place: Option<Place>) -> Case {
        let update = self.next();
        let name = update.metadata.name.clone().unwrap();
        let before = self.jumps();
        let begin = async |bed: &Testbed| drop(bed.apply_update(&update).await.unwrap());
        let rests = async |bed: &Testbed| {
            bed.await_success(&name, LONG).await.unwrap();
            bed.await_rest(&name, LONG).await.unwrap();
        };
        let struck = killed(&mut self.bed, &self.proxy, place, begin, rests).await;
        let writes = self.proxy.writes();
        let end = self.end(&name, &before).await;
        self.bed.delete_update_and_wait(&name, LONG).await.unwrap();
        Case { struck, end, writes }
    }

    async fn end(&self, name: &str, before: &BTreeMap<String, usize>) -> End {
        // What only tells may come a moment after the end.
        let told =
            |status: &liveupdate_crds::LiveUpdateStatus| status.counts.updated == i32::from(self.nodes) - 1;
        let update = self.bed.await_update(name, "its counts", LONG, told).await.unwrap();
        let status = update.status.unwrap();
        let mut nodes = BTreeMap::new();
        for record in self.bed.node_updates().await.unwrap() {
            let status = record.status.unwrap_or_default();
            nodes.insert(record.metadata.name.unwrap(), (status.state, status.reason));
        }
        let jumps = self.jumps();
        End {
            state: status.state,
            summary: status.summary,
            conditions: status
                .conditions
                .into_iter()
                .map(|condition| (condition.type_, condition.status, condition.reason))
                .collect(),
            counts: status.counts,
            devices: status.devices,
            nodes,
            jumps: jumps.into_iter().map(|(node, made)| (node.clone(), made - before[&node])).collect(),
            failures: status.failures,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariant_6_a_controller_killed_before_any_write_brings_the_run_to_the_same_end() {
    killed_at_each_write(Moment::Before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariant_6_a_controller_killed_after_any_write_brings_the_run_to_the_same_end() {
    killed_at_each_write(Moment::After).await;
}

/// Events only tell, and a Lease is no lock: neither decides where a run ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariant_6_a_controller_killed_at_any_event_or_lease_brings_the_run_to_the_same_end() {
    let mut matrix = Matrix::start(2).await;
    let Case { end: whole, writes, .. } = matrix.run(None).await;
    let events = writes.iter().filter(|write| write.class == WriteClass::Event).count();
    assert!(events > 2, "its beginning, its node, its end: {writes:?}");
    let moments = [Moment::Before, Moment::After];
    let of = |class, count| {
        (1..=count).flat_map(move |number| moments.map(|moment| Place { class, number, moment }))
    };
    let places = of(WriteClass::Event, events).chain(of(WriteClass::Lease, 1));
    let never = matrix.killed_at(places.collect(), &whole).await;
    spared(&never, 1);
}

async fn killed_at_each_write(moment: Moment) {
    // Side by side, each with every other place: a run mostly waits.
    let (mut matrix, mut other) = tokio::join!(Matrix::start(4), Matrix::start(4));
    let (Case { end: whole, writes, .. }, again) = tokio::join!(matrix.run(None), other.run(None));
    assert_eq!(whole, again.end);
    let writes: Vec<_> = writes.iter().filter(|write| write.class == WriteClass::Object).collect();
    println!("undisturbed: {} writes", writes.len());
    writes.iter().for_each(|write| println!("  {write} -> {:?}", write.code));
    let blocked = matrix.blocked();
    assert_eq!(whole.jumps[&blocked], 0);
    assert!(whole.jumps.iter().all(|(node, jumps)| *node == blocked || *jumps == 1), "{whole:?}");
    assert_eq!((whole.counts.updated, whole.counts.skipped), (3, 1));
    assert_eq!(matrix.observer.violations(LONG).await.unwrap(), Vec::<String>::new());
    let places = (1..=writes.len()).map(|number| Place { class: WriteClass::Object, number, moment });
    let (odd, even) = places.partition(|place| place.number % 2 == 1);
    let (never, nor) = tokio::join!(matrix.killed_at(odd, &whole), other.killed_at(even, &whole));
    spared(&[never, nor].concat(), 3);
}

impl Matrix {
    /// One run for each place; all of them end as the whole one did. Gives the places at which no write came in any turn.
    async fn killed_at(&mut self, places: Vec<Place>, whole: &End) -> Vec<Place> {
        let (mut wrong, begun) = (Vec::new(), Instant::now());
        let never = each_in_turn(places, async |place| {
            let started = Instant::now();
            let Case { struck, end, .. } = self.run(Some(place)).await;
            let at = format!("{:?} {}", place.moment, named(place, struck.as_ref()));
            println!("{at}: {:.1} s", started.elapsed().as_secs_f32());
            if end != *whole {
                wrong.push(format!("killed {at}:\n  it ended as {end:?}\n  instead of {whole:?}"));
            }
            let violations = self.observer.violations(LONG).await.unwrap();
            wrong.extend(violations.iter().map(|violation| format!("killed {at}: {violation}")));
            struck.is_some()
        });
        let never = never.await;
        println!("all deaths in {:.0} s", begun.elapsed().as_secs_f32());
        assert!(wrong.is_empty(), "{} things went wrong:\n{}", wrong.len(), wrong.join("\n"));
        never
    }
}

/// So many of the last places may be those of writes that the first run alone had, since no run later on has as many.
fn spared(never: &[Place], most: usize) {
    println!("no write came in any turn at {never:?}");
    assert!(never.len() <= most, "no write ever came at {never:?}");
}
