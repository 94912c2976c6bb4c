//! Which pods run on our nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use liveupdate_proto::causes::chain;
use tokio::sync::watch;

use super::life::{self, Life};
use super::machine::Machine;
use super::{AbortOnDrop, Ground};

/// Before a watch that broke begins again.
const AGAIN: Duration = Duration::from_millis(200);

struct Known {
    deleted: watch::Sender<bool>,
    _task: AbortOnDrop,
}

/// Runs them until it is dropped.
pub(super) async fn run(ground: Arc<Ground>, machines: BTreeMap<String, Arc<Machine>>) {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let pods: Api<Pod> = Api::all(ground.client.clone());
    // Without a pause after an error, a control plane that is gone keeps this thread from ever ending.
    let mut events = watcher::watcher(pods, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                let uid = pod.uid().unwrap_or_default();
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
                let Some(machine) = machines.get(&node) else { continue };
                let ends = pod.metadata.deletion_timestamp.is_some();
                let known = known.entry(uid).or_insert_with(|| {
                    let (deleted, seen) = watch::channel(ends);
                    let life = Life::new(Arc::clone(&ground), Arc::clone(machine), pod, seen);
                    Known { deleted, _task: AbortOnDrop(tokio::spawn(life::live(life))) }
                });
                if ends {
                    known.deleted.send_replace(true);
                }
            }
            Ok(Event::Delete(pod)) => {
                known.remove(&pod.uid().unwrap_or_default());
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => {
                tracing::debug!("the watch of pods broke: {}", chain(&error));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
