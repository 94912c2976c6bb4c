//! A guest that is a node of Kubernetes for real: a distribution's systemd, containerd and runc, and a kubelet.
//!
//! ```text
//!  node/build.sh ─► root, kubelet ─┐
//!  scripts/oci-image.sh ─► images ─┼─► disk ─► systemd ─► containerd ─► images imported ─► kubelet ─► pods
//!  certificates, units ────────────┘                                                         │
//!  API server on 127.0.0.1 ◄──────────────────────── 10.0.2.2, QEMU ◄────────────────────────┘
//!  controller ── 127.20.0.x:PORT ──► QEMU ──► the agent's pod, in the node's own network
//! ```
//! Nothing stands in for the kubelet here: the Node and its Lease are its own, and so are pods. What the lab's program
//! in the guest does is look on.

mod files;
mod images;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use liveupdate_crds::AGENT_ADDRESS_ANNOTATION;
use serde_json::json;

use super::{Boot, Forward, Guest, GuestOptions};
use crate::testbed::Testbed;
use crate::wait::{self, Answer};
use crate::{Error, Result};

pub use images::{AGENT_IMAGE, POD_IMAGE};

/// What takes half a minute on an idle machine takes minutes on a busy one.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// Programs of the lab in images of pods, and in the guest itself.
pub const POD_PROGRAM: &str = "/liveupdate-lab-pod";
/// The chart's seccomp profile for agents, which is on every node.
pub const SECCOMP_PROFILE: &str = "liveupdate-agent.json";
/// What pods write for the lab to read.
pub const PODS: &str = "/var/lib/lab/pods";

/// A node with a kubelet of its own. It is ended at once, as by a power cut, when this value goes; its Node stays.
#[derive(Debug)]
pub struct KubeNode {
    name: String,
    uid: String,
    guest: Guest,
}

impl KubeNode {
    /// Boots the guest and waits until its kubelet has made its Node Ready. The options are those of
    /// [`super::Kit::kube`] for the same name.
    ///
    /// # Errors
    /// When it does not come up, with the end of its console and of the kubelet's log.
    pub async fn start(
        bed: &Testbed,
        mut options: GuestOptions,
        address: Ipv4Addr,
        folder: &Path,
    ) -> Result<KubeNode> {
        let name = options.name.clone();
        let agent = SocketAddrV4::new(address, bed.agent_port());
        options.forwards.push(Forward { host: agent, guest_port: bed.agent_port() });
        let guest = Guest::start(options, folder).await?;
        guest.control().boot(1, PATIENCE).await?;
        let node = KubeNode { name, uid: String::new(), guest };
        let nodes: Api<Node> = Api::all(bed.admin()?);
        let found = node.await_ready(&nodes).await?;
        // Where the kubelet says that it is, nobody but QEMU finds it.
        let patch = json!({"metadata": {"annotations": {AGENT_ADDRESS_ANNOTATION: agent.to_string()}}});
        let patched = nodes.patch(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map_err(Error::api(format!("annotate Node/{}", node.name)))?;
        Ok(KubeNode { uid: found.uid().unwrap_or_default(), ..node })
    }

    async fn await_ready(&self, nodes: &Api<Node>) -> Result<Node> {
        let what = format!("Node/{} to be Ready", self.name);
        let ready = wait::until(&what, PATIENCE, async || {
            let Some(node) = nodes.get_opt(&self.name).await.unwrap_or_default() else {
                return Ok(Answer::not_yet("there is none"));
            };
            Ok(match condition(&node) {
                Some(condition) if condition.status == "True" => Answer::Yes(node),
                Some(condition) => Answer::not_yet(condition.message.clone().unwrap_or_default()),
                None => Answer::not_yet("it has no condition Ready"),
            })
        });
        match ready.await {
            Ok(node) => Ok(node),
            Err(error) => {
                Err(self.fail(format!("{error}\n{}", self.journal(&["kubelet", "containerd"]).await)))
            }
        }
    }

    /// The end of what units said.
    pub async fn journal(&self, units: &[&str]) -> String {
        let mut args = vec!["--no-pager", "--lines=60", "--output=short-monotonic"];
        args.extend(units.iter().flat_map(|unit| ["--unit", unit]));
        self.output("journalctl", &args).await.unwrap_or_else(|error| error.to_string())
    }

    /// Its name, and the guest's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// UID of its Node object.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The machine.
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// The kernel that runs, as it came up.
    ///
    /// # Errors
    /// When none came up.
    pub fn running(&self) -> Result<Boot> {
        let last = self.guest.control().boots().pop();
        last.ok_or_else(|| self.fail("no kernel came up"))
    }

    /// Runs a program in the guest that has to succeed.
    ///
    /// # Errors
    /// As [`super::Control::output`].
    pub async fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        self.guest.control().output(program, args, PATIENCE).await
    }

    /// An error of this node with the end of its console.
    pub fn fail(&self, reason: impl Into<String>) -> Error {
        self.guest.serial().fail(reason)
    }

    /// Waits until a pod is as wanted; `wanted` says what is missing.
    ///
    /// # Errors
    /// When it does not become so.
    pub async fn await_pod(
        &self,
        pods: &Api<Pod>,
        name: &str,
        wanted: impl Fn(&Pod) -> std::result::Result<(), String>,
    ) -> Result<Pod> {
        let what = format!("Pod/{name}");
        let found = wait::until(&what, PATIENCE, async || {
            Ok(match pods.get_opt(name).await {
                Ok(Some(pod)) => match wanted(&pod) {
                    Ok(()) => Answer::Yes(pod),
                    Err(missing) => Answer::not_yet(missing),
                },
                Ok(None) => Answer::not_yet("there is none"),
                Err(error) => Answer::not_yet(error),
            })
        });
        match found.await {
            Ok(pod) => Ok(pod),
            Err(error) => {
                Err(self.fail(format!("{error}\n{}", self.journal(&["kubelet", "containerd"]).await)))
            }
        }
    }

    /// Waits until systemd says something of a unit, as `ActiveState=active`.
    ///
    /// # Errors
    /// When it does not.
    pub async fn await_property(&self, unit: &str, wanted: &str) -> Result<()> {
        let property = wanted.split('=').next().unwrap_or_default();
        let show = ["show", "--property", property, unit];
        let what = format!("{wanted} of {unit}");
        let said = wait::until(&what, PATIENCE, async || {
            Ok(match self.output("systemctl", &show).await {
                Ok(text) if text.trim() == wanted => Answer::Yes(()),
                Ok(text) => Answer::not_yet(text),
                Err(error) => Answer::not_yet(error),
            })
        });
        match said.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail(format!("{error}\n{}", self.journal(&[unit]).await))),
        }
    }
}

/// A pod that runs, with all its containers ready.
///
/// # Errors
/// What is missing.
pub fn is_running(pod: &Pod) -> std::result::Result<(), String> {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let up = !containers.is_empty() && containers.iter().all(|container| container.ready);
    if status.phase.as_deref() == Some("Running") && up {
        return Ok(());
    }
    let begun = status.init_container_statuses.unwrap_or_default();
    let states: Vec<_> = begun.iter().chain(&containers).map(|container| &container.state).collect();
    Err(format!("{:?}: {states:?}", status.phase))
}

fn condition(node: &Node) -> Option<&k8s_openapi::api::core::v1::NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}
