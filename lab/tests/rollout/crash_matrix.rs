//! Invariants 5 and 6: a controller that dies just before or just after any one of its writes, and is started
//! again, brings the run to the end that it has undisturbed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use liveupdate_crds::update::{Approval, Counts, OnBlocked, OutcomeCount, Step};
use liveupdate_crds::{IntOrPercent, LiveUpdate};
use liveupdate_lab::testbed::{Observer, machines};
use liveupdate_lab::write_proxy::{Fate, Moment, Place, Write, WriteClass};
use liveupdate_lab::{Testbed, TestbedOptions, WriteProxy};

const LONG: Duration = Duration::from_secs(90);
/// No write for so long: the run's last one was made.
const QUIET: Duration = Duration::from_secs(3);
/// Of four nodes the last one can never be updated.
const NODES: u16 = 4;
const BLOCKED: &str = "hv-04";
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

struct Matrix {
    bed: Testbed,
    proxy: WriteProxy,
    observer: Observer,
    runs: usize,
}

impl Matrix {
    async fn start() -> Matrix {
        let mut world = machines::world();
        world.bundles.push(machines::bundle(NEWER));
        let mut nodes = machines::nodes_like(NODES - 1, &world);
        let mut lacking = world;
        lacking.gates.push(machines::failing_gate("KexecHandover"));
        nodes.push(machines::node(NODES - 1, lacking));
        let mut bed = Testbed::start(TestbedOptions::default(), nodes).await.unwrap();
        bed.apply_policy(machines::policy()).await.unwrap();
        let observer = Observer::start(&bed).unwrap();
        let proxy = WriteProxy::start(&bed.plane, &Testbed::controller_account()).await.unwrap();
        bed.start_controller_with(proxy.kubeconfig()).await.unwrap();
        for node in 1..=NODES {
            let known = |status: &liveupdate_crds::NodeLiveUpdateStatus| !status.state.is_empty();
            bed.await_node_update(&format!("hv-{node:02}"), "known", LONG, known).await.unwrap();
        }
        let matrix = Matrix { bed, proxy, observer, runs: 0 };
        matrix.quiet().await;
        matrix
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

    fn written(&self) -> usize {
        self.proxy.counts().of(WriteClass::Object)
    }

    /// Waits until nothing is written any more.
    async fn quiet(&self) {
        let (mut seen, mut since) = (self.written(), Instant::now());
        while since.elapsed() < QUIET {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.written() != seen {
                (seen, since) = (self.written(), Instant::now());
            }
        }
    }

    /// One run to its end, with the controller killed at one place. None: no write came to that place.
    async fn run(&mut self, place: Option<Place>) -> Case {
        let update = self.next();
        let name = update.metadata.name.clone().unwrap();
        let before = self.jumps();
        self.proxy.reset();
        let sprung = place.map(|place| {
            let victim = self.bed.controller(0).unwrap().handle();
            self.proxy.arm(place, move |_| {
                victim.kill().unwrap();
                Fate::Drop
            })
        });
        self.bed.apply_update(&update).await.unwrap();
        let rested = async {
            self.bed.await_success(&name, LONG).await.unwrap();
            self.bed.await_rest(&name, LONG).await.unwrap();
            self.quiet().await;
        };
        let struck = match sprung {
            None => {
                rested.await;
                None
            }
            Some(sprung) => {
                let struck = tokio::select! {
                    struck = sprung.wait(2 * LONG) => Some(struck.unwrap()),
                    () = rested => None,
                };
                // A write of that number may still come when the update is deleted; it is none of the run.
                if struck.is_some() || !self.proxy.disarm() {
                    self.bed.restart_controller(0).unwrap();
                    self.bed.await_success(&name, LONG).await.unwrap();
                    self.bed.await_rest(&name, LONG).await.unwrap();
                }
                struck
            }
        };
        let writes = self.proxy.writes();
        let end = self.end(&name, &before).await;
        self.bed.delete_update_and_wait(&name, LONG).await.unwrap();
        Case { struck, end, writes }
    }

    async fn end(&self, name: &str, before: &BTreeMap<String, usize>) -> End {
        // What only tells may come a moment after the end.
        let told = |status: &liveupdate_crds::LiveUpdateStatus| status.counts.updated == i32::from(NODES) - 1;
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

async fn killed_at_each_write(moment: Moment) {
    let mut matrix = Matrix::start().await;
    let Case { end: whole, writes, .. } = matrix.run(None).await;
    let writes: Vec<_> = writes.iter().filter(|write| write.class == WriteClass::Object).collect();
    println!("undisturbed: {} writes", writes.len());
    writes.iter().for_each(|write| println!("  {write} -> {:?}", write.code));
    assert_eq!(whole.jumps[BLOCKED], 0);
    assert!(whole.jumps.iter().all(|(node, jumps)| node == BLOCKED || *jumps == 1), "{whole:?}");
    assert_eq!((whole.counts.updated, whole.counts.skipped), (3, 1));
    assert_eq!(matrix.observer.violations(LONG).await.unwrap(), Vec::<String>::new());

    let (mut wrong, mut struck, begun) = (Vec::new(), 0, Instant::now());
    for number in 1..=writes.len() {
        let place = Place { class: WriteClass::Object, number, moment };
        let started = Instant::now();
        let Case { struck: write, end, .. } = matrix.run(Some(place)).await;
        let at = write.as_ref().map_or_else(|| format!("write {number} did not come"), Write::to_string);
        println!("{moment:?} {at}: {:.1} s", started.elapsed().as_secs_f32());
        struck += usize::from(write.is_some());
        if end != whole {
            wrong.push(format!("killed {moment:?} {at}:\n  it ended as {end:?}\n  instead of {whole:?}"));
        }
        for violation in matrix.observer.violations(LONG).await.unwrap() {
            wrong.push(format!("killed {moment:?} {at}: {violation}"));
        }
    }
    println!("{struck} deaths in {:.0} s", begun.elapsed().as_secs_f32());
    assert!(wrong.is_empty(), "{} things went wrong:\n{}", wrong.len(), wrong.join("\n"));
    // Writes that happen together share one, so that a run may have a few less than the first one.
    assert!(struck + 3 >= writes.len(), "only {struck} deaths over {} writes", writes.len());
}
