//! Invariant 4 on a real control plane: hold, pause and abort in the middle of a run, by the real plugin.

use std::time::Duration;

use liveupdate_crds::conditions::{self, LiveUpdateCondition};
use liveupdate_crds::{IntOrPercent, LiveUpdateStatus};
use liveupdate_lab::testbed::{Observer, machines};
use liveupdate_lab::{Options, Testbed, TestbedOptions};

const LONG: Duration = Duration::from_secs(90);
const NODES: u16 = 5;

struct Bed {
    bed: Testbed,
    observer: Observer,
}

impl Bed {
    async fn start() -> Bed {
        let nodes = machines::nodes_like(NODES, &machines::unhurried());
        let plane = Options { scheduler: false, ..Options::default() };
        let options = TestbedOptions { plane, ..TestbedOptions::default() };
        let mut bed = Testbed::start(options, nodes).await.unwrap();
        bed.apply_policy(machines::policy()).await.unwrap();
        let observer = Observer::start(&bed).unwrap();
        bed.start_controller().await.unwrap();
        bed.await_known(LONG).await.unwrap();
        Bed { bed, observer }
    }

    /// Applies an update of all nodes, one at a time, and waits until it is in the middle.
    async fn midway(&self, name: &str, release: &str) {
        self.bed.apply_update(&machines::update(name, release)).await.unwrap();
        let midway = |status: &LiveUpdateStatus| status.counts.updated > 0 && !status.in_flight.is_empty();
        self.bed.await_update(name, "one over, one in flight", LONG, midway).await.unwrap();
    }

    async fn plugin(&self, verb: &str, name: &str) {
        let output = self.bed.plugin(&[verb, name]).await.unwrap();
        assert_eq!(output.code, Some(0), "{verb} {name}: {}{}", output.stdout, output.stderr);
    }

    /// The run stands for this reason with nothing in flight; then it gets room for all, and starts nobody.
    async fn stands(&self, name: &str, release: &str, reason: &str) {
        let paused = |status: &LiveUpdateStatus| {
            conditions::find(&status.conditions, LiveUpdateCondition::Paused)
                .is_some_and(|condition| condition.status == "True" && condition.reason == reason)
        };
        let stands = |status: &LiveUpdateStatus| paused(status) && status.in_flight.is_empty();
        let found = self.bed.await_update(name, &format!("stopped by {reason}"), LONG, stands).await.unwrap();
        let before = self.bed.jumps().unwrap();
        let updated = found.status.unwrap().counts.updated;
        assert!(updated < i32::from(NODES), "stopped before its end");

        let mut wider = machines::update(name, release);
        wider.spec.strategy.max_unavailable = IntOrPercent::Int(i32::from(NODES));
        self.bed.apply_update(&wider).await.unwrap();
        let seen = |status: &LiveUpdateStatus| status.effective.max_unavailable == i32::from(NODES);
        let status = self.bed.await_update(name, "room for all", LONG, seen).await.unwrap().status.unwrap();
        assert!(paused(&status) && status.in_flight.is_empty(), "{status:?}");
        let waiting: i32 = status.waiting.iter().map(|group| group.count).sum();
        assert_eq!(waiting, i32::from(NODES) - updated, "each says on what it waits: {:?}", status.waiting);
        assert_eq!(self.bed.jumps().unwrap(), before);
    }

    async fn ends(&self, name: &str) {
        self.bed.await_success(name, LONG).await.unwrap();
        let status = self.bed.await_rest(name, LONG).await.unwrap().status.unwrap();
        assert_eq!((status.counts.updated, status.failures), (i32::from(NODES), 0));
        self.no_violations().await;
    }

    async fn no_violations(&self) {
        assert_eq!(self.observer.violations(LONG).await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn invariant_4_nothing_starts_under_hold_pause_and_abort() {
    let bed = Bed::start().await;

    bed.midway("held", machines::NEW).await;
    bed.bed.hold(true).await.unwrap();
    bed.stands("held", machines::NEW, "PolicyHold").await;
    bed.bed.hold(false).await.unwrap();
    bed.ends("held").await;
    let jumps = bed.bed.jumps().unwrap();
    assert!(jumps.values().all(|made| made.len() == 1), "each node once, held or not: {jumps:?}");

    bed.midway("paused", machines::OLD).await;
    bed.plugin("pause", "paused").await;
    bed.stands("paused", machines::OLD, "Paused").await;
    bed.plugin("resume", "paused").await;
    bed.ends("paused").await;
    let jumps = bed.bed.jumps().unwrap();
    assert!(jumps.values().all(|made| made.len() == 2), "{jumps:?}");

    bed.midway("aborted", machines::NEW).await;
    bed.plugin("abort", "aborted").await;
    let over = |status: &LiveUpdateStatus| status.finished_at.is_some();
    bed.bed.await_update("aborted", "its end", LONG, over).await.unwrap();
    let status = bed.bed.await_rest("aborted", LONG).await.unwrap().status.unwrap();
    let succeeded = conditions::find(&status.conditions, LiveUpdateCondition::Succeeded).unwrap();
    assert_eq!((succeeded.status.as_str(), succeeded.reason.as_str()), ("False", "Aborted"));
    let over = bed.bed.jumps().unwrap().values().filter(|made| made.len() == 3).count();
    assert!((1..usize::from(NODES)).contains(&over), "{over} nodes went over before it");
    assert_eq!(usize::try_from(status.counts.updated).unwrap(), over, "{:?}", status.counts);
    bed.no_violations().await;
}
