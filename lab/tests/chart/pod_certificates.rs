//! Certificates by a signer of the platform, fetched and renewed by kubelets: a release with `tls.mode: podCertificate`.
//! The requests are the API server's own kind; the lab stands in for kubelets and for the platform's signer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use liveupdate_crds::conditions::LiveUpdateCondition;
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};
use liveupdate_host::simulated::WorldSpec;
use liveupdate_lab::ControlPlane;
use liveupdate_lab::helm::{Helm, chart};
use liveupdate_lab::pod_certificates::{PodCertificateRequest, Signer, SignerOptions, Verdict, resource};
use liveupdate_lab::stand_in::{Machine, Settings, StandIn, StandInNode};
use liveupdate_lab::testbed::{machines, objects};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_proto::tls::Identity;

use crate::bed::{NAMESPACE, plane_with_namespace, record};
use crate::handshake;

const LONG: Duration = Duration::from_secs(120);
/// The API wants ten minutes between a certificate's beginning and its renewal, and lets it begin five minutes ago.
const RENEW_AFTER: Duration = Duration::from_secs(600);
const BACKDATE: Duration = Duration::from_secs(290);
/// So that a certificate is renewed three seconds after it was made.
const EARLY: Duration = Duration::from_secs(307);

/// Where the controller runs: nobody updates it. Its agent gets another node's name.
const APART: &str = "hv-03";

/// The nodes go before the control plane that they talk to.
struct Cluster {
    nodes: StandIn,
    signer: Signer,
    plane: ControlPlane,
    client: Client,
}

fn node(name: &str) -> StandInNode {
    let labels = if name == APART { BTreeMap::new() } else { [pool()].into() };
    // A node takes longer than a certificate is kept.
    let mut world: WorldSpec = machines::unhurried();
    world.durations.preserve = 4_000;
    StandInNode { name: name.to_owned(), labels, world }
}

fn pool() -> (String, String) {
    (machines::POOL.0.to_owned(), machines::POOL.1.to_owned())
}

impl Cluster {
    async fn start() -> Cluster {
        let (plane, client) = plane_with_namespace().await;
        let options =
            SignerOptions { namespace: NAMESPACE.to_owned(), backdate: BACKDATE, renew_after: RENEW_AFTER };
        let signer = Signer::start(&plane, options).await.unwrap();
        signer.publish().await.unwrap();
        let nodes = ["hv-01", "hv-02", APART].map(node).into();
        let settings = Settings { certificates_early: EARLY };
        let nodes = StandIn::start_with(&plane, nodes, settings).await.unwrap();
        Cluster { nodes, signer, plane, client }
    }

    async fn helm(&self, args: &[&str]) {
        let helm = Helm::find().await.unwrap();
        let output = helm.run(&self.plane, NAMESPACE, args).await.unwrap();
        assert_eq!(output.code, Some(0), "{}{}\n{}", output.stdout, output.stderr, self.seen().await);
    }

    /// What a person would look at.
    async fn seen(&self) -> String {
        let args = ["get", "pods,ds,deploy,lu,nlu,podcertificaterequests", "-A", "-o", "wide"];
        self.plane.kubectl(args).await.unwrap().stdout
    }

    fn machine(&self, node: &str) -> &Arc<Machine> {
        self.nodes.machines().find(|machine| machine.name() == node).unwrap()
    }

    fn identity(&self, node: &str) -> Identity {
        Identity::node(node, self.machine(node).uid())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The one pod of a part of the release, on a node where there is one on each.
    async fn pod(&self, component: &str, node: &str) -> Pod {
        let selector = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
        let pods = self.pods().list(&selector).await.unwrap().items;
        let here = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
        pods.into_iter().find(here).unwrap_or_else(|| panic!("no {component} on {node}"))
    }

    /// The certificate that is shown at a pod's port to whoever comes now.
    async fn shown(
        &self,
        pod: &Pod,
        port: u16,
        identity: &Identity,
    ) -> liveupdate_lab::Result<Answer<Vec<u8>>> {
        Ok(handshake::shown(self.signer.authority(), pod, port, identity).await)
    }

    async fn certificate(&self, pod: &Pod, port: u16, identity: &Identity) -> Vec<u8> {
        let what = format!("a certificate of {identity}");
        until(&what, LONG, async || self.shown(pod, port, identity).await).await.unwrap()
    }

    /// Waits until another certificate is shown there.
    async fn renewed(&self, pod: &Pod, port: u16, identity: &Identity, before: &[u8]) {
        until(&format!("another certificate of {identity}"), LONG, async || {
            Ok(match self.shown(pod, port, identity).await? {
                Answer::Yes(now) if now != before => Answer::Yes(()),
                Answer::Yes(_) => Answer::not_yet("that of before"),
                Answer::NotYet(seen) => Answer::NotYet(seen),
            })
        })
        .await
        .unwrap();
    }

    /// Waits for the record of a node that has answered.
    async fn record(&self, node: &str) {
        if let Err(error) = record(&self.client, node, LONG).await {
            panic!("{error}\n{}", self.seen().await);
        }
    }

    async fn update(&self, what: &str, wanted: impl Fn(&LiveUpdate) -> bool) -> LiveUpdate {
        let updates: Api<LiveUpdate> = Api::all(self.client.clone());
        let found = until(what, LONG, async || {
            Ok(match updates.get("roll").await {
                Ok(update) if wanted(&update) => Answer::Yes(update),
                Ok(update) => Answer::not_yet(format!("{:?}", update.status)),
                Err(error) => Answer::not_yet(error),
            })
        });
        match found.await {
            Ok(update) => update,
            Err(error) => panic!("{error}\n{}", self.seen().await),
        }
    }

    /// How many requests of a pod the signer has answered with a certificate.
    async fn issued(&self, pod: &Pod) -> usize {
        let requests: Api<PodCertificateRequest> =
            Api::namespaced_with(self.client.clone(), NAMESPACE, &resource());
        let all = requests.list(&ListParams::default()).await.unwrap().items;
        let own = all.iter().filter(|request| Some(request.spec.pod_uid.clone()) == pod.uid());
        own.filter(|request| {
            let status = request.status.as_ref();
            status.is_some_and(|status| matches!(status.verdict(), Verdict::Issued { .. }))
        })
        .count()
    }

    /// Waits until the controller has said a line with all of these.
    async fn told(&self, controller: &Pod, parts: &[&str]) {
        let log = self.plane.logs().join(format!("{}-controller.log", controller.name_any()));
        until(&format!("a line with {parts:?}"), LONG, async || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let found = text.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            Ok(if found { Answer::Yes(()) } else { Answer::not_yet(&text) })
        })
        .await
        .unwrap();
    }
}

fn updated(update: &LiveUpdate) -> i32 {
    update.status.as_ref().map_or(0, |status| status.counts.updated)
}

fn restarts(pod: &Pod) -> i32 {
    pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_signer_of_the_platform_gives_certificates_that_kubelets_renew() {
    let cluster = Cluster::start().await;
    cluster.signer.mistake(APART, cluster.identity("hv-01"));
    let (chart, values) = (chart(), chart().join("ci/pod-certificate-values.yaml"));
    cluster
        .helm(&[
            "install",
            "liveupdate",
            &chart.to_string_lossy(),
            "--values",
            &values.to_string_lossy(),
            "--set=policy.spec.allowedAcknowledgements={VfioPciLiveUpdate}",
            "--set=controller.replicas=1",
            &format!("--set=controller.nodeSelector.kubernetes\\.io/hostname={APART}"),
            "--wait",
            "--timeout=120s",
        ])
        .await;

    // Whose certificate names its node is known; the other is refused, and told apart by both names.
    for node in ["hv-01", "hv-02"] {
        cluster.record(node).await;
    }
    let controller = cluster.pod("controller", APART).await;
    cluster.told(&controller, &["refused a knock", "WrongPeer", "/node/hv-01/", "/node/hv-03/"]).await;
    let records: Api<NodeLiveUpdate> = Api::all(cluster.client.clone());
    assert!(records.get_opt(APART).await.unwrap().is_none(), "{}", cluster.seen().await);

    // While nodes are updated one after the other, the controller and the agent that waits get their next ones.
    let updates: Api<LiveUpdate> = Api::all(cluster.client.clone());
    let update = machines::update("roll", machines::NEW);
    updates.patch("roll", &PatchParams::apply("a-team"), &Patch::Apply(&update)).await.unwrap();
    let under_way =
        |update: &LiveUpdate| update.status.as_ref().is_some_and(|status| !status.in_flight.is_empty());
    let begun = cluster.update("a node is under way", under_way).await.status.unwrap();
    let waits = if begun.in_flight[0].node == "hv-01" { "hv-02" } else { "hv-01" };
    let agent = cluster.pod("agent", waits).await;
    let own = cluster.identity(waits);
    let shown = tokio::join!(
        cluster.certificate(&controller, 9444, &Identity::Controller),
        cluster.certificate(&agent, 9443, &own)
    );
    tokio::join!(
        cluster.renewed(&controller, 9444, &Identity::Controller, &shown.0),
        cluster.renewed(&agent, 9443, &own, &shown.1)
    );
    assert_eq!(cluster.machine(waits).world().jumps().unwrap().len(), 0, "{waits} has jumped");
    assert_eq!(restarts(&cluster.pod("agent", waits).await), 0);
    let middle = updates.get("roll").await.unwrap();
    assert!(updated(&middle) < 2, "the rollout was over before");

    let ended = cluster
        .update("Succeeded", |update| {
            let status = update.status.as_ref();
            status.is_some_and(|status| objects::is(&status.conditions, LiveUpdateCondition::Succeeded))
        })
        .await;
    assert_eq!((updated(&ended), ended.status.unwrap().failures), (2, 0), "{}", cluster.seen().await);
    let after = cluster.pod("controller", APART).await;
    assert_eq!((after.uid(), restarts(&after)), (controller.uid(), 0));
    let issued = cluster.issued(&controller).await;
    assert!(issued > 2, "{issued} certificates of the controller");
    assert!(records.get_opt(APART).await.unwrap().is_none(), "{}", cluster.seen().await);

    // The signer corrects itself: the same node, under its own name.
    cluster.signer.no_mistakes();
    let agent = cluster.pod("agent", APART).await;
    cluster.pods().delete(&agent.name_any(), &DeleteParams::default()).await.unwrap();
    cluster.record(APART).await;
    cluster.helm(&["test", "liveupdate", "--timeout=120s"]).await;
}
