//! Whether each node's reason in the API is what the planner says, sampled once a second.
//!
//! The API's side comes by a watch, so that looking costs the measured API server little. A class is written once
//! it has lasted two seconds, and a thousand writes take their time, so it is also told how far the API was
//! behind: how long ago the planner said of the node what the API says. A node counts as wrong when that is
//! longer than [`BEHIND`], or when the planner never said it. One whose reason changed within the last
//! [`STEADY`] is not judged: it may have had another one between two samples.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kube::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use liveupdate_crds::NodeLiveUpdate;
use serde::Deserialize;
use tokio::time::{Instant, interval};

use crate::{Error, Result};

/// Samples after which the API is wrong and not late.
const BEHIND: usize = 15;
/// The debounce, in samples, and one more.
const STEADY: usize = 3;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    samples: usize,
    moving: usize,
    /// How many comparisons found the API so many samples behind.
    behind: BTreeMap<usize, usize>,
    wrong: usize,
    first_wrong: Option<String>,
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { samples, wrong, moving, behind, .. } = self;
        let late: usize = behind.values().sum();
        write!(f, "{} in {samples} samples, {wrong} wrong", late + wrong)?;
        if let Some(first) = &self.first_wrong {
            write!(f, " (first: {first})")?;
        }
        let equal = behind.get(&0).copied().unwrap_or_default();
        let most = behind.keys().max().copied().unwrap_or_default();
        write!(f, "; {equal} equal, the others up to {most} s behind; {moving} more just then changing")
    }
}

/// What the planner said of a node.
#[derive(Debug, Default)]
struct Said {
    /// Sample at which each reason was said last.
    last: BTreeMap<String, usize>,
    /// The present reason, and since which sample.
    now: (String, usize),
}

#[derive(Deserialize)]
struct Report {
    nodes: BTreeMap<String, NodeReport>,
}

#[derive(Deserialize)]
struct NodeReport {
    reason: String,
}

/// Samples until it is told to stop.
pub(super) async fn watch(
    admin: String,
    records: Api<NodeLiveUpdate>,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> Result<Truth> {
    let mut truth = Truth::default();
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    let (store, writer) = reflector::store();
    let mut watching =
        reflector::reflector(writer, watcher(records, watcher::Config::default())).default_backoff().boxed();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // What it brings is in the store; after a failure it begins again.
            _ = watching.next() => continue,
            _ = &mut stop => return Ok(truth),
        }
        truth.samples += 1;
        for (name, node) in report(&admin).await?.nodes {
            let of_node = said.entry(name).or_default();
            of_node.last.insert(node.reason.clone(), truth.samples);
            if of_node.now.0 != node.reason {
                of_node.now = (node.reason, truth.samples);
            }
        }
        truth.judge(&store.state(), &said);
    }
}

impl Truth {
    fn judge(&mut self, records: &[Arc<NodeLiveUpdate>], said: &BTreeMap<String, Said>) {
        for record in records {
            let (Some(name), Some(status)) = (&record.metadata.name, &record.status) else { continue };
            let Some(said) = said.get(name) else { continue };
            if self.samples < said.now.1 + STEADY {
                self.moving += 1;
                continue;
            }
            match said.last.get(&status.reason).map(|last| self.samples - last) {
                Some(behind) if behind <= BEHIND => *self.behind.entry(behind).or_default() += 1,
                _ => {
                    self.wrong += 1;
                    let first = || format!("{name} says {}, the planner {}", status.reason, said.now.0);
                    self.first_wrong.get_or_insert_with(first);
                }
            }
        }
    }
}

async fn report(admin: &str) -> Result<Report> {
    let began = Instant::now();
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<hyper::body::Bytes>>();
    let uri = format!("http://{admin}/debug/report");
    let fail = |detail: String| Error::Deadline {
        what: format!("an answer of {uri}"),
        waited: began.elapsed(),
        detail,
    };
    let parsed = uri.parse().map_err(|error| fail(format!(": {error}")))?;
    let response = client.get(parsed).await.map_err(|error| fail(format!(": {error}")))?;
    let body = response.into_body().collect().await.map_err(|error| fail(format!(": {error}")))?.to_bytes();
    serde_json::from_slice(&body)
        .map_err(|source| Error::Encoding { what: "the controller's report", source: source.into() })
}
