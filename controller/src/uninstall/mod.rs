//! Taking the keepers off the nodes, before the product goes.
//!
//! ```text
//!  uninstall hook ──token──► door of the leader ──nothing in flight──► every agent ──► whether its keeper is idle
//!        ▲                        │ how far it is                             │ no one objects
//!        └──── asks again ◄───────┘                                           ▼
//!                                                                        every agent ──► its keeper, away
//! ```
//! Only the one that leads does it: agents listen to the newest epoch alone. While one node has anything in custody all
//! keep their keepers, and the uninstall fails with its name.

mod ask;
mod nodes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use liveupdate_crds::{FINALIZER, LiveUpdate, NodeLiveUpdate};
use liveupdate_proto::causes::chain;
use liveupdate_proto::controller::v1::{UninstallProblem, UninstallReply, UninstallRequest};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::Credentials;
use tonic::Status;

use crate::admin::Shared;
use crate::enrol::{Expected, Refused, review};
use crate::strangers::Strangers;

pub use ask::{UninstallOptions, uninstall};

/// Agents that are asked at a time.
const AT_ONCE: usize = 16;
/// The audience of the tokens that may ask for it.
pub const AUDIENCE: &str = "liveupdate.dev/uninstall";
/// The account that may.
pub const ACCOUNT: &str = "liveupdate-uninstall";

/// Takes keepers off nodes.
pub struct Uninstaller {
    client: Client,
    credentials: Arc<Credentials>,
    shared: Arc<Shared>,
    strangers: Arc<Strangers>,
    expected: Expected,
    agent_port: u16,
    progress: Arc<Mutex<Progress>>,
}

#[derive(Default)]
struct Progress {
    /// Somebody is at it.
    running: bool,
    reply: UninstallReply,
    /// UIDs of the nodes whose keeper has gone since this process began: it does not answer any more.
    gone: BTreeSet<String>,
}

impl std::fmt::Debug for Uninstaller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uninstaller").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Uninstaller {
    /// For the account of `namespace` that uninstalls; agents are dialled as the owner of `credentials`. Who asks costs no
    /// more than `strangers` may.
    pub fn new(
        client: Client,
        credentials: Arc<Credentials>,
        shared: Arc<Shared>,
        strangers: Arc<Strangers>,
        namespace: &str,
        agent_port: u16,
    ) -> Self {
        let expected = Expected {
            namespace: namespace.to_owned(),
            service_account: ACCOUNT.to_owned(),
            audience: AUDIENCE.to_owned(),
        };
        Self { client, credentials, shared, strangers, expected, agent_port, progress: Arc::default() }
    }

    /// Begins, or says how far it is.
    pub async fn answer(
        &self,
        peer: SocketAddr,
        request: &UninstallRequest,
    ) -> Result<UninstallReply, Status> {
        if let Err(empty) = self.strangers.take(peer.ip()) {
            let refused = Refused::too_many();
            if empty.news {
                log(peer, &refused);
            }
            return Err(refused.status());
        }
        let Some(_turn) = self.strangers.turn().await else {
            return Err(Refusal::NotNow.status("the process ends; ask again in a while"));
        };
        let bearer = review(&self.client, &request.token, &self.expected).await.map_err(|refused| {
            log(peer, &refused);
            refused.status()
        })?;
        let Some(epoch) = self.shared.epoch() else {
            return Err(Refusal::NotLeading.status("another process leads; ask there"));
        };
        {
            let mut progress = self.lock();
            if progress.running {
                return Ok(progress.reply.clone());
            }
            // What was asked for and is over is told once; who asks then begins anew.
            if progress.reply.done {
                return Ok(std::mem::take(&mut progress.reply));
            }
        }
        if let Some(problem) = updates(&self.client).await?.iter().flat_map(flying).next() {
            return Err(Refusal::WrongState.status(problem.why));
        }
        let nodes = self.nodes().await?;
        let cluster = nodes::cluster(&self.client).await?;
        let mut progress = self.lock();
        if !progress.running {
            tracing::warn!(pod = bearer.pod.as_str(), nodes = nodes.len(), "keepers are uninstalled");
            progress.running = true;
            progress.reply = UninstallReply::default();
            let caller = nodes::Caller {
                client: self.client.clone(),
                credentials: Arc::clone(&self.credentials),
                cluster,
                epoch,
                agent_port: self.agent_port,
            };
            tokio::spawn(run(caller, nodes, Arc::clone(&self.progress)));
        }
        Ok(progress.reply.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nodes whose agent has ever answered.
    async fn nodes(&self) -> Result<Vec<String>, Status> {
        let records: Api<NodeLiveUpdate> = Api::all(self.client.clone());
        let records = records.list(&ListParams::default()).await.map_err(|error| unavailable(&error))?;
        Ok(records.items.into_iter().filter_map(|record| record.metadata.name).collect())
    }
}

fn log(peer: SocketAddr, refused: &Refused) {
    tracing::warn!(%peer, reason = refused.reason.as_str(), why = refused.detail, "refused to uninstall");
}

fn unavailable(error: &kube::Error) -> Status {
    Refusal::NotNow.status(format!("the API server cannot be asked: {}", chain(error)))
}

async fn updates(client: &Client) -> Result<Vec<LiveUpdate>, Status> {
    let updates: Api<LiveUpdate> = Api::all(client.clone());
    let updates = updates.list(&ListParams::default()).await.map_err(|error| unavailable(&error))?;
    Ok(updates.items)
}

/// The nodes with an attempt in flight.
fn flying(update: &LiveUpdate) -> Vec<UninstallProblem> {
    let why = format!("LiveUpdate {} has attempts in flight; let them end, or abort it", update.name_any());
    let flights = update.status.iter().flat_map(|status| &status.in_flight);
    flights.map(|flight| UninstallProblem { node: flight.node.clone(), why: why.clone() }).collect()
}

/// Whether it still needs a controller, which alone takes away its marks on nodes.
fn unfinished(update: &LiveUpdate) -> Vec<UninstallProblem> {
    let flying = flying(update);
    let marks = update.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    if !marks || !flying.is_empty() {
        return flying;
    }
    let name = update.name_any();
    let why = format!(
        "LiveUpdate {name} has marks on nodes: one has failed and nobody has looked; \
         `kubectl liveupdate accept-failure {name}`, or delete it"
    );
    vec![UninstallProblem { node: "a node".to_owned(), why }]
}

/// Removes keepers only when none would stay: refused, an uninstall has changed nothing.
async fn run(caller: nodes::Caller, nodes: Vec<String>, progress: Arc<Mutex<Progress>>) {
    let lock = || progress.lock().unwrap_or_else(PoisonError::into_inner);
    ask_all(&caller, nodes::Question::Whether, &nodes, &progress).await;
    // While agents were asked the run of an update went on.
    let begun: Vec<UninstallProblem> = match updates(&caller.client).await {
        Ok(updates) => updates.iter().flat_map(unfinished).collect(),
        Err(unknown) => {
            let why = unknown.message();
            nodes.iter().map(|node| UninstallProblem { node: node.clone(), why: why.to_owned() }).collect()
        }
    };
    let clear = {
        let mut progress = lock();
        progress.reply.problems.extend(begun);
        progress.reply.problems.is_empty()
    };
    if clear {
        tracing::warn!(nodes = nodes.len(), "no node objects: keepers are removed");
        lock().reply.skipped.clear();
        ask_all(&caller, nodes::Question::Remove, &nodes, &progress).await;
    }
    let mut progress = lock();
    progress.running = false;
    progress.reply.done = true;
}

async fn ask_all(
    caller: &nodes::Caller,
    question: nodes::Question,
    nodes: &[String],
    progress: &Mutex<Progress>,
) {
    let lock = || progress.lock().unwrap_or_else(PoisonError::into_inner);
    let asking = nodes.iter().map(|node| caller.ask(question, node.clone(), lock().gone.clone()));
    let mut answers = futures::stream::iter(asking.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    while let Some((node, answer)) = answers.next().await {
        let mut progress = lock();
        match answer {
            nodes::Answer::Gone(_) if question == nodes::Question::Whether => {}
            nodes::Answer::Gone(uid) => {
                progress.gone.insert(uid);
                progress.reply.removed += 1;
            }
            nodes::Answer::Down => progress.reply.skipped.push(node),
            nodes::Answer::Kept(why) => {
                tracing::warn!(node, why, "the keeper stays");
                progress.reply.problems.push(UninstallProblem { node, why });
            }
        }
    }
}
