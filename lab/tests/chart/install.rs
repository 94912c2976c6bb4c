//! The release from its first day to its last: installed with default values, tested, upgraded in the middle of a rollout,
//! and uninstalled. Pods are made by the real controllers and bound by the real scheduler; the lab stands in for kubelets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use liveupdate_crds::conditions::LiveUpdateCondition;
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate};
use liveupdate_host::simulated::WorldSpec;
use liveupdate_lab::control_plane::Output;
use liveupdate_lab::helm::{Helm, chart};
use liveupdate_lab::stand_in::{StandIn, StandInNode};
use liveupdate_lab::testbed::{machines, objects};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::{Account, ControlPlane};

use crate::bed::plane_with_nodes;

const NAMESPACE: &str = "liveupdate-system";
const NODES: usize = 4;
const LONG: Duration = Duration::from_secs(180);

/// The nodes go before the control plane that they talk to.
struct Cluster {
    nodes: StandIn,
    plane: ControlPlane,
    helm: Helm,
    client: Client,
}

/// A machine with a guest of so much memory that a rollout over all of them outlasts an upgrade.
fn slow() -> WorldSpec {
    let mut world = machines::unhurried();
    world.durations.preserve = 5_000;
    world
}

impl Cluster {
    async fn start(nodes: usize) -> Cluster {
        let plane = plane_with_nodes().await;
        let node = |number: usize| StandInNode {
            name: format!("hv-{number:02}"),
            labels: [(machines::POOL.0.to_owned(), machines::POOL.1.to_owned())].into(),
            world: slow(),
        };
        let nodes = StandIn::start(&plane, (1..=nodes).map(node).collect()).await.unwrap();
        let client = plane.client(&Account::admin()).unwrap();
        Cluster { helm: Helm::find().await.unwrap(), plane, nodes, client }
    }

    async fn helm(&self, args: &[&str]) -> Output {
        let chart = chart().to_string_lossy().into_owned();
        let args = args.iter().map(|arg| if *arg == "CHART" { chart.clone() } else { (*arg).to_owned() });
        let output = self.helm.run(&self.plane, NAMESPACE, args).await.unwrap();
        assert_eq!(output.code, Some(0), "{}{}\n{}", output.stdout, output.stderr, self.pods().await);
        output
    }

    /// An uninstall changes nothing, and its Job's log says why.
    async fn assert_uninstall_refused(&self, why: &str) {
        let args = ["uninstall", "liveupdate", "--wait", "--timeout=180s"];
        let refused = self.helm.run(&self.plane, NAMESPACE, args).await.unwrap();
        assert_ne!(refused.code, Some(0), "{}", refused.stdout);
        let logs = std::fs::read_dir(self.plane.logs()).unwrap().map(|entry| entry.unwrap().path());
        let ours = |path: &std::path::PathBuf| path.to_string_lossy().contains("/liveupdate-uninstall-");
        let said: String = logs.filter(ours).map(|log| std::fs::read_to_string(log).unwrap()).collect();
        assert!(said.contains(why), "{said}");
        // In the middle of a rollout one may be off, and its keeper with it: only an uninstall takes the unit away.
        assert!(self.nodes.machines().all(|machine| machine.has_keeper()), "a keeper is gone");
        assert_eq!((self.pods_of("agent").await.len(), self.pods_of("controller").await.len()), (NODES, 2));
    }

    /// What a person would look at.
    async fn pods(&self) -> String {
        let args = ["get", "pods,ds,deploy,lu,nlu", "-A", "-o", "wide"];
        self.plane.kubectl(args).await.unwrap().stdout
    }

    /// Names of all objects of all kinds but those that come and go by themselves.
    async fn everything(&self) -> BTreeSet<String> {
        let kinds = self.plane.kubectl(["api-resources", "--verbs=list", "-o", "name"]).await.unwrap().stdout;
        let passing = ["events", "leases", "endpointslices", "componentstatuses", "pods.metrics"];
        let kinds: Vec<&str> =
            kinds.lines().filter(|kind| !passing.iter().any(|passing| kind.starts_with(passing))).collect();
        let args = ["get", &kinds.join(","), "-A", "--ignore-not-found", "-o", "name", "--show-kind"];
        let found = self.plane.kubectl(args).await.unwrap();
        assert_eq!(found.code, Some(0), "{}", found.stderr);
        let leases = [
            "get",
            "leases",
            "-A",
            "-o",
            "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}",
        ];
        let leases = self.plane.kubectl(leases).await.unwrap().stdout;
        let leases =
            leases.lines().filter(|lease| !lease.contains("apiserver")).map(|lease| format!("lease {lease}"));
        found.stdout.lines().map(str::to_owned).chain(leases).collect()
    }

    /// Waits for nodes to answer and to be as wanted.
    async fn records(&self, what: &str, wanted: impl Fn(&NodeLiveUpdate) -> bool) -> Vec<NodeLiveUpdate> {
        let records: Api<NodeLiveUpdate> = Api::all(self.client.clone());
        until(what, LONG, async || {
            Ok(match records.list(&ListParams::default()).await {
                Ok(list)
                    if list.items.len() == self.nodes.machines().count()
                        && list.items.iter().all(&wanted) =>
                {
                    Answer::Yes(list.items)
                }
                Ok(list) => Answer::not_yet(format!("{} records", list.items.len())),
                Err(error) => Answer::not_yet(error),
            })
        })
        .await
        .unwrap()
    }

    async fn update(&self, what: &str, wanted: impl Fn(&LiveUpdate) -> bool) -> LiveUpdate {
        let updates: Api<LiveUpdate> = Api::all(self.client.clone());
        let found = until(what, LONG, async || {
            Ok(match updates.get("roll").await {
                Ok(update) if wanted(&update) => Answer::Yes(update),
                Ok(update) => Answer::not_yet(format!(
                    "{:?}",
                    update.status.map(|status| (status.state, status.summary))
                )),
                Err(error) => Answer::not_yet(error),
            })
        });
        match found.await {
            Ok(update) => update,
            Err(error) => panic!("{error}\n{}", self.pods().await),
        }
    }

    /// The pods of a part of the release, by name.
    async fn pods_of(&self, component: &str) -> BTreeMap<String, Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        let selector = ListParams::default().labels(&format!("app.kubernetes.io/component={component}"));
        pods.list(&selector).await.unwrap().items.into_iter().map(|pod| (pod.name_any(), pod)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn installed_tested_upgraded_in_the_middle_of_a_rollout_and_uninstalled() {
    let cluster = Cluster::start(NODES).await;
    let before = cluster.everything().await;

    // Installed, as docs/install.md has it.
    let image = "images.agent.repository=registry.example/liveupdate-agent";
    let install =
        ["install", "liveupdate", "CHART", "--create-namespace", "--wait", "--timeout=180s", "--set", image];
    cluster.helm(&install).await;
    cluster
        .records("all nodes have enrolled and answered", |record| {
            record.status.as_ref().is_some_and(|status| !status.kernel.is_empty())
        })
        .await;
    assert!(cluster.nodes.machines().all(|machine| machine.keeper_runs()));
    let tested = cluster.helm(&["test", "liveupdate", "--timeout=180s"]).await;
    assert!(tested.stdout.contains("Succeeded"), "{}", tested.stdout);

    // The platform allows the risk.
    let allow = "policy.spec.allowedAcknowledgements={VfioPciLiveUpdate}";
    cluster.helm(&["upgrade", "liveupdate", "CHART", "--reset-then-reuse-values", "--set", allow]).await;
    let kept = cluster.helm(&["get", "values", "liveupdate"]).await.stdout;
    assert!(kept.contains("registry.example/liveupdate-agent"), "{kept}");

    // A rollout, and in its middle all pods of the release are replaced.
    let updates: Api<LiveUpdate> = Api::all(cluster.client.clone());
    let update = machines::update("roll", machines::NEW);
    updates.patch("roll", &PatchParams::apply("a-team"), &Patch::Apply(&update)).await.unwrap();
    cluster
        .update("a node was updated", |update| {
            update.status.as_ref().is_some_and(|status| status.counts.updated > 0)
        })
        .await;
    let (agents, controllers) = (cluster.pods_of("agent").await, cluster.pods_of("controller").await);
    assert_eq!((agents.len(), controllers.len()), (NODES, 2));
    let newer = "agent.podAnnotations.version=2,controller.podAnnotations.version=2";
    cluster
        .helm(&["upgrade", "liveupdate", "CHART", "--reset-then-reuse-values", "--set-string", newer])
        .await;
    let middle = updates.get("roll").await.unwrap().status.unwrap().counts.updated;
    assert!(middle < i32::try_from(NODES).unwrap(), "the rollout was over before the upgrade");
    cluster
        .assert_uninstall_refused("LiveUpdate roll has attempts in flight; let them end, or abort it")
        .await;
    // Helm upgrades nothing that was to be uninstalled; docs/uninstall.md says how to go on.
    cluster.helm(&["rollback", "liveupdate", "3"]).await;
    cluster
        .helm(&["upgrade", "liveupdate", "CHART", "--reset-then-reuse-values", "--set-string", newer])
        .await;
    let ended = cluster.update("Succeeded", |update| {
        let status = update.status.as_ref();
        status.is_some_and(|status| objects::is(&status.conditions, LiveUpdateCondition::Succeeded))
    });
    let status = ended.await.status.unwrap();
    assert_eq!(
        (status.counts.updated, status.failures),
        (i32::try_from(NODES).unwrap(), 0),
        "{}",
        cluster.pods().await
    );
    until("the last pod of before the upgrade", LONG, async || {
        let now = [cluster.pods_of("agent").await, cluster.pods_of("controller").await];
        let old = agents.keys().chain(controllers.keys());
        let left: Vec<&String> = old.filter(|pod| now.iter().any(|now| now.contains_key(*pod))).collect();
        Ok(if left.is_empty() { Answer::Yes(()) } else { Answer::not_yet(format!("{left:?}")) })
    })
    .await
    .unwrap();
    for machine in cluster.nodes.machines() {
        let jumps = machine.world().jumps().unwrap();
        assert_eq!(jumps.len(), 1, "{} jumped for {jumps:?}", machine.name());
    }
    cluster.update("at rest", |update| update.finalizers().is_empty()).await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    for node in nodes.list(&ListParams::default()).await.unwrap() {
        let ours = node.annotations().keys().filter(|key| key.starts_with("liveupdate.dev/")).count();
        assert_eq!((node.spec.unwrap_or_default().taints, ours), (None, 0), "{:?}", node.metadata.name);
    }

    // Uninstalled: what is left is what docs/uninstall.md says.
    cluster.helm(&["uninstall", "liveupdate", "--wait", "--timeout=180s"]).await;
    assert!(cluster.nodes.machines().all(|machine| !machine.has_keeper()), "a keeper was left on its node");
    until("the end of all pods", LONG, async || {
        let left = cluster.pods_of("agent").await.len() + cluster.pods_of("controller").await.len();
        Ok(if left == 0 { Answer::Yes(()) } else { Answer::not_yet(left) })
    })
    .await
    .unwrap();
    let after = cluster.everything().await;
    let kinds = ["liveupdates", "nodeliveupdates", "liveupdatepolicies"];
    let kept = |name: &str| {
        kinds.iter().any(|kind| name.contains(&format!("{kind}.liveupdate.dev")))
            || [
                "liveupdate.liveupdate.dev/",
                "nodeliveupdate.liveupdate.dev/",
                "liveupdatepolicy.liveupdate.dev/",
                // What serves the kinds, made by the API server of them.
                "apiservice.apiregistration.k8s.io/v1alpha1.liveupdate.dev",
            ]
            .iter()
            .any(|kind| name.starts_with(kind))
            || name == "lease liveupdate-system/liveupdate-controller"
            || name == "namespace/liveupdate-system"
    };
    let more: Vec<&String> = after.difference(&before).filter(|name| !kept(name)).collect();
    // What the namespace brings by itself.
    let more: Vec<&&String> = more
        .iter()
        .filter(|name| !["serviceaccount/default", "configmap/kube-root-ca.crt"].contains(&name.as_str()))
        .collect();
    assert!(more.is_empty(), "left over: {more:?}");
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), Vec::<&String>::new(), "gone");
}

/// What the Lease counts, where there is one.
async fn epoch(cluster: &Cluster) -> Option<u64> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let lease = leases.get_opt("liveupdate-controller").await.unwrap()?;
    lease.annotations().get("liveupdate.dev/epoch")?.parse().ok()
}

/// Nodes keep the highest epoch that they have seen over an uninstall, so that the next release has to count on from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_installs_again_is_heard_by_agents_that_remember_the_release_before() {
    let cluster = Cluster::start(1).await;
    let values = chart().join("ci/small-values.yaml").to_string_lossy().into_owned();
    let install = async || {
        let args = [
            "install",
            "liveupdate",
            "CHART",
            "--create-namespace",
            "--wait",
            "--timeout=180s",
            "--values",
            &values,
        ];
        cluster.helm(&args).await;
        cluster
            .records("the node has enrolled and answered", |record| {
                record.status.as_ref().is_some_and(|status| !status.kernel.is_empty())
            })
            .await
    };
    install().await;
    // Another process leads, so that the count is above what a first release begins with.
    for pod in cluster.pods_of("controller").await.keys() {
        let gone = cluster.plane.kubectl(["delete", "pod", pod, "-n", NAMESPACE]).await.unwrap();
        assert_eq!(gone.code, Some(0), "{}", gone.stderr);
    }
    until("another leader", LONG, async || {
        Ok(match epoch(&cluster).await {
            Some(epoch) if epoch > 1 => Answer::Yes(()),
            found => Answer::not_yet(format!("{found:?}")),
        })
    })
    .await
    .unwrap();
    // It tells its epoch to the agent, whose keeper it takes away.
    cluster.helm(&["uninstall", "liveupdate", "--wait", "--timeout=180s"]).await;
    let first = epoch(&cluster).await;
    assert!(first > Some(1), "the Lease went with the release: {first:?}");
    let kinds = cluster.plane.kubectl(["get", "crd", "-o", "name"]).await.unwrap();
    assert!(!kinds.stdout.contains("liveupdate.dev"), "kept: {}", kinds.stdout);

    let records = install().await;
    let now = epoch(&cluster).await;
    assert!(now > first, "{now:?} after {first:?}");
    assert!(cluster.nodes.machines().all(|machine| machine.keeper_runs()));
    an_agent_that_waits_for_its_enrolment_is_not_ready(&cluster).await;
    for record in records {
        let stamped = record.status.and_then(|status| status.epoch).map(|epoch| epoch.counter);
        assert!(
            stamped.and_then(|counter| u64::try_from(counter).ok()) > first,
            "{stamped:?} after {first:?}"
        );
    }
}

/// While nobody gives it a certificate, it cannot be asked anything.
async fn an_agent_that_waits_for_its_enrolment_is_not_ready(cluster: &Cluster) {
    let kubectl = async |args: &[&str]| {
        let output = cluster.plane.kubectl(args).await.unwrap();
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
    };
    let ready = |pod: &Pod| {
        let mut conditions = pod.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    let running =
        |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    let controllers =
        |replicas: &'static str| ["scale", "deployment", "liveupdate-controller", replicas, "-n", NAMESPACE];
    kubectl(&controllers("--replicas=0")).await;
    until("no controller", LONG, async || {
        let left = cluster.pods_of("controller").await.len();
        Ok(if left == 0 { Answer::Yes(()) } else { Answer::not_yet(left) })
    })
    .await
    .unwrap();
    let before = cluster.pods_of("agent").await;
    for pod in before.keys() {
        kubectl(&["delete", "pod", pod, "-n", NAMESPACE]).await;
    }
    let begun = async |wanted: &dyn Fn(&Pod) -> bool| {
        let pods = cluster.pods_of("agent").await;
        let found = pods.iter().find(|(name, pod)| !before.contains_key(*name) && wanted(pod));
        found.map(|(name, _)| name.clone())
    };
    let await_pod = async |what: &str, wanted: &dyn Fn(&Pod) -> bool| {
        until(what, LONG, async || {
            Ok(begun(wanted).await.map_or_else(|| Answer::not_yet("none"), |_| Answer::Yes(())))
        })
        .await
        .unwrap();
    };
    await_pod("the next agent", &running).await;
    // Of what does not happen one cannot await the end: a probe that were none has told by now.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(begun(&ready).await, None, "it is ready, and has no certificate");
    kubectl(&controllers("--replicas=1")).await;
    await_pod("its enrolment", &ready).await;
}
