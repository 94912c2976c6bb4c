//! What the controller asked of the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ListParams};
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};

use crate::control_plane::AuditEntry;
use crate::{Error, Result};

/// Requests since the update was made.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Anything that changes nothing; a watch counts once.
    pub(super) reads: usize,
    /// Everything that changes something, Events and Leases apart.
    pub(super) writes: usize,
    /// Writes by verb and resource.
    pub(super) by_kind: BTreeMap<String, usize>,
    /// Writes of Events.
    pub(super) events: usize,
    /// From the making of the update until the first Node got our taint.
    pub(super) first_start: Duration,
}

pub(super) fn count(entries: &[AuditEntry], since: jiff::Timestamp) -> Requests {
    let mut requests = Requests::default();
    let mut first = None;
    for entry in entries.iter().filter(|entry| entry.received >= since) {
        if !entry.is_write() {
            // A watch has an entry for its beginning and one for its end.
            requests.reads += usize::from(entry.verb != "watch" || entry.started);
            continue;
        }
        match entry.resource.as_str() {
            "leases" => continue,
            "events" => {
                requests.events += 1;
                continue;
            }
            "nodes" => first = first.or(Some(entry.received)),
            _ => {}
        }
        requests.writes += 1;
        let subresource =
            if entry.subresource.is_empty() { String::new() } else { format!("/{}", entry.subresource) };
        *requests.by_kind.entry(format!("{} {}{subresource}", entry.verb, entry.resource)).or_default() += 1;
    }
    requests.first_start = first.and_then(|at| Duration::try_from(at - since).ok()).unwrap_or_default();
    requests
}

/// The largest object of ours.
#[derive(Debug)]
pub(super) struct Largest {
    pub(super) name: String,
    pub(super) bytes: usize,
    pub(super) median_record: usize,
}

pub(super) async fn largest(client: &Client) -> Result<Largest> {
    let updates: Api<LiveUpdate> = Api::all(client.clone());
    let records: Api<NodeLiveUpdate> = Api::all(client.clone());
    let all = ListParams::default();
    let mut sizes = Vec::new();
    for update in updates.list(&all).await.map_err(Error::api("list LiveUpdates"))? {
        sizes.push((size(&update)?, format!("LiveUpdate {}", update.metadata.name.unwrap_or_default())));
    }
    let mut of_records = Vec::new();
    for record in records.list(&all).await.map_err(Error::api("list NodeLiveUpdates"))? {
        let bytes = size(&record)?;
        of_records.push(bytes);
        sizes.push((bytes, format!("NodeLiveUpdate {}", record.metadata.name.unwrap_or_default())));
    }
    of_records.sort_unstable();
    let (bytes, name) = sizes.into_iter().max().unwrap_or_default();
    let median_record = of_records.get(of_records.len() / 2).copied().unwrap_or(0);
    Ok(Largest { name, bytes, median_record })
}

/// As JSON, with managedFields: near to what etcd holds.
fn size(object: &impl serde::Serialize) -> Result<usize> {
    let text = serde_json::to_vec(object)
        .map_err(|source| Error::Encoding { what: "an object", source: source.into() })?;
    Ok(text.len())
}
