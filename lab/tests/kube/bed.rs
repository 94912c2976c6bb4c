//! One node of a control plane, with all that a test runs on it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Instant, SystemTime};

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use liveupdate_crds::NodeLiveUpdateStatus;
use liveupdate_lab::helm::{Helm, chart};
use liveupdate_lab::testbed::NAMESPACE;
use liveupdate_lab::vm::hold::events;
use liveupdate_lab::vm::kube::{AGENT_IMAGE, PATIENCE, POD_IMAGE, PODS, SECCOMP_PROFILE, is_running};
use liveupdate_lab::vm::{Hold, HoldReport, Kit, KitBundle, KubeNode, Line, Programs, Variant, updates};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab::{RunDir, Testbed, TestbedOptions, install};

pub(crate) const NODE: &str = "node-1";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 21, 0, 1);
pub(crate) const KEEPER: &str = "liveupdate-keeper.service";
pub(crate) const BYSTANDER: &str = "/var/lib/lab/pods/bystander";
/// In the next kernel the kubelet waits for a word: until then what pods held is the keeper's.
const KUBELET: (&str, &str) = (
    "/etc/systemd/system/kubelet.service.d/lab.conf",
    "[Service]\nTimeoutStartSec=infinity\nExecStartPre=/bin/sh -c 'until [ -e /run/lab-kubelet ]; do sleep 0.2; done'\n",
);
const KUBELET_GOES: &str = "/run/lab-kubelet";
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
        let options = TestbedOptions {
            controller_args: vec!["--tls-mode=self-managed".into()],
            ..TestbedOptions::default()
        };
        let mut plane = Testbed::start(options, Vec::new()).await.unwrap();
        plane.start_controller().await.unwrap();
        plane.apply_policy(updates::policy()).await.unwrap();
        let options = kit.kube(&plane, NODE, "pool=node-1", Variant::Lu1).unwrap();
        let node = KubeNode::start(&plane, options, ADDRESS, folder.path()).await.unwrap();
        let bed = Bed { node, plane, target, unit: Hold::new("vm-a"), pod: Hold::new("vm-b"), folder };
        bed.install(&kit.signer()).await;
        bed.hold().await;
        bed
    }

    /// The chart's DaemonSet, its account and the key of who signs bundles, until its pod runs. Controllers are this
    /// machine's, and the port at which they are knocked at.
    async fn install(&self, signer: &str) {
        let (repository, tag) = AGENT_IMAGE.rsplit_once(':').unwrap();
        let (agent, knock) = (self.plane.agent_port(), self.plane.knock_port());
        let images =
            format!("images.agent.repository={repository},images.agent.tag={tag},images.pullPolicy=Never");
        let ports = format!("agent.port={agent},controller.port={knock}");
        let chart = chart().to_string_lossy().into_owned();
        let key = self.folder.path().join("lab.pub");
        std::fs::write(&key, signer).unwrap();
        let key = format!("--set-file=bundles.signers.lab={}", key.display());
        let seccomp = format!(
            "agent.seccompProfile.type=Localhost,agent.seccompProfile.localhostProfile={SECCOMP_PROFILE}"
        );
        let mut args = vec!["template", "liveupdate", &chart, "--set", &images, "--set", &ports, &key];
        args.extend(["--set", &seccomp]);
        args.extend(["--show-only=templates/accounts.yaml", "--show-only=templates/agent.yaml"]);
        args.push("--show-only=templates/bundles.yaml");
        let helm = Helm::find().await.unwrap();
        let rendered = helm.run(&self.plane.plane, NAMESPACE, args).await.unwrap();
        assert_eq!(rendered.code, Some(0), "{}", rendered.stderr);
        self.apply("agent.yaml", &rendered.stdout).await;
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
        control.write(&format!("{PODS}/vm-b.seed"), 0o600, &seed(&self.pod), PATIENCE).await.unwrap();
        control.write("/run/vm-a.seed", 0o600, &seed(&self.unit), PATIENCE).await.unwrap();
        control.write("/etc/systemd/system/vm-a.service", 0o644, HOLDER_UNIT, PATIENCE).await.unwrap();
        self.node.output("systemctl", &["enable", "--now", "vm-a.service"]).await.unwrap();
        self.apply("pods.yaml", &include_str!("pods.yaml").replace("IMAGE", POD_IMAGE)).await;
        for name in ["vm-b", "vm-c", "bystander"] {
            self.node.await_pod(&self.pods("default"), name, is_running).await.unwrap();
        }
        self.node.guest().serial().wait_for("liveupdate-hold: vm-a: verdict", PATIENCE).await.unwrap();
        for name in ["vm-b", "vm-c"] {
            self.await_pod_line(name, "verdict").await;
        }
        control.write(KUBELET.0, 0o644, KUBELET.1, PATIENCE).await.unwrap();
        self.node.output("systemctl", &["daemon-reload"]).await.unwrap();
    }

    /// Lets the kubelet of the next kernel start.
    pub(crate) async fn start_kubelet(&self) {
        self.node.guest().control().write(KUBELET_GOES, 0o644, "", PATIENCE).await.unwrap();
    }

    async fn apply(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        install::paths(&self.plane.admin().unwrap(), &[path]).await.unwrap();
    }

    /// Waits until a pod that holds has said something, from its first start on.
    pub(crate) async fn await_pod_line(&self, name: &str, what: &str) {
        let line = format!("liveupdate-hold: {name}: {what}");
        let said = wait::until(&line, PATIENCE, async || {
            let said = self.node.output("cat", &[&format!("{PODS}/{name}.log")]).await;
            Ok(match said {
                Ok(log) if log.contains(&line) => Answer::Yes(()),
                Ok(log) => Answer::not_yet(log),
                Err(error) => Answer::not_yet(error),
            })
        });
        if let Err(error) = said.await {
            panic!("{error}\n{}", self.node.journal(&[KEEPER, "kubelet"]).await);
        }
    }

    pub(crate) fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.plane.admin().unwrap(), namespace)
    }

    /// What became of the unit's memory.
    pub(crate) fn unit_report(&self) -> HoldReport {
        HoldReport::of(&events(&self.node.guest().serial().lines(), &self.unit.name))
    }

    /// What became of the pod's, as it says on the node's own disk, over the jump.
    pub(crate) async fn pod_report(&self) -> HoldReport {
        let said = self.text(format!("{PODS}/{}.log", self.pod.name)).await;
        let line = |text: &str| Line { at: Instant::now(), wall: SystemTime::now(), text: text.to_owned() };
        HoldReport::of(&events(&said.lines().map(line).collect::<Vec<_>>(), &self.pod.name))
    }

    /// The keeper's environment as systemd made it, by name.
    pub(crate) async fn keeper_variable(&self, name: &str) -> Option<String> {
        let show = ["show", "--property=MainPID", "--value", KEEPER];
        let pid = self.node.output("systemctl", &show).await.unwrap();
        let environment = self.text(format!("/proc/{}/environ", pid.trim())).await;
        let mut variables = environment.split('\0').filter_map(|variable| variable.split_once('='));
        variables.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
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

    /// Which seccomp mode the agent's process is in, as the kernel says it.
    pub(crate) async fn agents_seccomp(&self) -> String {
        let found = self.node.output("pgrep", &["--full", "^/liveupdate-agent --listen"]).await.unwrap();
        let status = self.text(format!("/proc/{}/status", found.trim())).await;
        let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
        mode.unwrap_or_default().trim().to_owned()
    }

    pub(crate) async fn text(&self, path: impl AsRef<Path>) -> String {
        self.node.output("cat", &[&path.as_ref().to_string_lossy()]).await.unwrap()
    }
}
