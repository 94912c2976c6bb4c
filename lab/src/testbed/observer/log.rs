//! What the watches saw, with the store's version of each change.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use liveupdate_crds::{LiveUpdate, LiveUpdatePolicy, NodeLiveUpdate};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

/// Kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Update,
    Record,
    Policy,
}

/// An object as it became.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Node(Box<Node>),
    Update(Box<LiveUpdate>),
    Record(Box<NodeLiveUpdate>),
    Policy(Box<LiveUpdatePolicy>),
    Gone(Kind, String),
}

/// One change.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) seen: Instant,
    pub(super) change: Change,
}

/// All changes that were not replayed yet.
#[derive(Debug, Default)]
pub(super) struct Log {
    events: Vec<Event>,
    last: BTreeMap<(Kind, String), u64>,
    gaps: Vec<Gap>,
}

/// A watch was begun anew (the API server had forgotten what came before): of this kind, only how it stood at
/// the end of the gap was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gap {
    kind: Kind,
    after: u64,
    until: u64,
}

impl Gap {
    pub(super) fn hides(self, kind: Kind, version: u64) -> bool {
        self.kind == kind && self.after < version && version <= self.until
    }
}

impl Log {
    pub(super) fn last(&self, kind: Kind, name: &str) -> Option<u64> {
        self.last.get(&(kind, name.to_owned())).copied()
    }

    pub(super) fn names(&self, kind: Kind) -> impl Iterator<Item = &String> {
        self.last.keys().filter(move |(of, _)| *of == kind).map(|(_, name)| name)
    }

    /// The changes up to a version, in the store's order.
    pub(super) fn take_until(&mut self, version: u64) -> Vec<Event> {
        let all = std::mem::take(&mut self.events);
        let (mut taken, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|event| event.version <= version);
        self.events = rest;
        taken.sort_by_key(|event| event.version);
        taken
    }

    /// What was not seen so far.
    pub(super) fn gaps(&self) -> Vec<Gap> {
        self.gaps.clone()
    }

    fn became(&mut self, kind: Kind, name: String, version: u64, change: Change) {
        if self.last.insert((kind, name), version) != Some(version) {
            self.events.push(Event { version, seen: Instant::now(), change });
        }
    }

    fn gone(&mut self, kind: Kind, name: String, version: u64) {
        self.last.remove(&(kind, name.clone()));
        self.events.push(Event { version, seen: Instant::now(), change: Change::Gone(kind, name) });
    }
}

/// A kind that can be watched.
pub(super) trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send
{
    fn change(self) -> Change;
}

impl Watched for Node {
    fn change(mut self) -> Change {
        // The largest part of it, and of no interest.
        if let Some(status) = &mut self.status {
            status.images = None;
        }
        Change::Node(Box::new(self))
    }
}

impl Watched for LiveUpdate {
    fn change(self) -> Change {
        Change::Update(Box::new(self))
    }
}

impl Watched for NodeLiveUpdate {
    fn change(self) -> Change {
        Change::Record(Box::new(self))
    }
}

impl Watched for LiveUpdatePolicy {
    fn change(self) -> Change {
        Change::Policy(Box::new(self))
    }
}

/// Ends with this value.
#[derive(Debug)]
pub(super) struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Watches a kind into the log; an API server that is away is tried again.
pub(super) fn watch<K: Watched + 'static>(client: &Client, kind: Kind, log: &Arc<Mutex<Log>>) -> Watch {
    let api: Api<K> = Api::all(client.clone());
    let log = Arc::clone(log);
    Watch(tokio::spawn(async move {
        let mut stream = watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut listed = Vec::new();
        // Version of the last change of this kind that was seen.
        let (mut reached, mut before) = (0, 0);
        while let Some(event) = stream.next().await {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let mut seen = |object: K| {
                let mut object = object;
                object.managed_fields_mut().clear();
                let (name, version) = (name(&object), version(&object));
                reached = reached.max(version);
                log.became(kind, name, version, object.change());
            };
            match event {
                Ok(watcher::Event::Init) => {
                    listed.clear();
                    before = reached;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    listed.push(name(&object));
                    seen(object);
                }
                Ok(watcher::Event::Apply(object)) => seen(object),
                Ok(watcher::Event::Delete(object)) => log.gone(kind, name(&object), version(&object)),
                Ok(watcher::Event::InitDone) => {
                    // Went while nobody looked; at the latest now.
                    let missing: Vec<_> =
                        log.names(kind).filter(|name| !listed.contains(name)).cloned().collect();
                    let now = log.last.values().copied().max().unwrap_or_default();
                    if before > 0 {
                        // Until whatever is known: the list's own version is not told.
                        log.gaps.push(Gap { kind, after: before, until: now });
                    }
                    missing.into_iter().for_each(|name| log.gone(kind, name, now));
                }
                Err(error) => tracing::debug!(?kind, %error, "the observer's watch broke; trying again"),
            }
        }
    }))
}

pub(super) fn name<K: Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}

pub(super) fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
