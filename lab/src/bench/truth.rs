//! Whether each node's reason in the API is what the planner says, sampled once a second.
//!
//! A class is written once it has lasted two seconds, and the report and the list are not read in the same
//! instant. So a list is judged when the next report is there too, and a node counts as wrong only when the API
//! says something that the planner has not said of it in any of the last samples of [`WINDOW`].

use std::collections::BTreeMap;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kube::Api;
use kube::api::ListParams;
use liveupdate_crds::NodeLiveUpdate;
use serde::Deserialize;
use tokio::time::{Instant, interval};

use crate::{Error, Result};

/// The debounce of two seconds, one second between two samples, one for the write itself, and the report that
/// is read after the list.
const WINDOW: usize = 6;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    samples: usize,
    compared: usize,
    wrong: usize,
    first_wrong: Option<String>,
}

impl std::fmt::Display for Truth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {} samples, {} wrong", self.compared, self.samples, self.wrong)?;
        match &self.first_wrong {
            Some(first) => write!(f, " (first: {first})"),
            None => Ok(()),
        }
    }
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
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut listed: Vec<NodeLiveUpdate> = Vec::new();
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stop => return Ok(truth),
        }
        for (name, node) in report(&admin).await?.nodes {
            let of_node = said.entry(name).or_default();
            of_node.push(node.reason);
            if of_node.len() > WINDOW {
                of_node.remove(0);
            }
        }
        truth.judge(&listed, &said);
        let list = records.list(&ListParams::default()).await.map_err(Error::api("list NodeLiveUpdates"))?;
        listed = list.items;
    }
}

impl Truth {
    fn judge(&mut self, listed: &[NodeLiveUpdate], said: &BTreeMap<String, Vec<String>>) {
        self.samples += usize::from(!listed.is_empty());
        for record in listed {
            let (Some(name), Some(status)) = (&record.metadata.name, &record.status) else { continue };
            let Some(said) = said.get(name).filter(|said| said.len() == WINDOW) else { continue };
            self.compared += 1;
            if !said.contains(&status.reason) {
                self.wrong += 1;
                let first = || format!("{name} says {}, the planner said {}", status.reason, said.join(", "));
                self.first_wrong.get_or_insert_with(first);
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
