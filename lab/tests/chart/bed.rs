//! One control plane with the chart installed, shared by the tests of this binary. Nobody runs its pods here.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use liveupdate_crds::NodeLiveUpdate;
use liveupdate_lab::control_plane::Output;
use liveupdate_lab::helm::{Helm, chart};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::{Account, ControlPlane, Options};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

/// Where the release is; not the namespace that plain manifests name, so that what is fixed would be seen.
pub(crate) const NAMESPACE: &str = "platform-lu";
/// For anything that happens within seconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(90);

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().enable_all().build().unwrap());

/// See the module.
pub(crate) struct Bed {
    pub(crate) plane: ControlPlane,
    pub(crate) helm: Helm,
}

/// Runs a test on the shared bed.
pub(crate) fn run(test: impl AsyncFnOnce(&'static Bed)) {
    RUNTIME.block_on(async {
        static SHARED: OnceCell<Bed> = OnceCell::const_new();
        let bed = SHARED.get_or_init(Bed::start).await;
        test(bed).await;
    });
}

/// A control plane of its own, for a test that installs and runs the whole release.
pub(crate) async fn plane_with_nodes() -> ControlPlane {
    let options = Options {
        // Far above the heartbeat: a loaded machine must not lose a node that lives.
        node_monitor_grace_period: Some(Duration::from_secs(30)),
        ..Options::default()
    };
    ControlPlane::start(options).await.unwrap()
}

/// The same, with the namespace of the release, in which something has to be before that.
pub(crate) async fn plane_with_namespace() -> (ControlPlane, Client) {
    let plane = plane_with_nodes().await;
    let client = plane.client(&Account::admin()).unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let metadata = ObjectMeta { name: Some(NAMESPACE.into()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    (plane, client)
}

/// Waits for the record of a node that has answered.
pub(crate) async fn record(client: &Client, node: &str, patience: Duration) -> liveupdate_lab::Result<()> {
    let records: Api<NodeLiveUpdate> = Api::all(client.clone());
    until(&format!("the record of {node}"), patience, async || {
        Ok(match records.get_opt(node).await {
            Ok(Some(record)) if record.status.as_ref().is_some_and(|status| !status.kernel.is_empty()) => {
                Answer::Yes(())
            }
            Ok(found) => Answer::not_yet(format!("{found:?}")),
            Err(error) => Answer::not_yet(error),
        })
    })
    .await
}

/// A file beside the tests.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chart").join(name)
}

impl Bed {
    async fn start() -> Bed {
        let manifests = vec![file("foreign-kinds.yaml")];
        let options = Options { scheduler: false, manifests, ..Options::default() };
        let plane = ControlPlane::start(options).await.unwrap();
        let bed = Bed { plane, helm: Helm::find().await.unwrap() };
        let installed = bed.install("liveupdate", &[]).await;
        assert_eq!(installed.code, Some(0), "{}{}", installed.stdout, installed.stderr);
        bed.await_policies().await;
        bed
    }

    /// `helm install`, into our namespace.
    pub(crate) async fn install(&self, release: &str, flags: &[&str]) -> Output {
        let chart = chart().to_string_lossy().into_owned();
        let mut args = vec!["install", release, &chart, "--create-namespace"];
        args.extend(flags);
        self.helm.run(&self.plane, NAMESPACE, args).await.unwrap()
    }

    /// What the chart would install with these flags.
    pub(crate) async fn template(&self, flags: &[&str]) -> Output {
        self.template_in(NAMESPACE, flags).await
    }

    /// The same for another namespace.
    pub(crate) async fn template_in(&self, namespace: &str, flags: &[&str]) -> Output {
        let chart = chart().to_string_lossy().into_owned();
        let mut args = vec!["template", "liveupdate", &chart];
        args.extend(flags);
        self.helm.run(&self.plane, namespace, args).await.unwrap()
    }

    pub(crate) async fn kubectl(&self, account: &Account, args: &[&str]) -> Output {
        self.plane.kubectl_as(account, args).await.unwrap()
    }

    pub(crate) async fn allowed(&self, account: &Account, args: &[&str]) -> String {
        let output = self.kubectl(account, args).await;
        assert_eq!(output.code, Some(0), "{} {args:?}: {}", account.user, output.stderr);
        output.stdout
    }

    pub(crate) async fn refused(&self, account: &Account, args: &[&str], words: &str) {
        let output = self.kubectl(account, args).await;
        assert_ne!(output.code, Some(0), "{} may {args:?}", account.user);
        assert!(output.stderr.contains(words), "{} {args:?}: {}", account.user, output.stderr);
    }

    /// Writes a file of this run.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.plane.run().path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// Admission policies count a moment after they are made.
    async fn await_policies(&self) {
        let probe = self.write("probe.yaml", &update("probe", "liveupdate.dev/approve: canary@0000"));
        let nobody = Account::user("probe");
        self.allowed(
            &Account::admin(),
            &["create", "clusterrole", "probe", "--verb=create", "--resource=liveupdates.liveupdate.dev"],
        )
        .await;
        self.allowed(
            &Account::admin(),
            &["create", "clusterrolebinding", "probe", "--clusterrole=probe", "--user=probe"],
        )
        .await;
        until("the admission policies", SOON, async || {
            let made = self.plane.kubectl_as(&nobody, ["create", "--dry-run=server", "-f", &probe]).await?;
            Ok(if made.stderr.contains("may not approve") {
                Answer::Yes(())
            } else {
                Answer::not_yet(made.stderr)
            })
        })
        .await
        .unwrap();
    }
}

/// An update of two steps, of which the first must be approved.
pub(crate) fn update(name: &str, annotation: &str) -> String {
    format!(
        "apiVersion: liveupdate.dev/v1alpha1
kind: LiveUpdate
metadata:
  name: {name}
  annotations: {{{annotation}}}
spec:
  nodeSelector: {{matchLabels: {{pool: {name}}}}}
  target:
    release: 7.3.5-lu2
    bundle: {{name: 7.3.5-lu2, digest: \"sha256:{digest}\"}}
  acknowledge: [VfioPciLiveUpdate]
  strategy:
    steps:
    - {{name: canary, nodes: 1, approval: Required}}
    - {{name: rest, nodes: \"100%\"}}
",
        digest = "0".repeat(64)
    )
}
