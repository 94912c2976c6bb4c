//! One pod, from its start to its end, over the reboots of its machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};
use liveupdate_proto::causes::chain;
use tokio::sync::watch;

use super::machine::Machine;
use super::placed::Placed;
use super::status::{self, Phase};
use super::{Ground, container, volumes};
use crate::process::Process;
use crate::{Error, Result};

const POLL: Duration = Duration::from_millis(100);
/// Before a container that ended starts again.
const BACKOFF: Duration = Duration::from_millis(300);
/// What a pod has to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// The init container that a host with systemd is needed for.
const INSTALLER: &str = "install-keeper";

/// See the module.
pub(super) struct Life {
    placed: Placed,
    deleted: watch::Receiver<bool>,
    restarts: i32,
    /// What the API was told last, so that it is told changes alone.
    told: Option<Phase>,
}

/// How a run of the containers ended.
enum End {
    Deleted,
    /// The machine went off.
    Off,
    /// It is one that ends, with this exit code.
    Finished(i32),
    /// It is one that does not end, and did.
    Again,
}

impl Life {
    pub(super) fn new(
        ground: Arc<Ground>,
        machine: Arc<Machine>,
        pod: Pod,
        deleted: watch::Receiver<bool>,
    ) -> Self {
        let placed = Placed::new(ground, machine, pod);
        Self { placed, deleted, restarts: 0, told: None }
    }

    fn name(&self) -> String {
        self.placed.pod.name_any()
    }

    async fn tell(&mut self, phase: Phase) {
        if self.told.as_ref() == Some(&phase) {
            return;
        }
        let ready = phase == Phase::Running { ready: true };
        self.placed.ground.services.set_ready(&self.placed.pod, self.placed.address, ready);
        match status::write(&self.placed, &phase, self.restarts).await {
            Ok(()) => self.told = Some(phase),
            Err(error) => tracing::debug!(pod = self.name(), "{}", chain(&error)),
        }
    }

    /// Starts what is to run, and looks after it.
    async fn run(&mut self) -> Result<End> {
        let mut power = self.placed.machine.power();
        let mounted = volumes::mount(&self.placed).await?;
        for init in self.placed.spec.init_containers.clone().unwrap_or_default() {
            if init.name == INSTALLER {
                let keys = container::named_by(&self.placed, &init, &mounted, "--signers=");
                let put = self.placed.machine.put_signers(keys.as_deref());
                put.map_err(|reason| Error::Pod { pod: self.name(), reason })?;
                let keeper =
                    self.placed.ground.programs.get("/liveupdate-keeper").cloned().unwrap_or_default();
                self.placed.machine.install_keeper(&keeper, &self.placed.ground.logs).await?;
                continue;
            }
            let mut process = self.start(&init, &mounted)?;
            process.wait(GRACE).await?;
        }
        let mut processes = Vec::new();
        for container in self.placed.spec.containers.clone() {
            let process = self.start(&container, &mounted)?;
            processes.push((container, process));
        }
        let always = self.placed.spec.restart_policy.as_deref().unwrap_or("Always") == "Always";
        loop {
            if *self.deleted.borrow() {
                for (_, process) in &mut processes {
                    if process.terminate(GRACE).await.is_err() {
                        process.kill()?;
                    }
                }
                return Ok(End::Deleted);
            }
            if !*power.borrow_and_update() {
                return Ok(End::Off);
            }
            let mut ready = true;
            for (container, process) in &mut processes {
                if let Some(ended) = process.status()? {
                    return Ok(if always { End::Again } else { End::Finished(ended.code().unwrap_or(1)) });
                }
                ready &= container::is_ready(container, self.placed.address).await;
            }
            self.tell(Phase::Running { ready }).await;
            volumes::refresh(&self.placed, &mounted).await;
            tokio::time::sleep(POLL).await;
        }
    }

    fn start(&self, container: &Container, mounted: &BTreeMap<String, PathBuf>) -> Result<Process> {
        let spec = container::command(&self.placed, container, mounted).map_err(|reason| Error::Pod {
            pod: self.name(),
            reason: format!("container {}: {reason}", container.name),
        })?;
        Process::start(spec)
    }

    async fn wait_for_power(&self) {
        let mut power = self.placed.machine.power();
        let _ = power.wait_for(|on| *on).await;
    }

    async fn wait_for_deletion(&mut self) {
        let _ = self.deleted.wait_for(|deleted| *deleted).await;
    }

    /// The kubelet's last word: nothing of it runs any more.
    async fn gone(&self) {
        let _ = std::fs::remove_dir_all(&self.placed.folder);
        let pods: Api<Pod> = Api::namespaced(
            self.placed.ground.client.clone(),
            &self.placed.pod.namespace().unwrap_or_default(),
        );
        let own = Preconditions { uid: self.placed.pod.uid(), resource_version: None };
        let now = DeleteParams { preconditions: Some(own), ..DeleteParams::default().grace_period(0) };
        if let Err(error) = pods.delete(&self.name(), &now).await {
            tracing::debug!(pod = self.name(), "{}", chain(&error));
        }
    }
}

/// Runs the pod until it is deleted.
pub(super) async fn live(mut life: Life) {
    loop {
        life.wait_for_power().await;
        let end = life.run().await;
        match end {
            Ok(End::Deleted) => break,
            Ok(End::Finished(code)) => {
                life.tell(Phase::Finished { code }).await;
                life.wait_for_deletion().await;
                break;
            }
            Ok(End::Off) => {
                life.restarts += 1;
                life.placed.certificates.forget();
                life.tell(Phase::Running { ready: false }).await;
                // Told anew when it runs again.
            }
            Ok(End::Again) => {
                life.restarts += 1;
                life.tell(Phase::Running { ready: false }).await;
                tokio::time::sleep(BACKOFF).await;
            }
            Err(error) => {
                tracing::warn!(pod = life.name(), "{}", chain(&error));
                if *life.deleted.borrow() {
                    break;
                }
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
    life.placed.ground.services.set_ready(&life.placed.pod, life.placed.address, false);
    life.gone().await;
}
