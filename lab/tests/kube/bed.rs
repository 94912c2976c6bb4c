//! One node of a control plane, with all that a test runs on it.

use std::net::Ipv4Addr;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use liveupdate_crds::NodeLiveUpdateStatus;
use liveupdate_lab::testbed::NAMESPACE;
use liveupdate_lab::vm::hold::events;
use liveupdate_lab::vm::kube::{AGENT_IMAGE, PATIENCE, POD_IMAGE, PODS, is_running};
use liveupdate_lab::vm::options::HOST_ADDRESS;
use liveupdate_lab::vm::{Hold, HoldReport, Kit, KitBundle, KubeNode, Programs, Variant, updates};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab::{RunDir, Testbed, TestbedOptions, install};

pub(crate) const NODE: &str = "node-1";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 21, 0, 1);
pub(crate) const KEEPER: &str = "liveupdate-keeper.service";
pub(crate) const BYSTANDER: &str = "/var/lib/lab/pods/bystander";
/// Started once by hand with its seed, and by systemd from then on.
const HOLDER_UNIT: &str = "\
[Unit]
Description=a holder
After=liveupdate-keeper.service

[Service]
ExecStart=/usr/bin/liveupdate-lab-pod once /run/vm-a.seed /usr/bin/liveupdate-hold --name=vm-a --size=16M --seed=-
StandardError=tty
TTYPath=/dev/ttyS0
Restart=always

[Install]
WantedBy=multi-user.target
";

/// See the module. The node goes before the control plane that it talks to.
pub(crate) struct Bed {
    pub(crate) node: KubeNode,
    pub(crate) plane: Testbed,
    pub(crate) target: KitBundle,
    /// Held by a unit, and by a pod.
    pub(crate) unit: Hold,
    pub(crate) pod: Hold,
    folder: RunDir,
}

impl Bed {
    /// A node with the product, a unit and a pod that hold, and a bystander.
    pub(crate) async fn start() -> Bed {
        let folder = RunDir::create().unwrap();
        let kit = Kit::new(folder.path(), Programs::OnDisk).unwrap();
        let target = kit.installed_bundle(Variant::Lu2).unwrap();
        let mut plane = Testbed::start(TestbedOptions::default(), Vec::new()).await.unwrap();
        plane.start_controller().await.unwrap();
        plane.apply_policy(updates::policy()).await.unwrap();
        let options = kit.kube(&plane, NODE, "pool=node-1", Variant::Lu1).unwrap();
        let node = KubeNode::start(&plane, options, ADDRESS, folder.path()).await.unwrap();
        let bed = Bed { node, plane, target, unit: Hold::new("vm-a"), pod: Hold::new("vm-b"), folder };
        bed.install().await;
        bed.hold().await;
        bed
    }

    /// The DaemonSet, until its pod runs.
    async fn install(&self) {
        let text = include_str!("agent.yaml")
            .replace("IMAGE", AGENT_IMAGE)
            .replace("UID", self.node.uid())
            .replace("PORT", &self.plane.agent_port().to_string())
            .replace("CONTROLLER", &format!("{HOST_ADDRESS}:{}", self.plane.knock_port()));
        self.apply("agent.yaml", &text).await;
        let pods = self.pods(NAMESPACE);
        let listed = wait::until("the agent's pod", PATIENCE, async || {
            let listed = pods.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
            Ok(listed.first().map_or(Answer::not_yet("there is none"), |pod| Answer::Yes(pod.name_any())))
        });
        self.node.await_pod(&pods, &listed.await.unwrap(), is_running).await.unwrap();
    }

    /// Those who hold, until the keeper has heard them, and the bystander.
    async fn hold(&self) {
        let control = self.node.guest().control();
        let seed = |hold: &Hold| format!("{:x}\n", hold.seed);
        control.write(&format!("{PODS}/seed"), 0o600, &seed(&self.pod), PATIENCE).await.unwrap();
        control.write("/run/vm-a.seed", 0o600, &seed(&self.unit), PATIENCE).await.unwrap();
        control.write("/etc/systemd/system/vm-a.service", 0o644, HOLDER_UNIT, PATIENCE).await.unwrap();
        self.node.output("systemctl", &["enable", "--now", "vm-a.service"]).await.unwrap();
        self.apply("pods.yaml", &include_str!("pods.yaml").replace("IMAGE", POD_IMAGE)).await;
        for name in ["vm-b", "bystander"] {
            self.node.await_pod(&self.pods("default"), name, is_running).await.unwrap();
        }
        self.node.guest().serial().wait_for("liveupdate-hold: vm-a: verdict", PATIENCE).await.unwrap();
        self.await_pod_line("verdict").await;
    }

    async fn apply(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        install::paths(&self.plane.admin().unwrap(), &[path]).await.unwrap();
    }

    /// Waits until the pod that holds has said something, from its first start on.
    pub(crate) async fn await_pod_line(&self, what: &str) {
        let line = format!("liveupdate-hold: vm-b: {what}");
        let said = wait::until(&line, PATIENCE, async || {
            Ok(match self.node.log("vm-b").await {
                Ok(log) if log.contains(&line) => Answer::Yes(()),
                Ok(log) => Answer::not_yet(log),
                Err(error) => Answer::not_yet(error),
            })
        });
        said.await.unwrap();
    }

    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.plane.admin().unwrap(), namespace)
    }

    /// What became of the unit's memory.
    pub(crate) fn unit_report(&self) -> HoldReport {
        HoldReport::of(&events(&self.node.guest().serial().lines(), &self.unit.name))
    }

    /// Waits until the node's record is as wanted.
    pub(crate) async fn await_node(
        &self,
        what: &str,
        wanted: impl Fn(&NodeLiveUpdateStatus) -> bool,
    ) -> NodeLiveUpdateStatus {
        let found = wait::until(what, PATIENCE, async || {
            let record = self.plane.node_update(NODE).await.map(|record| record.status.unwrap_or_default());
            Ok(match record {
                Ok(status) if wanted(&status) => Answer::Yes(status),
                Ok(status) => Answer::not_yet(format!("{} {}", status.state, status.message)),
                Err(error) => Answer::not_yet(error),
            })
        });
        found.await.unwrap()
    }

    pub(crate) async fn text(&self, path: impl AsRef<Path>) -> String {
        self.node.output("cat", &[&path.as_ref().to_string_lossy()]).await.unwrap()
    }
}
