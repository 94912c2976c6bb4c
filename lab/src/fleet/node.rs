//! One simulated node: its machine, and who runs it from boot to boot.
//!
//! ```text
//!   boot ──► keeper, agent, kubelet ──jump or power cut──► all of them end ──takes──► boot
//!                 ▲        │ settings changed
//!                 └────────┘ what they no longer want ends, what they want starts
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use liveupdate_agent::{AgentConfig, AgentHandle, AgentServer, Limits};
use liveupdate_host::simulated::{SimulatedHost, World};
use liveupdate_keeper::{InProcess, Keeper};
use liveupdate_proto::causes::chain;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::kubelet::Kubelet;
use super::settings::Settings;
use super::write_agent_certificate;
use crate::certs::{FleetCertificates, Validity};
use crate::{Error, Result};

/// After what did not start is tried again.
const AGAIN: Duration = Duration::from_millis(200);
/// How often the keeper looks at the time.
const TICK: Duration = Duration::from_millis(100);

/// A simulated node. Everything on it ends when this value goes.
#[derive(Debug)]
pub struct SimulatedNode {
    name: String,
    uid: watch::Sender<String>,
    address: SocketAddr,
    world: Opaque<World>,
    kubelet: Opaque<Arc<Kubelet>>,
    settings: watch::Sender<Settings>,
    task: JoinHandle<()>,
}

/// Something with a `Debug` that says nothing.
#[derive(Clone)]
struct Opaque<T>(T);

impl<T> std::fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

/// What the node's task needs.
pub(super) struct Room {
    pub(super) name: String,
    pub(super) uid: watch::Sender<String>,
    pub(super) listen: SocketAddr,
    pub(super) controller: Option<String>,
    pub(super) limits: Limits,
    pub(super) world: World,
    pub(super) kubelet: Arc<Kubelet>,
}

impl SimulatedNode {
    /// Starts the node. It is registered already.
    pub(super) fn start(room: Room, settings: Settings) -> Self {
        let (sender, receiver) = watch::channel(settings);
        let power = Arc::new(Notify::new());
        let listener = Arc::clone(&power);
        room.world.on_power_event(move |_| listener.notify_one());
        Self {
            name: room.name.clone(),
            uid: room.uid.clone(),
            address: room.listen,
            world: Opaque(room.world.clone()),
            kubelet: Opaque(Arc::clone(&room.kubelet)),
            settings: sender,
            task: tokio::spawn(async move {
                let name = room.name.clone();
                if let Err(error) = room.run(receiver, &power).await {
                    tracing::error!(node = name, "the simulated node ended: {}", chain(&error));
                }
            }),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// UID of its Node object, as its kubelet registered it last.
    pub fn uid(&self) -> String {
        self.uid.borrow().clone()
    }

    /// Where its agent listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its machine: faults, gates, power.
    pub fn world(&self) -> &World {
        &self.world.0
    }

    /// Changes what shall run on it.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        self.settings.send_modify(change);
    }

    /// Registers the machine again after its Node was deleted: another Node under the same name. The agent
    /// is killed and started again as that Node's, with a certificate for its UID. The machine notices
    /// nothing of it; a Node that is still there is kept, and nothing changes.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached, or the certificate cannot be made or written.
    pub async fn register_again(&self, certificates: &FleetCertificates) -> Result<()> {
        let uid = self.kubelet.0.register().await?;
        let tls_dir = self.settings.borrow().tls_dir.clone();
        write_agent_certificate(certificates, &self.name, &uid, Validity::Current, &tls_dir)?;
        self.uid.send_replace(uid);
        self.restart_agent();
        Ok(())
    }

    /// Kills the agent and starts another one.
    pub fn restart_agent(&self) {
        self.set(|settings| settings.agent_generation += 1);
    }

    /// Kills keeper and agent and starts others.
    pub fn restart_keeper(&self) {
        self.set(|settings| settings.keeper_generation += 1);
    }
}

impl Drop for SimulatedNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Room {
    async fn run(self, mut settings: watch::Receiver<Settings>, power: &Notify) -> Result<()> {
        loop {
            if let Some(event) = self.world.power().map_err(|source| self.machine(source))? {
                tokio::time::sleep(event.takes).await;
                if !event.comes_back {
                    // Only a power cut ends this; it notifies.
                    power.notified().await;
                    continue;
                }
                self.world.boot().map_err(|source| self.machine(source))?;
                let want = settings.borrow().clone();
                self.kubelet_starts(&want).await;
            }
            self.one_boot(&mut settings, power).await?;
        }
    }

    /// Runs keeper, agent and kubelet as the settings want them, until the machine goes off.
    async fn one_boot(&self, settings: &mut watch::Receiver<Settings>, power: &Notify) -> Result<()> {
        let mut running = Running::default();
        // What the kubelet that runs has posted.
        let mut posted = Some(true);
        loop {
            let want = settings.borrow_and_update().clone();
            self.follow(&mut running, &want).await?;
            if !want.kubelet {
                posted = None;
            } else if posted != Some(want.ready) {
                posted = Some(want.ready);
                if let Err(error) = self.kubelet.post_status(want.ready).await {
                    tracing::warn!(node = self.name, "{}", chain(&error));
                }
            }
            let incomplete = (want.agent && running.agent.is_none()) || running.keeper.is_none();
            tokio::select! {
                () = power.notified() => {
                    if self.world.power().map_err(|source| self.machine(source))?.is_some() {
                        running.end_agent().await;
                        return Ok(());
                    }
                }
                // As systemd or a kubelet would.
                () = tokio::time::sleep(AGAIN), if incomplete => {}
                changed = settings.changed() => {
                    if changed.is_err() {
                        // The node's owner is gone; its task is about to be ended.
                        std::future::pending::<()>().await;
                    }
                }
            }
        }
    }

    /// Ends what is not wanted any more and starts what is.
    async fn follow(&self, running: &mut Running, want: &Settings) -> Result<()> {
        if running.keeper.as_ref().is_none_or(|keeper| keeper.generation != want.keeper_generation) {
            // The agent and keeper of a node are killed together where they share a process.
            running.end_agent().await;
            running.keeper = None;
            let host = Arc::new(self.world.host().map_err(|source| self.machine(source))?);
            match Keeper::open(Arc::<SimulatedHost>::clone(&host)) {
                Ok(keeper) => {
                    let keeper = Arc::new(keeper);
                    let ticking = AbortOnDrop(tokio::spawn(tick(Arc::clone(&keeper))));
                    running.keeper = Some(RunningKeeper {
                        generation: want.keeper_generation,
                        host,
                        keeper,
                        _ticking: ticking,
                    });
                }
                Err(error) => tracing::warn!(node = self.name, "no keeper: {}", chain(&error)),
            }
        }
        let agent_as_wanted = running.agent.as_ref().is_some_and(|agent| {
            want.agent
                && agent.generation == want.agent_generation
                && agent.tls_dir == want.tls_dir
                && agent.misbehaviour == format!("{:?}", want.misbehaviour)
        });
        if !agent_as_wanted {
            running.end_agent().await;
        }
        if let (true, None, Some(keeper)) = (want.agent, &running.agent, &running.keeper) {
            match self.start_agent(want, &keeper.host, &keeper.keeper).await {
                Ok(handle) => {
                    running.agent = Some(RunningAgent {
                        generation: want.agent_generation,
                        tls_dir: want.tls_dir.clone(),
                        misbehaviour: format!("{:?}", want.misbehaviour),
                        handle,
                    });
                }
                Err(error) => tracing::warn!(node = self.name, "no agent: {}", chain(&error)),
            }
        }
        if want.kubelet {
            let uid = self.uid.borrow().clone();
            if running.beat.as_ref().is_none_or(|(owner, _)| *owner != uid) {
                let (kubelet, owner) = (Arc::clone(&self.kubelet), uid.clone());
                let beating = AbortOnDrop(tokio::spawn(async move { kubelet.beat(&owner).await }));
                running.beat = Some((uid, beating));
            }
        } else {
            running.beat = None;
        }
        Ok(())
    }

    async fn start_agent(
        &self,
        want: &Settings,
        host: &Arc<SimulatedHost>,
        keeper: &Arc<Keeper>,
    ) -> std::result::Result<AgentHandle, liveupdate_agent::AgentError> {
        let uid = self.uid.borrow().clone();
        let mut config = AgentConfig::new(&self.name, uid, self.listen, &want.tls_dir);
        config.controller.clone_from(&self.controller);
        config.limits = self.limits;
        config.misbehaviour = want.misbehaviour.clone();
        config.enrolment.clone_from(&want.enrolment);
        AgentServer::spawn(config, Arc::<SimulatedHost>::clone(host), Arc::new(InProcess(Arc::clone(keeper))))
            .await
    }

    /// As a kubelet does when it starts after a boot; the API server may be away meanwhile.
    async fn kubelet_starts(&self, want: &Settings) {
        if !want.kubelet {
            return;
        }
        let uid = self.uid.borrow().clone();
        for _ in 0..100 {
            let posted = self.kubelet.post_status(want.ready).await;
            let posted = match posted {
                Ok(()) => self.kubelet.renew_lease(&uid).await,
                Err(error) => Err(error),
            };
            match posted {
                Ok(()) => return,
                Err(error) => tracing::debug!(node = self.name, "kubelet: {}", chain(&error)),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        tracing::warn!(node = self.name, "the kubelet could not post the node's status for 30 s");
    }

    fn machine(&self, source: liveupdate_host::HostError) -> Error {
        Error::Machine { node: self.name.clone(), source }
    }
}

struct RunningAgent {
    generation: u32,
    tls_dir: PathBuf,
    misbehaviour: String,
    handle: AgentHandle,
}

struct RunningKeeper {
    generation: u32,
    host: Arc<SimulatedHost>,
    keeper: Arc<Keeper>,
    _ticking: AbortOnDrop,
}

impl Drop for RunningKeeper {
    /// Its threads may be in the midst of something, and would go on with it beside the next keeper.
    fn drop(&mut self) {
        self.host.kill();
    }
}

/// What runs on a node in one boot.
#[derive(Default)]
struct Running {
    // The agent goes before the keeper that it speaks to.
    agent: Option<RunningAgent>,
    keeper: Option<RunningKeeper>,
    // With the UID of the Node that its Leases belong to.
    beat: Option<(String, AbortOnDrop)>,
}

impl Running {
    /// Kills the agent and waits until its port is free.
    async fn end_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.handle.kill();
            agent.handle.stopped().await;
        }
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn tick(keeper: Arc<Keeper>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A thousand keepers at rest would otherwise take half a processor to find that out on other threads.
        if keeper.at_rest() {
            continue;
        }
        let keeper = Arc::clone(&keeper);
        // It may have to wait for the machine.
        if tokio::task::spawn_blocking(move || keeper.tick()).await.is_err() {
            return;
        }
    }
}
