//! What Prometheus may know. No label ever holds a name or a text.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use liveupdate_planner::{NodeClass, NodeEnd, Report};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Simulated {
    simulated: &'static str,
}

/// All metrics of the controller.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    nodes: Family<State, Gauge>,
    blackouts: Family<Simulated, Histogram, fn() -> Histogram>,
    leader: Gauge,
    epoch: Gauge<u64, AtomicU64>,
    writes: Family<Write, Counter>,
    passes: Histogram,
    plans: Histogram,
    knocks: Counter,
}

/// Every class, so that one which empties goes to zero and does not stay.
const CLASSES: [(NodeClass, &str); 7] = [
    (NodeClass::Idle, "Idle"),
    (NodeClass::Waiting, "Waiting"),
    (NodeClass::Blocked, "Blocked"),
    (NodeClass::InFlight, "InFlight"),
    (NodeClass::Updated, "Updated"),
    (NodeClass::Failed, "Failed"),
    (NodeClass::Skipped, "Skipped"),
];

fn blackout_buckets() -> Histogram {
    Histogram::new([0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("liveupdate");
        let nodes = Family::default();
        registry.register("nodes", "Nodes by what they do towards the update that wants them", nodes.clone());
        let blackouts = Family::new_with_constructor(blackout_buckets as fn() -> Histogram);
        registry.register_with_unit(
            "blackout_duration",
            "Longest standstill of a guest on a node, per updated node",
            Unit::Seconds,
            blackouts.clone(),
        );
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The version that runs", build);
        let leader = Gauge::default();
        registry.register("controller_leader", "1 while this process leads", leader.clone());
        let epoch = Gauge::default();
        registry.register("controller_epoch", "Number of this process' leadership", epoch.clone());
        let writes = Family::default();
        registry.register("api_writes", "Writes to the Kubernetes API", writes.clone());
        let times = || Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5]);
        let (passes, plans) = (times(), times());
        registry.register_with_unit(
            "pass_duration",
            "Time for one pass: planning, and beginning what was planned",
            Unit::Seconds,
            passes.clone(),
        );
        registry.register_with_unit("plan_duration", "Planning alone", Unit::Seconds, plans.clone());
        let knocks = Counter::default();
        registry.register("knocks", "Knocks of agents that were let in", knocks.clone());
        Self { registry, nodes, blackouts, leader, epoch, writes, passes, plans, knocks }
    }
}

impl Metrics {
    /// A write to the API, and what came of it.
    pub fn write(&self, kind: &'static str, result: &'static str) {
        self.writes.get_or_create(&Write { kind, result }).inc();
    }

    /// A knock that was let in.
    pub fn knock(&self) {
        self.knocks.inc();
    }

    /// This process leads, or does not.
    pub fn leads(&self, epoch: Option<u64>) {
        self.leader.set(i64::from(epoch.is_some()));
        self.epoch.set(epoch.unwrap_or(0));
    }

    /// A pass was made.
    pub fn passed(&self, report: &Report, before: &Report, planning: Duration, all: Duration) {
        self.passes.observe(all.as_secs_f64());
        self.plans.observe(planning.as_secs_f64());
        let mut counts = [0i64; CLASSES.len()];
        for (name, node) in &report.nodes {
            if let Some(count) = CLASSES.iter().position(|(class, _)| *class == node.class) {
                counts[count] += 1;
            }
            let Some(NodeEnd::Updated { blackout: Some(blackout), simulated, .. }) = &node.end else {
                continue;
            };
            // Counted when it is seen first; a new leader finds most of them recorded already.
            let known = before.nodes.get(name).is_none_or(|old| old.end.is_some());
            if !known {
                let simulated = Simulated { simulated: if *simulated { "true" } else { "false" } };
                self.blackouts.get_or_create(&simulated).observe(blackout.as_secs_f64());
            }
        }
        for ((_, word), count) in CLASSES.iter().zip(counts) {
            self.nodes.get_or_create(&State { state: word }).set(count);
        }
    }

    /// As Prometheus reads them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests;
