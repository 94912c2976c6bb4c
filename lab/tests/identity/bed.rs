//! One control plane and one controller that keeps its own CA, for all tests of this binary but those that wear
//! it out; three nodes whose agents have enrolled.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use liveupdate_crds::NodeLiveUpdateStatus;
use liveupdate_lab::fleet::NodeSpec;
use liveupdate_lab::testbed::pods::Mounts;
use liveupdate_lab::testbed::{NAMESPACE, machines};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::{Options, Testbed, TestbedOptions};
use liveupdate_proto::tls::{Identity, Leaf};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::logs::{self, Log};
use crate::wire::{Door, scratch};

/// For anything that happens within a few seconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// For a whole test.
const LIMIT: Duration = Duration::from_secs(300);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().enable_all().build().unwrap());

/// Runs a test on a bed of its own, or whatever it makes itself.
pub(crate) fn alone(test: impl Future<Output = ()>) {
    RUNTIME.block_on(async { tokio::time::timeout(LIMIT, test).await.unwrap() });
}

/// Runs a test on the shared bed, one after the other: each reads the log for what it caused itself.
pub(crate) fn run(test: impl AsyncFnOnce(&'static Bed)) {
    static TURN: Mutex<()> = Mutex::const_new(());
    alone(async {
        let _turn: MutexGuard<'_, ()> = TURN.lock().await;
        test(Bed::shared().await).await;
    });
}

/// A node whose agent has enrolled.
pub(crate) struct Enrolled {
    pub(crate) name: String,
    pub(crate) pod: Pod,
    pub(crate) tls_dir: PathBuf,
    pub(crate) mounts: Mounts,
}

impl Enrolled {
    /// The UID in its certificate.
    pub(crate) fn uid(&self) -> String {
        match self.leaf().identity {
            Identity::Node { uid, .. } => uid,
            other @ Identity::Controller => panic!("the certificate of {} is for {other}", self.name),
        }
    }

    pub(crate) fn leaf(&self) -> Leaf {
        Leaf::read(&self.tls_dir.join("tls.crt")).unwrap()
    }

    /// Its token.
    pub(crate) fn token(&self) -> String {
        std::fs::read_to_string(&self.mounts.enrolment.token).unwrap()
    }
}

/// See the module.
pub(crate) struct Bed {
    pub(crate) bed: Testbed,
    pub(crate) nodes: Vec<Enrolled>,
}

/// What beds here are made of.
pub(crate) fn options(args: &[&str]) -> TestbedOptions {
    let mut controller_args = vec!["--tls-mode=self-managed".to_owned()];
    controller_args.extend(args.iter().map(|arg| (*arg).to_owned()));
    TestbedOptions {
        plane: Options { node_monitor_grace_period: Some(Duration::from_secs(15)), ..Options::default() },
        controller_args,
        controller_log: "info".into(),
        ..TestbedOptions::default()
    }
}

/// Nodes that have nobody on them yet.
pub(crate) fn specs(count: u16) -> Vec<NodeSpec> {
    machines::nodes(count)
}

impl Bed {
    async fn shared() -> &'static Bed {
        static SHARED: OnceCell<Bed> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let mut bed = Bed::start(3, &[]).await;
                // A second leadership, so that there is an epoch of before.
                let log = bed.log();
                bed.bed.restart_controller(0).unwrap();
                log.line(&["this process leads", "epoch=2"]).await;
                bed
            })
            .await
    }

    /// A bed with so many nodes, all of them enrolled.
    pub(crate) async fn start(count: u16, args: &[&str]) -> Bed {
        logs::keep();
        let mut bed = Testbed::start(options(args), specs(count)).await.unwrap();
        // Until its pod is there, a node has no agent.
        for node in bed.fleet.nodes() {
            node.set(|settings| settings.agent = false);
        }
        bed.apply_policy(machines::policy()).await.unwrap();
        bed.install_agents().await.unwrap();
        bed.start_controller().await.unwrap();
        let mut started = Bed { bed, nodes: Vec::new() };
        for number in 1..=count {
            let node = format!("hv-{number:02}");
            let enrolled = started.enrol(&node).await;
            started.nodes.push(enrolled);
        }
        started
    }

    /// Gives a node's agent what its pod has, and starts it.
    pub(crate) async fn enrol(&self, node: &str) -> Enrolled {
        let pod = self.bed.agent_pod(node, None, SOON).await.unwrap();
        let mounts = self.bed.mount(node, &pod, SOON).await.unwrap();
        let tls_dir = scratch(self.bed.plane.run().path()).join("tls");
        let (enrolment, dir) = (mounts.enrolment.clone(), tls_dir.clone());
        self.bed.fleet.node(node).unwrap().set(move |settings| {
            settings.agent = true;
            settings.enrolment = Some(enrolment);
            settings.tls_dir = dir;
            settings.agent_generation += 1;
        });
        self.stands(node, "known", |status| !status.kernel.is_empty()).await;
        Enrolled { name: node.to_owned(), pod, tls_dir, mounts }
    }

    /// Waits until a node's record is as wanted.
    pub(crate) async fn stands(
        &self,
        node: &str,
        what: &str,
        wanted: impl Fn(&NodeLiveUpdateStatus) -> bool,
    ) -> NodeLiveUpdateStatus {
        self.bed.await_node_update(node, what, SOON, wanted).await.unwrap().status.unwrap()
    }

    /// The controller's port.
    pub(crate) fn door(&self) -> Door {
        let address = format!("127.0.0.1:{}", self.bed.knock_port());
        Door { address, trust: self.nodes[0].mounts.enrolment.trust.clone() }
    }

    /// The controller's log from here on.
    pub(crate) fn log(&self) -> Log {
        Log::of_controller(self.bed.plane.logs().join("controller-0.log"))
    }

    /// The CAs as they are kept: for those who hold them, such as a test that makes certificates of every kind.
    pub(crate) async fn authorities(&self) -> serde_json::Value {
        let secret = self.bed.in_namespace::<Secret>(NAMESPACE).get("liveupdate-ca").await.unwrap();
        serde_json::from_slice(&secret.data.unwrap()["authorities.json"].0).unwrap()
    }

    /// Waits until the CAs are as wanted.
    pub(crate) async fn await_authorities(
        &self,
        what: &str,
        wanted: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        until(what, SOON, async || {
            let found = self.authorities().await;
            Ok(if wanted(&found) { Answer::Yes(found) } else { Answer::not_yet("they are not") })
        })
        .await
        .unwrap()
    }

    /// A folder for files of a test.
    pub(crate) fn scratch(&self) -> PathBuf {
        scratch(self.bed.plane.run().path())
    }

    /// The UID of a node's Node.
    pub(crate) async fn node_uid(&self, node: &str) -> String {
        self.bed.node(node).await.unwrap().uid().unwrap()
    }
}
