//! One control plane and one controller for all tests of this binary, and a pool of nodes for each test.
//!
//! Nodes, controller and tests share one runtime, which outlives every test.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use liveupdate_crds::update::{Approval, Step};
use liveupdate_crds::{IntOrPercent, LiveUpdate, LiveUpdateStatus, NodeLiveUpdateStatus};
use liveupdate_host::Host as _;
use liveupdate_host::simulated::WorldSpec;
use liveupdate_lab::fleet::{Fleet, NodeSpec, Settings, SimulatedNode};
use liveupdate_lab::testbed::machines;
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::{Options, Testbed, TestbedOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

/// For anything that happens within a few seconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);
/// For a whole test.
const LIMIT: Duration = Duration::from_secs(240);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().enable_all().build().unwrap());

/// See the module.
pub(crate) struct Bed {
    pub(crate) bed: Testbed,
    addresses: AtomicU16,
    /// Names of all pools: updates and nodes are called after them.
    pools: Mutex<BTreeSet<String>>,
}

/// Runs a test on a bed of its own, or whatever it makes itself.
pub(crate) fn alone(test: impl Future<Output = ()>) {
    // An overdue test fails, and its bed goes.
    RUNTIME.block_on(async { tokio::time::timeout(LIMIT, test).await.unwrap() });
}

/// Runs a test on the shared bed.
pub(crate) fn run(test: impl AsyncFnOnce(&'static Bed)) {
    alone(async { test(Bed::shared().await).await });
}

/// What all beds here are made of.
pub(crate) fn options() -> TestbedOptions {
    TestbedOptions {
        plane: Options {
            // Far above the heartbeat: a loaded machine must not lose a node that lives.
            node_monitor_grace_period: Some(Duration::from_secs(15)),
            scheduler: false,
            ..Options::default()
        },
        controller_log: std::env::var("LAB_LOG").unwrap_or_else(|_| "info".into()),
        ..TestbedOptions::default()
    }
}

impl Bed {
    async fn shared() -> &'static Bed {
        static SHARED: OnceCell<Bed> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let mut bed = Bed::start().await;
                bed.bed.start_controller().await.unwrap();
                bed
            })
            .await
    }

    /// A bed without a controller.
    pub(crate) async fn start() -> Bed {
        let bed = Testbed::start(options(), Vec::new()).await.unwrap();
        bed.apply_policy(machines::policy()).await.unwrap();
        Bed { bed, addresses: AtomicU16::new(0), pools: Mutex::default() }
    }

    /// Nodes `NAME-1` to `NAME-COUNT` with the label `pool: NAME`, all of them known to the controller.
    pub(crate) async fn pool(&self, name: &str, count: u16, edit: impl Fn(u16, &mut WorldSpec)) -> Pool<'_> {
        let pool = self.quiet_pool(name, count, edit).await;
        for node in pool.fleet.nodes() {
            pool.node_update(node.name(), "known", |status| !status.kernel.is_empty()).await;
        }
        pool
    }

    /// The same, without waiting for a controller.
    pub(crate) async fn quiet_pool(
        &self,
        name: &str,
        count: u16,
        edit: impl Fn(u16, &mut WorldSpec),
    ) -> Pool<'_> {
        let new = self.pools.lock().unwrap().insert(name.to_owned());
        assert!(new, "two tests share the bed, and each has a pool {name}");
        let first = self.addresses.fetch_add(count, Ordering::Relaxed);
        let specs = (1..=count).map(|number| {
            let mut world = machines::world();
            edit(number, &mut world);
            NodeSpec::new(first + number, format!("{name}-{number}"), world).label("pool", name)
        });
        let fleet = self.bed.fleet.beside(&self.bed.certificates, specs.collect()).await.unwrap();
        Pool { bed: self, name: name.to_owned(), fleet }
    }

    /// What kubectl prints, with single spaces between the columns. Arguments are separated by spaces.
    pub(crate) async fn kubectl(&self, args: &str) -> String {
        let output = self.bed.plane.kubectl(args.split_whitespace()).await.unwrap();
        assert_eq!(output.code, Some(0), "kubectl {args}: {}{}", output.stdout, output.stderr);
        output.stdout.lines().map(|line| words(line) + "\n").collect()
    }

    /// Runs the plugin, which must succeed.
    pub(crate) async fn plugin(&self, args: &[&str]) -> String {
        let output = self.bed.plugin(args).await.unwrap();
        assert_eq!(output.code, Some(0), "kubectl liveupdate {args:?}: {}{}", output.stdout, output.stderr);
        output.stdout
    }

    /// Waits until an update is as wanted.
    pub(crate) async fn update(
        &self,
        name: &str,
        what: &str,
        wanted: impl Fn(&LiveUpdateStatus) -> bool,
    ) -> LiveUpdateStatus {
        self.bed.await_update(name, what, SOON, wanted).await.unwrap().status.unwrap()
    }

    /// Waits for the condition `Succeeded`.
    pub(crate) async fn success(&self, name: &str) -> LiveUpdateStatus {
        self.bed.await_success(name, SOON).await.unwrap().status.unwrap()
    }

    /// Waits until a Node is as wanted.
    pub(crate) async fn node(&self, name: &str, what: &str, wanted: impl Fn(&Node) -> bool) -> Node {
        until(&format!("Node {name}: {what}"), SOON, async || {
            let node = self.bed.node(name).await?;
            Ok(if wanted(&node) { Answer::Yes(node) } else { Answer::not_yet(in_short(&node)) })
        })
        .await
        .unwrap()
    }

    /// Waits until an update is gone.
    pub(crate) async fn gone(&self, update: &str) {
        until(&format!("the end of {update}"), SOON, async || {
            let found = self.bed.all::<LiveUpdate>().get_opt(update).await.unwrap();
            Ok(found.map_or(Answer::Yes(()), |found| Answer::not_yet(format!("{:?}", found.status))))
        })
        .await
        .unwrap();
    }
}

/// The nodes of one test.
pub(crate) struct Pool<'a> {
    pub(crate) bed: &'a Bed,
    pub(crate) name: String,
    pub(crate) fleet: Fleet,
}

impl Pool<'_> {
    /// Name of a node, from 1.
    pub(crate) fn name_of(&self, number: u16) -> String {
        format!("{}-{number}", self.name)
    }

    /// A node, from 1.
    pub(crate) fn node(&self, number: u16) -> &SimulatedNode {
        self.fleet.node(&self.name_of(number)).unwrap()
    }

    /// An update of the pool to a release. Every node may be in flight at once.
    pub(crate) fn update(&self, name: &str, release: &str) -> LiveUpdate {
        let mut update = machines::update(name, release);
        let labels = [("pool".to_owned(), self.name.clone())];
        update.spec.node_selector.match_labels = Some(labels.into());
        update.spec.strategy.max_unavailable = IntOrPercent::Int(100);
        update
    }

    /// Applies an update of the pool, named after it, to [`machines::NEW`].
    pub(crate) async fn roll(&self, edit: impl FnOnce(&mut LiveUpdate)) {
        let mut update = self.update(&self.name, machines::NEW);
        edit(&mut update);
        self.bed.bed.apply_update(&update).await.unwrap();
    }

    /// Waits until the record of a node is as wanted.
    pub(crate) async fn node_update(
        &self,
        node: &str,
        what: &str,
        wanted: impl Fn(&NodeLiveUpdateStatus) -> bool,
    ) -> NodeLiveUpdateStatus {
        self.bed.bed.await_node_update(node, what, SOON, wanted).await.unwrap().status.unwrap()
    }

    /// Waits until the record of a node, from 1, has this state and reason.
    pub(crate) async fn stands(&self, number: u16, state: &str, reason: &str) -> NodeLiveUpdateStatus {
        let wanted = |status: &NodeLiveUpdateStatus| status.state == state && status.reason == reason;
        self.node_update(&self.name_of(number), &format!("{state} {reason}"), wanted).await
    }

    /// Replaces the agent of a node, from 1, by another one, and returns when nothing is left of the first.
    pub(crate) async fn replace_agent(&self, number: u16, change: impl FnOnce(&mut Settings)) {
        self.node(number).set(|settings| settings.agent = false);
        self.listens(number, false).await;
        self.node(number).set(|settings| {
            settings.agent = true;
            change(settings);
        });
    }

    /// Waits until the agent of a node, from 1, listens, or no longer does.
    pub(crate) async fn listens(&self, number: u16, wanted: bool) {
        let address = self.node(number).address();
        until(&format!("{address} to listen: {wanted}"), SOON, async || {
            let found = tokio::net::TcpStream::connect(address).await.is_ok();
            Ok(if found == wanted { Answer::Yes(()) } else { Answer::not_yet(found) })
        })
        .await
        .unwrap();
    }

    /// Waits until a node, from 1, prepares its attempt: the image is loaded, the guests still run.
    pub(crate) async fn prepares(&self, number: u16) -> NodeLiveUpdateStatus {
        until(&format!("{} to have its image", self.name_of(number)), SOON, async || {
            let staged = self.node(number).world().host().unwrap().staged().unwrap().is_some();
            Ok(if staged { Answer::Yes(()) } else { Answer::not_yet("nothing is staged") })
        })
        .await
        .unwrap();
        self.node_update(&self.name_of(number), "in flight", |status| status.reason == "InProgress").await
    }

    /// Waits until a machine, from 1, is off.
    pub(crate) async fn off(&self, number: u16) {
        until(&format!("{} to be off", self.name_of(number)), SOON, async || {
            let off = self.node(number).world().power().unwrap().is_some();
            Ok(if off { Answer::Yes(()) } else { Answer::not_yet("it runs") })
        })
        .await
        .unwrap();
    }
}

fn in_short(node: &Node) -> String {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.and_then(|all| all.iter().find(|condition| condition.type_ == "Ready"));
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    format!("Ready {:?}, taints {taints:?}", ready.map(|ready| &ready.status))
}

/// Whether a run stands for its one failure, and that is counted: it stands before.
pub(crate) fn spent(status: &LiveUpdateStatus) -> bool {
    status.state == "FailureBudgetSpent" && status.failures == 1
}

/// Whether the Node carries our taint.
pub(crate) fn is_marked(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == "liveupdate.dev/updating"))
}

/// Whether the Node carries nothing of ours at all.
pub(crate) fn is_clean(node: &Node) -> bool {
    let ours = |key: &String| key.starts_with("liveupdate.dev/");
    !is_marked(node) && !node.metadata.annotations.iter().flatten().any(|(key, _)| ours(key))
}

/// Whether the kubelet says that the node is Ready.
pub(crate) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// A line with single spaces.
pub(crate) fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Fails unless a text says all of this.
#[track_caller]
pub(crate) fn says<T: AsRef<str> + Debug>(text: &str, all: &[T]) {
    for part in all {
        assert!(text.contains(part.as_ref()), "{part:?} is not said in:\n{text}");
    }
}

/// A step that is passed when so many nodes are updated.
pub(crate) fn step(name: &str, nodes: IntOrPercent) -> Step {
    let approval = Approval::NotRequired;
    Step { name: name.to_owned(), nodes, cover: Vec::new(), bake: None, approval }
}
