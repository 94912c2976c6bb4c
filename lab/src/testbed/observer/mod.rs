//! Looks on at a fleet and records every broken invariant.
//!
//! ```text
//!  watches of Nodes, LiveUpdates, NodeLiveUpdates, the policy ──► Log ──check──► in the order of the store ──► Replay
//!  worlds: which attempts really jumped, what really became of devices ───────────────────────────────────────┘
//! ```
//! All objects live in one store, whose versions order what happened to any of them. Replayed in that order
//! there is no "seen too late": what was true when a write was made is known exactly. Where a watch had to
//! begin anew (the API server was started again), nothing is concluded from what was not seen.

mod log;
mod replay;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use liveupdate_crds::{LiveUpdate, LiveUpdatePolicy, NodeLiveUpdate};
use liveupdate_host::simulated::World;

use super::Testbed;
use crate::fleet::SimulatedNode;
use crate::wait::{self, Answer};
use crate::{Error, Result};
use log::{Kind, Log};
use replay::Replay;

/// See the module. It looks on until it goes.
pub struct Observer {
    client: Client,
    worlds: BTreeMap<String, World>,
    /// How often each machine had jumped before anybody looked.
    before: BTreeMap<String, usize>,
    log: Arc<Mutex<Log>>,
    replay: Mutex<Replay>,
    _watching: Vec<log::Watch>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("nodes", &self.worlds.len()).finish_non_exhaustive()
    }
}

impl Observer {
    /// Begins to look on. What is there now is taken for granted.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn start(bed: &Testbed) -> Result<Observer> {
        let client = bed.admin()?;
        let log = Arc::new(Mutex::new(Log::default()));
        let watching = vec![
            log::watch::<Node>(&client, Kind::Node, &log),
            log::watch::<LiveUpdate>(&client, Kind::Update, &log),
            log::watch::<NodeLiveUpdate>(&client, Kind::Record, &log),
            log::watch::<LiveUpdatePolicy>(&client, Kind::Policy, &log),
        ];
        let mut observer = Observer {
            client,
            worlds: BTreeMap::new(),
            before: BTreeMap::new(),
            log,
            replay: Mutex::default(),
            _watching: watching,
        };
        bed.fleet.nodes().for_each(|node| observer.add(node));
        Ok(observer)
    }

    /// Looks at the machine of a node that joined later, too; or at the new one of a node made again.
    pub fn add(&mut self, node: &SimulatedNode) {
        let before = node.world().jumps().map_or(0, |jumps| jumps.len());
        self.before.insert(node.name().to_owned(), before);
        self.worlds.insert(node.name().to_owned(), node.world().clone());
    }

    /// The test itself is about to change taints, labels, annotations or `unschedulable` of this node: what
    /// of others changes there is not looked at any more.
    pub fn changes_by_test(&self, node: &str) {
        self.replay().not_foreign(node);
    }

    /// Takes in all that has happened until now; what is wrong with it is the answer, and not told again.
    ///
    /// # Errors
    /// When the API server cannot be reached for a while.
    pub async fn violations(&self, deadline: Duration) -> Result<Vec<String>> {
        // Jumps first: what led to them is then in the log by the end of the wait.
        let mut jumps = BTreeMap::new();
        for (node, world) in &self.worlds {
            let made = world.jumps().map_err(|source| Error::Machine { node: node.clone(), source })?;
            let before = self.before.get(node).copied().unwrap_or_default();
            jumps.insert(node.clone(), made.into_iter().skip(before).collect::<Vec<_>>());
        }
        let reached = self.caught_up(deadline).await?;
        let (events, gaps) = {
            let mut log = self.lock();
            (log.take_until(reached), log.gaps())
        };
        let mut replay = self.replay();
        replay.not_seen(gaps);
        for event in events {
            replay.take(event, &self.worlds);
        }
        for (node, made) in &jumps {
            replay.jumped(node, made);
        }
        Ok(replay.found())
    }

    /// Waits until every watch has seen what there is; the version until which nothing is missing.
    async fn caught_up(&self, deadline: Duration) -> Result<u64> {
        let lists = [
            self.seen_all::<Node>(Kind::Node, deadline).await?,
            self.seen_all::<LiveUpdate>(Kind::Update, deadline).await?,
            self.seen_all::<NodeLiveUpdate>(Kind::Record, deadline).await?,
            self.seen_all::<LiveUpdatePolicy>(Kind::Policy, deadline).await?,
        ];
        Ok(lists.into_iter().min().unwrap_or_default())
    }

    async fn seen_all<K>(&self, kind: Kind, deadline: Duration) -> Result<u64>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        wait::until(&format!("the observer's view of {kind:?}s"), deadline, async || {
            let list = match api.list(&ListParams::default()).await {
                Ok(list) => list,
                Err(error) => return Ok(Answer::not_yet(error)),
            };
            let there: BTreeMap<String, u64> =
                list.items.iter().map(|object| (log::name(object), log::version(object))).collect();
            let log = self.lock();
            let late = there.iter().find(|(name, version)| log.last(kind, name) < Some(**version));
            let names: BTreeSet<&String> = there.keys().collect();
            Ok(match (late, log.names(kind).find(|name| !names.contains(name))) {
                (Some((name, _)), _) => Answer::not_yet(format!("{name} is not seen as it is")),
                (None, Some(gone)) => Answer::not_yet(format!("{gone} is gone, and still seen")),
                (None, None) => Answer::Yes(
                    list.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
                ),
            })
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replay(&self) -> MutexGuard<'_, Replay> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
