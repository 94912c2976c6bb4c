//! Certificates that come from elsewhere: the controller's in a Secret, each agent's in a folder of its node. A release with
//! the documented values of `tls.mode: existingSecret` and then `certManager`; the test makes the certificates, as the
//! platform's CA or cert-manager would.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use liveupdate_crds::LiveUpdate;
use liveupdate_crds::conditions::LiveUpdateCondition;
use liveupdate_lab::ControlPlane;
use liveupdate_lab::certs::{Certificate, FleetCertificates, Request, Validity};
use liveupdate_lab::helm::{Helm, chart};
use liveupdate_lab::stand_in::{Machine, StandIn, StandInNode};
use liveupdate_lab::testbed::{machines, objects};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_proto::tls::Identity;
use serde_json::{Value, json};

use crate::bed::{NAMESPACE, file, plane_with_namespace, record};
use crate::handshake;

const LONG: Duration = Duration::from_secs(120);
/// As the documented values have them.
const SECRET: &str = "liveupdate-controller-tls";
const FOLDER: &str = "etc/liveupdate/tls";
/// Where the release begins, and the node that comes later.
const FIRST: &str = "hv-01";
const LATER: &str = "hv-02";

/// The nodes go before the control plane that they talk to.
struct Cluster {
    nodes: StandIn,
    plane: ControlPlane,
    client: Client,
    fleet: FleetCertificates,
}

impl Cluster {
    async fn start() -> Cluster {
        let (plane, client) = plane_with_namespace().await;
        let node = |name: &str, labels: BTreeMap<String, String>| StandInNode {
            name: name.to_owned(),
            labels,
            world: machines::world(),
        };
        let (pool, value) = machines::POOL;
        let nodes = vec![node(FIRST, [(pool.into(), value.into())].into()), node(LATER, BTreeMap::default())];
        let nodes = StandIn::start(&plane, nodes).await.unwrap();
        Cluster { nodes, plane, client, fleet: FleetCertificates::new().unwrap() }
    }

    fn machine(&self, node: &str) -> &Machine {
        self.nodes.machines().find(|machine| machine.name() == node).unwrap()
    }

    /// What docs/install.md has put onto a node.
    fn equip(&self, node: &str) {
        let machine = self.machine(node);
        let identity = Identity::node(node, machine.uid());
        let certificate = self.fleet.issue(&identity, Validity::Current).unwrap();
        certificate.write(self.fleet.authority().certificate_pem(), &machine.root().join(FOLDER)).unwrap();
    }

    /// What docs/install.md has put into the controller's Secret, as cert-manager writes it, too.
    async fn keep(&self, certificate: &Certificate) {
        let files = [
            ("ca.crt", self.fleet.authority().certificate_pem()),
            ("tls.crt", &certificate.certificate_pem),
            ("tls.key", &certificate.key_pem),
        ];
        let data = files.map(|(name, text)| (name.to_owned(), ByteString(text.as_bytes().to_vec())));
        let secret = Secret {
            metadata: ObjectMeta { name: Some(SECRET.into()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".into()),
            data: Some(data.into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        secrets.patch(SECRET, &PatchParams::apply("the-ca"), &Patch::Apply(&secret)).await.unwrap();
    }

    async fn kubectl(&self, args: &[&str]) -> String {
        let output = self.plane.kubectl(args).await.unwrap();
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
        output.stdout
    }

    /// What a person would look at.
    async fn seen(&self) -> String {
        self.kubectl(&["get", "pods,ds,deploy,lu,nlu", "-A", "-o", "wide"]).await
    }

    async fn helm(&self, args: &[&str]) {
        let helm = Helm::find().await.unwrap();
        let output = helm.run(&self.plane, NAMESPACE, args).await.unwrap();
        assert_eq!(output.code, Some(0), "{}{}\n{}", output.stdout, output.stderr, self.seen().await);
    }

    /// Brings the release to a file of documented values, on hypervisors.
    async fn release(&self, verb: &str, values: &str) {
        let (chart, values) = (chart(), chart().join(format!("ci/{values}-values.yaml")));
        let (pool, value) = machines::POOL;
        self.helm(&[
            verb,
            "liveupdate",
            &chart.to_string_lossy(),
            "--values",
            &values.to_string_lossy(),
            "--set=policy.spec.allowedAcknowledgements={VfioPciLiveUpdate}",
            &format!("--set=agent.nodeSelector.{pool}={value}"),
            "--wait",
            "--timeout=120s",
        ])
        .await;
    }

    async fn pods(&self, component: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let selector = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
        pods.list(&selector).await.unwrap().items
    }

    /// Waits for the record of a node that has answered.
    async fn record(&self, node: &str) {
        if let Err(error) = record(&self.client, node, LONG).await {
            panic!("{error}\n{}", self.seen().await);
        }
    }

    /// Takes all nodes with an agent to a release; so many there are.
    async fn update(&self, name: &str, release: &str, nodes: i32) {
        let updates: Api<LiveUpdate> = Api::all(self.client.clone());
        let update = machines::update(name, release);
        updates.patch(name, &PatchParams::apply("a-team"), &Patch::Apply(&update)).await.unwrap();
        let what = format!("LiveUpdate {name} to succeed");
        let waited = until(&what, LONG, async || {
            let status = updates.get(name).await.ok().and_then(|update| update.status);
            let succeeded = |s: &liveupdate_crds::LiveUpdateStatus| {
                objects::is(&s.conditions, LiveUpdateCondition::Succeeded)
            };
            Ok(match status {
                Some(status) if succeeded(&status) => Answer::Yes(status),
                status => Answer::not_yet(format!("{status:?}")),
            })
        });
        let status = match waited.await {
            Ok(status) => status,
            Err(error) => panic!("{error}\n{}", self.seen().await),
        };
        assert_eq!((status.counts.updated, status.failures), (nodes, 0), "{}", self.seen().await);
        self.kubectl(&["delete", "lu", name, "--timeout=60s"]).await;
    }

    /// Each process of the controller shows this certificate at its port.
    async fn shows(&self, certificate: &Certificate) {
        let wanted = pem::parse(&certificate.certificate_pem).unwrap().into_contents();
        let authority = self.fleet.authority().certificate_pem();
        for pod in self.pods("controller").await {
            until(&format!("the certificate of {}", pod.name_any()), LONG, async || {
                Ok(match handshake::shown(authority, &pod, 9444, &Identity::Controller).await {
                    Answer::Yes(shown) if shown == wanted => Answer::Yes(()),
                    Answer::Yes(_) => Answer::not_yet("another one"),
                    Answer::NotYet(seen) => Answer::NotYet(seen),
                })
            })
            .await
            .unwrap();
        }
    }

    /// What cert-manager would make of the chart's Certificate.
    async fn as_cert_manager(&self) -> Certificate {
        let text =
            self.kubectl(&["get", "certificate", "liveupdate-controller", "-n", NAMESPACE, "-o", "json"]);
        let spec = serde_json::from_str::<Value>(&text.await).unwrap()["spec"].take();
        assert_eq!(spec["secretName"], SECRET);
        // Whom agents ask for: the one URI, and the name that the controller is dialled by.
        assert_eq!(spec["uris"], json!([Identity::Controller.uri()]));
        assert_eq!(spec["dnsNames"], json!([Identity::Controller.dns_name()]));
        // It is called by agents, and calls them. These are the usages of `Request::peer` below.
        assert_eq!(spec["usages"], json!(["digital signature", "server auth", "client auth"]));
        assert_ne!(spec["isCA"], true);
        let names = |kind: &str| spec[kind].as_array().unwrap().clone();
        let name = |name: &Value| name.as_str().unwrap().to_owned();
        let request = Request::peer("");
        let request = names("dnsNames").iter().fold(request, |request, dns| request.dns(name(dns)));
        let request = names("uris").iter().fold(request, |request, uri| request.uri(name(uri)));
        self.fleet.authority().issue(&request).unwrap()
    }
}

fn identities(pods: &[Pod]) -> Vec<(Option<String>, i32)> {
    let restarts =
        |pod: &Pod| pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count;
    pods.iter().map(|pod| (pod.uid(), restarts(pod))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn certificates_of_ones_own_and_of_cert_manager_are_as_good_as_the_controllers() {
    let cluster = Cluster::start().await;
    let own = cluster.fleet.issue(&Identity::Controller, Validity::Current).unwrap();
    cluster.keep(&own).await;
    cluster.equip(FIRST);
    cluster.release("install", "existing-secret").await;
    cluster.record(FIRST).await;
    cluster.shows(&own).await;
    cluster.helm(&["test", "liveupdate", "--timeout=120s"]).await;
    cluster.update("own", machines::NEW, 1).await;
    assert_eq!(cluster.machine(FIRST).world().jumps().unwrap().len(), 1);

    // Another hypervisor, which nobody has equipped: its agent does not start before that.
    cluster.kubectl(&["label", "node", LATER, &format!("{}={}", machines::POOL.0, machines::POOL.1)]).await;
    until("the later node's agent", LONG, async || {
        let pods = cluster.pods("agent").await.len();
        Ok(if pods == 2 { Answer::Yes(()) } else { Answer::not_yet(pods) })
    })
    .await
    .unwrap();
    // Of what does not happen one cannot await the end.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let phases = cluster.pods("agent").await;
    let phases = phases.iter().map(|pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()));
    assert_eq!(phases.filter(|phase| *phase == Some("Running")).count(), 1, "{}", cluster.seen().await);
    cluster.equip(LATER);
    cluster.record(LATER).await;

    // The same Secret from cert-manager: its certificate is as good, and is shown without a restart.
    cluster.kubectl(&["apply", "-f", &file("foreign-kinds.yaml").to_string_lossy()]).await;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/certificates.cert-manager.io"]).await;
    let before = identities(&cluster.pods("controller").await);
    cluster.release("upgrade", "cert-manager").await;
    let managed = cluster.as_cert_manager().await;
    cluster.keep(&managed).await;
    cluster.shows(&managed).await;
    assert_eq!(identities(&cluster.pods("controller").await), before);
    cluster.update("managed", machines::OLD, 2).await;

    // Nobody can tell agents to take keepers off, and docs/uninstall.md says so.
    cluster.helm(&["uninstall", "liveupdate", "--wait", "--timeout=120s"]).await;
    assert!(cluster.nodes.machines().all(|machine| machine.has_keeper()), "{}", cluster.seen().await);
}
