//! A node: a simulated machine, what its kubelet says of it, and the keeper as a unit of its host.
//!
//! ```text
//!   on: keeper (once it was installed), pods ──jump──► off: all of them end ──takes──► boot ──► on
//! ```

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::Client;
use liveupdate_agent::install::signers;
use liveupdate_host::bundle::Signers;
use liveupdate_host::linux::machine::Options;
use liveupdate_host::linux::root::Root;
use liveupdate_host::simulated::World;
use liveupdate_proto::causes::chain;
use tokio::sync::watch;

use super::{AbortOnDrop, Ground, HEARTBEAT, StandInNode};
use crate::fleet::Kubelet;
use crate::process::{Process, Spec};
use crate::{Error, Result};

const POLL: Duration = Duration::from_millis(50);
/// Pods see within this time that their machine is off.
const PODS_END: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(30);

/// See the module.
pub struct Machine {
    name: String,
    address: IpAddr,
    /// The host's `/`.
    root: PathBuf,
    folder: PathBuf,
    world: World,
    kubelet: Arc<Kubelet>,
    /// With the rights of this node's kubelet and no others.
    client: Client,
    uid: String,
    on: watch::Sender<bool>,
    keeper: Mutex<Keeper>,
}

struct Keeper {
    /// As systemd would start it; none before it was installed.
    unit: Option<Spec>,
    process: Option<Process>,
}

impl Machine {
    pub(super) async fn create(
        ground: &Ground,
        node: StandInNode,
        number: u8,
        own: Client,
    ) -> Result<Machine> {
        let (address, folder) = (ground.addresses.node(number), ground.root.join(number.to_string()));
        let (root, world) = (folder.join("root"), folder.join("world"));
        for folder in [&root, &world] {
            fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        }
        let fail = |source| Error::Machine { node: node.name.clone(), source };
        let world = World::create(&world, &node.world).map_err(fail)?;
        let mut labels = node.labels.clone();
        for (key, value) in [("os", "linux"), ("arch", "amd64"), ("hostname", node.name.as_str())] {
            labels.insert(format!("kubernetes.io/{key}"), value.to_owned());
        }
        let client = ground.client.clone();
        let machine = Arc::new(world.clone());
        let kubelet = Kubelet::new(client, &node.name, address, labels, machine, HEARTBEAT);
        let uid = kubelet.register().await?;
        Ok(Machine {
            name: node.name,
            address,
            root,
            folder,
            world,
            kubelet: Arc::new(kubelet),
            client: own,
            uid,
            on: watch::Sender::new(true),
            keeper: Mutex::new(Keeper { unit: None, process: None }),
        })
    }

    /// Name of its Node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine itself, for whoever looks on.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Whether the keeper is a unit of the host, which it stays while the machine is off.
    pub fn has_keeper(&self) -> bool {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).unit.is_some()
    }

    /// Whether the keeper was installed and runs.
    pub fn keeper_runs(&self) -> bool {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        keeper.process.as_mut().is_some_and(|process| matches!(process.status(), Ok(None)))
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    /// UID of its Node.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// The host's `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How a process is told which machine it runs on.
    pub(super) fn argument(&self) -> String {
        format!("simulated:{}", self.folder.join("world").display())
    }

    /// Whether it is on, now and from now on.
    pub(super) fn power(&self) -> watch::Receiver<bool> {
        self.on.subscribe()
    }

    /// What the init container does to a host with systemd: the keeper is there, and starts now and with every boot.
    pub(super) async fn install_keeper(&self, program: &Path, logs: &Path) -> Result<()> {
        let socket = self.root.join("run/liveupdate/keeper.sock");
        let spec = Spec::new(format!("keeper-{}", self.name), program, logs)
            .args([format!("--host={}", self.argument()), format!("--socket={}", socket.display())]);
        {
            let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
            // One that runs is left alone, as the installer does while it has anything in custody.
            if keeper.unit.is_none() {
                keeper.unit = Some(spec);
            }
        }
        self.follow_keeper();
        // Not `wait::until`: a task that uses it cannot be moved between threads.
        let begun = Instant::now();
        while !socket.exists() {
            if begun.elapsed() > SOON {
                let what = format!("the keeper of {}", self.name);
                return Err(Error::Deadline { what, waited: SOON, detail: "; it has no socket".into() });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// What the init container does first, by its own code: the keys of those who may sign bundles lie on the host.
    pub(super) fn put_signers(&self, keys: Option<&Path>) -> std::result::Result<(), String> {
        let wanted = match keys {
            Some(keys) => Signers::read(keys).map_err(|error| format!("{}: {error}", keys.display()))?,
            None => Signers::default(),
        };
        let options = Options::at(Root::at(&self.root));
        signers(&options.root, &options.signers, &wanted).map(drop).map_err(|error| chain(&error))
    }

    /// Starts the keeper where it should run and does not.
    fn follow_keeper(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = keeper.process.as_mut().and_then(|process| process.status().ok().flatten());
        // One that ends well, on a machine that is on, was uninstalled: its unit is gone.
        if ended.is_some_and(|status| status.success()) && matches!(self.world.power(), Ok(None)) {
            *keeper = Keeper { unit: None, process: None };
        }
        let runs = keeper.process.is_some() && ended.is_none();
        if let (false, Some(spec)) = (runs, keeper.unit.clone()) {
            let socket = self.root.join("run/liveupdate");
            let started = fs::create_dir_all(&socket).map_err(Error::file("create", &socket));
            match started.and_then(|()| Process::start(spec)) {
                Ok(process) => keeper.process = Some(process),
                Err(error) => tracing::warn!(node = self.name, "no keeper: {}", chain(&error)),
            }
        }
    }

    /// From boot to boot, until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            let (kubelet, uid) = (Arc::clone(&self.kubelet), self.uid.clone());
            let beating = AbortOnDrop(tokio::spawn(async move { kubelet.beat(&uid).await }));
            let event = loop {
                match self.world.power() {
                    Ok(None) => self.follow_keeper(),
                    Ok(Some(event)) => break event,
                    Err(error) => tracing::warn!(node = self.name, "{}", chain(&error)),
                }
                tokio::time::sleep(POLL).await;
            };
            self.on.send_replace(false);
            drop(beating);
            self.keeper.lock().unwrap_or_else(PoisonError::into_inner).process = None;
            tokio::time::sleep(event.takes.max(PODS_END)).await;
            // What is told on one boot alone.
            let _ = fs::remove_dir_all(self.root.join("run"));
            if let Err(error) = self.world.boot() {
                tracing::warn!(node = self.name, "it does not boot: {}", chain(&error));
                return;
            }
            self.follow_keeper();
            for post in [self.kubelet.post_status(true).await, self.kubelet.renew_lease(&self.uid).await] {
                if let Err(error) = post {
                    tracing::warn!(node = self.name, "{}", chain(&error));
                }
            }
            self.on.send_replace(true);
        }
    }
}
