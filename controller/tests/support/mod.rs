//! A cluster, agents and a clock in memory, and a fleet that lives in them: deterministic, with faults on
//! request. Time stands still until everything waits for it.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test, though not itself marked as one")]
#![allow(clippy::await_holding_refcell_ref, reason = "one controller at a time reads the knocks")]

pub mod agents;
pub mod cluster;
mod digest;
mod fence;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use liveupdate_controller::admin::Shared;
use liveupdate_controller::clock::Clock;
use liveupdate_controller::cluster::UpdateObject;
use liveupdate_controller::engine::{Engine, Knock};
use liveupdate_controller::lease::{Elector, LeaseLost, Timing};
use liveupdate_crds::LiveUpdateStatus;
use liveupdate_crds::conditions::{self, LiveUpdateCondition};
use liveupdate_planner::Time;
use tokio::sync::mpsc;

pub use agents::{FakeAgents, Fault};
pub use cluster::FakeCluster;

/// The runtime's paused clock.
#[derive(Clone, Copy, Debug)]
pub struct TestClock {
    start: tokio::time::Instant,
}

impl Default for TestClock {
    fn default() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

/// 2026-11-23T00:00:00Z.
pub const EPOCH_MS: i64 = 1_795_392_000_000;

impl TestClock {
    /// Since the test began.
    pub fn start_elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        Time(EPOCH_MS + i64::try_from(self.monotonic().as_millis()).unwrap())
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// A cluster with its agents; controllers come and go.
pub struct Lab {
    pub cluster: Rc<FakeCluster>,
    pub agents: Rc<FakeAgents>,
    pub clock: Rc<TestClock>,
    knocks: RefCell<mpsc::Receiver<Knock>>,
}

pub const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// An update's spec in YAML's JSON, with a strategy.
pub fn spec(strategy: &str) -> serde_json::Value {
    serde_json::from_str(&format!(
        r#"{{"nodeSelector":{{}},"target":{{"release":"7.3.5","bundle":{{"name":"b","digest":"{DIGEST}"}}}},
            "strategy":{strategy}}}"#
    ))
    .unwrap()
}

impl Lab {
    /// So many nodes named `n00` and on.
    pub fn new(nodes: usize) -> Self {
        let clock = Rc::new(TestClock::default());
        let (sender, knocks) = mpsc::channel(1000);
        let cluster = Rc::new(FakeCluster::new(*clock));
        let agents = Rc::new(FakeAgents::new(Rc::clone(&cluster), *clock, sender));
        for i in 0..nodes {
            cluster.add_node(&format!("n{i:02}"), &format!("uid{i:05}"));
            agents.add(&format!("n{i:02}"), &format!("uid{i:05}"));
        }
        Self { cluster, agents, clock, knocks: RefCell::new(knocks) }
    }

    /// One controller from its start on, until `done` or until its leadership ends; fails after `limit`.
    pub async fn control(
        &self,
        identity: &str,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Option<LeaseLost> {
        let elector =
            Elector::new(Rc::clone(&self.cluster), Rc::clone(&self.clock), identity, Timing::default());
        let term = elector.acquire().await;
        let parts = (Rc::clone(&self.cluster), Rc::clone(&self.agents), Rc::clone(&self.clock));
        let mut engine = Engine::new(parts, Rc::clone(&term), 9443, Arc::new(Shared::default()));
        let mut knocks = self.knocks.borrow_mut();
        let watch = async {
            while !done(self) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let result = tokio::select! {
            lost = elector.keep(&term) => Ok(Some(lost)),
            () = engine.lead(&mut knocks) => Ok(None),
            () = self.agents.live() => Ok(None),
            () = watch => Ok(None),
            () = tokio::time::sleep(limit) => Err(()),
        };
        match result {
            Ok(lost) => lost,
            Err(()) => panic!("not done within {limit:?}:\n{}", self.cluster.dump()),
        }
    }

    /// One controller until the update is over.
    pub async fn roll(&self, update: &str) -> LiveUpdateStatus {
        self.control("a", Duration::from_secs(3600), |lab| lab.finished(update)).await;
        self.status(update)
    }

    pub fn update(&self, name: &str) -> UpdateObject {
        self.cluster.update(name)
    }

    pub fn status(&self, name: &str) -> LiveUpdateStatus {
        self.update(name).status.unwrap()
    }

    pub fn finished(&self, name: &str) -> bool {
        self.cluster.has_update(name) && {
            let status = self.status(name);
            // The marks are gone, too: nothing is left to do.
            status.finished_at.is_some() && self.cluster.marked().is_empty()
        }
    }

    pub fn condition(&self, update: &str, r#type: LiveUpdateCondition) -> (String, String) {
        let status = self.status(update);
        conditions::find(&status.conditions, r#type)
            .map(|c| (c.status.clone(), c.reason.clone()))
            .unwrap_or_default()
    }
}
