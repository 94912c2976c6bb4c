//! Whose kernels nodes run, and where they come from, as the chart's values have it: keys of signers, and a registry
//! with a CA of its own that asks for credentials. Agents are the rendered pods' own programs; the lab stands in for
//! kubelets, and puts the keys on hosts by the installer's own code.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use liveupdate_crds::{LiveUpdate, NodeLiveUpdate, NodeLiveUpdateStatus};
use liveupdate_host::Target;
use liveupdate_host::bundle::{Digest, MANIFEST, Part, SIGNATURES, Signatures, SigningKey};
use liveupdate_lab::helm::{Helm, chart};
use liveupdate_lab::registry::USERS;
use liveupdate_lab::stand_in::{Machine, StandIn, StandInNode};
use liveupdate_lab::testbed::machines::{self, NEW, OLD};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_lab::{
    Account, ControlPlane, FolderMachine, Registry, RegistryOptions, binaries, trial_bundle,
};
use rcgen::{CertificateParams, KeyPair};

use crate::bed::plane_with_nodes;

const NAMESPACE: &str = "liveupdate-system";
const NODE: &str = "hv-01";
const LONG: Duration = Duration::from_secs(180);
const KEYS: &str = "/etc/liveupdate/signers";
const BUNDLES: &str = "/var/lib/liveupdate/bundles";

/// The node goes before the control plane that it talks to.
struct Cluster {
    nodes: StandIn,
    plane: ControlPlane,
    helm: Helm,
    client: Client,
    folder: PathBuf,
}

/// A signed bundle. What its kernel is does not matter to who signed it.
fn bundle(folder: &Path, key: &SigningKey) -> Digest {
    fs::create_dir_all(folder).unwrap();
    let image = folder.to_string_lossy().repeat(1000).into_bytes();
    fs::write(folder.join(Part::Image.file()), &image).unwrap();
    let manifest = trial_bundle::manifest(NEW, "kho=on liveupdate=on", trial_bundle::file(&image));
    let bytes = manifest.to_bytes().unwrap();
    let mut signatures = Signatures::default();
    signatures.sign(&bytes, key).unwrap();
    fs::write(folder.join(SIGNATURES), signatures.to_bytes().unwrap()).unwrap();
    fs::write(folder.join(MANIFEST), &bytes).unwrap();
    Digest::of(&bytes)
}

impl Cluster {
    async fn start() -> Cluster {
        let plane = plane_with_nodes().await;
        let mut world = machines::world();
        world.bundles.retain(|bundle| bundle.name == OLD);
        let labels = [(machines::POOL.0.to_owned(), machines::POOL.1.to_owned())].into();
        let node = StandInNode { name: NODE.into(), labels, world };
        let nodes = StandIn::start(&plane, vec![node]).await.unwrap();
        let client = plane.client(&Account::admin()).unwrap();
        let folder = plane.run().folder("trust").unwrap();
        Cluster { helm: Helm::find().await.unwrap(), plane, nodes, client, folder }
    }

    fn machine(&self) -> &Machine {
        self.nodes.machines().next().unwrap()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    async fn helm(&self, verb: &str, flags: &[String]) {
        let chart = chart().to_string_lossy().into_owned();
        let allow = "policy.spec.allowedAcknowledgements={VfioPciLiveUpdate}";
        let mut args = vec![verb, "liveupdate", &chart, "--set", allow, "--wait", "--timeout=180s"];
        args.extend(flags.iter().map(String::as_str));
        let output = self.helm.run(&self.plane, NAMESPACE, args).await.unwrap();
        assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    }

    async fn kubectl(&self, args: &[&str]) {
        let output = self.plane.kubectl(args).await.unwrap();
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
    }

    async fn plugin(&self, args: &[&str]) -> String {
        let program =
            tokio::task::spawn_blocking(|| binaries::fresh("kubectl-liveupdate", "kubectl-liveupdate"));
        let program = program.await.unwrap().unwrap();
        let output = self.plane.run_as(&program, &Account::admin(), args).await.unwrap();
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
        output.stdout.trim().to_owned()
    }

    /// Waits until the node's record is as wanted.
    async fn record(
        &self,
        what: &str,
        wanted: impl Fn(&NodeLiveUpdateStatus) -> bool,
    ) -> NodeLiveUpdateStatus {
        let records: Api<NodeLiveUpdate> = Api::all(self.client.clone());
        until(what, LONG, async || {
            let record = records.get_opt(NODE).await;
            Ok(match record.map(|record| record.and_then(|record| record.status)) {
                Ok(Some(status)) if wanted(&status) => Answer::Yes(status),
                Ok(status) => Answer::not_yet(format!("{:?}", status.map(|s| (s.state, s.message)))),
                Err(error) => Answer::not_yet(error),
            })
        })
        .await
        .unwrap()
    }

    /// Wants the node on a target from the registry; another word makes another revision, which is looked at anew at once.
    async fn roll(&self, image: &str, word: &str) {
        let updates: Api<LiveUpdate> = Api::all(self.client.clone());
        let mut update = machines::update("roll", NEW);
        update.spec.target.bundle = None;
        update.spec.target.image = Some(image.to_owned());
        update.spec.devices[0].name = word.to_owned();
        let params = PatchParams::apply("a-team").force();
        updates.patch("roll", &params, &Patch::Apply(&update)).await.unwrap();
    }

    /// The node says this of the target.
    async fn says(&self, words: &str) {
        let status = self.record(words, |status| status.message.contains(words)).await;
        assert_eq!(status.state, "Blocked", "{status:?}");
        assert!(status.message.contains("TargetTrusted"), "{}", status.message);
    }

    /// The keys on the host, by name.
    fn keys(&self) -> Vec<String> {
        let found = fs::read_dir(self.machine().root().join(&KEYS[1..])).into_iter().flatten();
        let mut names: Vec<_> =
            found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    }
}

/// What the gate says of a bundle that lies under the node's bundle root: read by the agent's own code, of the folder that
/// is the node's `/`.
fn trusted(machine: &FolderMachine, name: &str, digest: Digest) -> (String, String) {
    let target = Target { release: NEW.into(), bundle: name.into(), digest: digest.to_string() };
    let gates = machine.agents_host().unwrap().gates(Some(&target)).unwrap();
    let gate = gates.into_iter().find(|gate| gate.id.as_str() == "TargetTrusted").unwrap();
    (format!("{:?}", gate.result), gate.evidence)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_trust_the_keys_of_the_values_and_fetch_from_a_registry_as_the_values_say() {
    let cluster = Cluster::start().await;
    let (release, stranger) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());

    // A registry that speaks TLS by a CA of its own and lets in whoever has the password.
    let certificate = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let file = cluster.write(&format!("{name}.crt"), &params.self_signed(&key).unwrap().pem());
        (file, cluster.write(&format!("{name}.key"), &key.serialize_pem()))
    };
    let ((ca, key), (other, _)) = (certificate("registry"), certificate("other"));
    let options = RegistryOptions {
        htpasswd: Some(cluster.write("users", USERS).into()),
        tls: Some((ca.clone().into(), key.into())),
    };
    let registry = Registry::start(cluster.plane.run(), &options).await.unwrap();
    let address = registry.address();
    let login = format!(r#"{{"auths":{{"{address}":{{"username":"kernels","password":"lu2"}}}}}}"#);
    let auth = cluster.write("config.json", &login);
    let folder = cluster.folder.join("fetched");
    bundle(&folder, &release);
    let (folder, repository) = (folder.to_string_lossy(), format!("{address}/kernels/fetched"));
    let push = ["bundle", "push", &folder, &repository, "--registry-ca", &ca, "--registry-auth", &auth];
    let image = cluster.plugin(&push).await;

    // Installed with the key of those who may sign.
    let signers = format!(
        "--set-file=bundles.signers.release={}",
        cluster.write("release.pub", &release.public().to_pem())
    );
    cluster.helm("install", &["--create-namespace".to_owned(), signers.clone()]).await;
    cluster.record("the node has answered", |status| !status.kernel.is_empty()).await;
    assert_eq!(cluster.keys(), ["release.pub"]);
    let bundles = cluster.machine().root().join(&BUNDLES[1..]);
    let (ours, theirs) =
        (bundle(&bundles.join("ours"), &release), bundle(&bundles.join("theirs"), &stranger));
    let reader = FolderMachine::create(cluster.machine().root()).unwrap();
    let id = release.public().id();
    let (result, evidence) = trusted(&reader, "ours", ours);
    assert_eq!(evidence, format!("manifest {ours}: signed by release (key {id})"));
    assert_eq!(result, "Pass");
    let (result, evidence) = trusted(&reader, "theirs", theirs);
    let stranger = stranger.public().id();
    assert_eq!(
        evidence,
        format!("manifest {theirs}: signed by unknown key {stranger}; {KEYS} knows release")
    );
    assert_eq!(result, "Fail");

    // Nothing is fetched before the values say how: in clear text first, then by a wrong CA, then without a password.
    cluster.roll(&image, "clear").await;
    cluster.says("400 Bad Request").await;
    let by = |ca: &str| format!("--set-file=agent.registry.ca={ca}");
    cluster.helm("upgrade", &[signers.clone(), by(&other)]).await;
    cluster.roll(&image, "other").await;
    cluster.says("invalid peer certificate").await;
    cluster.helm("upgrade", &[signers.clone(), by(&ca)]).await;
    cluster.roll(&image, "nobody").await;
    cluster.says("401 Unauthorized: authentication required; give credentials that may do this").await;
    let from = format!("--from-file=.dockerconfigjson={auth}");
    let secret = ["create", "secret", "generic", "pull", "--type=kubernetes.io/dockerconfigjson", &from];
    cluster.kubectl(&[secret.as_slice(), &["-n", NAMESPACE]].concat()).await;
    let login = "--set=agent.registry.authSecret=pull".to_owned();
    cluster.helm("upgrade", &[signers.clone(), by(&ca), login.clone()]).await;
    cluster.roll(&image, "reader").await;
    cluster.record("the target", |status| status.state == "Updated").await;
    assert_eq!(cluster.machine().world().running().unwrap().unwrap().release, NEW);
    let log = registry.log().unwrap();
    let fetched = log.lines().filter(|line| line.contains("GET /v2/kernels/fetched/blobs/sha256:"));
    assert!(fetched.filter(|line| line.contains(" 200 ")).count() >= 3, "{log}");

    // A key that is gone from the values is gone from the node.
    cluster.helm("upgrade", &[by(&ca), login]).await;
    until("the key to be taken away", LONG, async || {
        let keys = cluster.keys();
        Ok(if keys.is_empty() { Answer::Yes(()) } else { Answer::not_yet(format!("{keys:?}")) })
    })
    .await
    .unwrap();
    let (result, evidence) = trusted(&reader, "ours", ours);
    assert_eq!((result.as_str(), evidence), ("Fail", format!("{KEYS}: no key of a signer")));
}
