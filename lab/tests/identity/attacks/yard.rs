//! A node's agent that fetches bundles, and the registry that it fetches from. The agent is the one that runs on nodes, over
//! a machine that is a folder: it checks real signatures, keeps real bundles and looks into real images.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use liveupdate_agent::{AgentConfig, AgentHandle, AgentServer};
use liveupdate_host::bundle::cpio::Archive;
use liveupdate_host::bundle::{Digest, MANIFEST, Manifest, Part, SIGNATURES, Signatures, SigningKey};
use liveupdate_host::simulated::{World, WorldSpec};
use liveupdate_keeper::{InProcess, Keeper};
use liveupdate_lab::{FolderMachine, Registry, RegistryOptions, binaries, trial_bundle};
use liveupdate_proto::common::v1::{Demands, Epoch, Target};
use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::node::v1::{PreflightReply, PreflightRequest, StageRequest};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Status;
use tonic::transport::Channel;

use super::agents::{controllers, subject};
use super::images;
use crate::bed::{Bed, Enrolled};
use crate::logs::Log;
use crate::wire::refused;

pub(super) const RELEASE: &str = "7.3.5-lu2";
/// As the folder says.
const RUNNING: &str = "7.3.4-lu1";
const BUNDLES: &str = "/var/lib/liveupdate/bundles";
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json";

/// A node's agent that fetches, and the registry that it fetches from.
pub(super) struct Yard {
    node: &'static Enrolled,
    pub(super) machine: FolderMachine,
    client: NodeClient<Channel>,
    pub(super) registry: Registry,
    pub(super) key: SigningKey,
    folder: PathBuf,
    attempts: u32,
    _agent: AgentHandle,
}

/// A bundle in the registry, and the folder that it was pushed from.
pub(super) struct Pushed {
    pub(super) folder: PathBuf,
    pub(super) target: Target,
}

/// The files of a bundle; `seed` makes one that is no other.
pub(super) fn parts(seed: &str) -> BTreeMap<Part, Vec<u8>> {
    let place = format!("lib/modules/{RELEASE}");
    let mut modules = Archive::new();
    for folder in ["lib", "lib/modules", &place] {
        modules.folder(folder, 0o755);
    }
    modules.file(&format!("{place}/modules.order"), 0o644, seed.as_bytes());
    let mut shim = Archive::new();
    shim.file("liveupdate-init", 0o755, seed.as_bytes());
    [
        (Part::Image, images::kernel(RELEASE, images::CONFIG)),
        (Part::Initrd, format!("the initrd of {seed}").into_bytes()),
        (Part::Modules, modules.finish()),
        (Part::Shim, shim.finish()),
    ]
    .into()
}

impl Yard {
    pub(super) async fn new(bed: &'static Bed) -> Yard {
        let node = &bed.nodes[0];
        let folder = bed.scratch();
        let machine = FolderMachine::create(&folder.join("machine")).unwrap();
        let key = SigningKey::generate().unwrap();
        machine.write("etc/liveupdate/signers/release.pub", &key.public().to_pem()).unwrap();
        // The kernel that runs is known by its own image.
        let image = machine.path(&format!("boot/vmlinuz-{RUNNING}"));
        fs::write(image, images::kernel(RUNNING, images::CONFIG)).unwrap();
        machine.write("proc/version", &images::banner(RUNNING)).unwrap();
        let world = World::in_memory(WorldSpec::new(RUNNING));
        let keeper = Keeper::open(Arc::new(world.host().unwrap())).unwrap();
        let config = AgentConfig::new(&node.name, node.uid(), "127.0.0.1:0".parse().unwrap(), &node.tls_dir);
        let keeper = Arc::new(InProcess(Arc::new(keeper)));
        let agent = AgentServer::spawn(config, machine.agents_host().unwrap(), keeper).await.unwrap();
        let credentials = Arc::new(Credentials::load(&controllers(bed).await, 1).unwrap());
        let (peer, address) = (Identity::node(&node.name, node.uid()), agent.address().to_string());
        let channel = connect(&credentials, &peer, &address, DialOptions::default()).await.unwrap();
        let client = NodeClient::new(channel);
        let registry = Registry::start(bed.bed.plane.run(), &RegistryOptions::default()).await.unwrap();
        Yard { node, machine, client, registry, key, folder, attempts: 0, _agent: agent }
    }

    /// Writes a bundle that is signed by who the node trusts.
    pub(super) fn write(&self, name: &str, parts: &BTreeMap<Part, Vec<u8>>) -> PathBuf {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let file = |part: Part| {
            let bytes = parts.get(&part)?;
            fs::write(folder.join(part.file()), bytes).unwrap();
            Some(trial_bundle::file(bytes))
        };
        let image = file(Part::Image).unwrap();
        let manifest = Manifest {
            initrd: file(Part::Initrd),
            modules: file(Part::Modules),
            shim: file(Part::Shim),
            provenance: [("builder".to_owned(), name.to_owned())].into(),
            ..trial_bundle::manifest(RELEASE, "quiet kho=on liveupdate=on", image)
        };
        let bytes = manifest.to_bytes().unwrap();
        let mut signatures = Signatures::default();
        signatures.sign(&bytes, &self.key).unwrap();
        fs::write(folder.join(MANIFEST), bytes).unwrap();
        fs::write(folder.join(SIGNATURES), signatures.to_bytes().unwrap()).unwrap();
        folder
    }

    pub(super) async fn push(&self, folder: &Path) -> Pushed {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let repository = format!("{}/kernels/{name}", self.registry.address());
        let program =
            tokio::task::spawn_blocking(|| binaries::fresh("kubectl-liveupdate", "kubectl-liveupdate"));
        let output = tokio::process::Command::new(program.await.unwrap().unwrap())
            .args(["bundle", "push", &folder.to_string_lossy(), &repository])
            .env("DOCKER_CONFIG", &self.folder)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stdout).unwrap();
        let digest = said.trim().split_once('@').unwrap().1.to_owned();
        let target = Target { release: RELEASE.into(), bundle: name, digest, repository };
        Pushed { folder: folder.to_owned(), target }
    }

    /// A bundle that nobody has tampered with yet.
    pub(super) async fn good(&self, name: &str) -> Pushed {
        self.push(&self.write(name, &parts(name))).await
    }

    /// The artifact's manifest as somebody has changed it, in the same repository.
    pub(super) async fn remade(&self, from: &Pushed, what: &str, by: &str) -> Target {
        let before = fs::read_to_string(self.registry.blob(&from.target.digest)).unwrap();
        let after = before.replacen(what, by, 1);
        assert_ne!(after, before, "{what}");
        let digest = Digest::of(after.as_bytes()).to_string();
        let mut stream = TcpStream::connect(self.registry.address()).await.unwrap();
        let head = format!(
            "PUT /v2/kernels/{}/manifests/{digest} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: {MANIFESTS}\r\nContent-Length: {}\r\n\r\n",
            from.target.bundle,
            self.registry.address(),
            after.len()
        );
        stream.write_all([head.as_bytes(), after.as_bytes()].concat().as_slice()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
        Target { digest, ..from.target.clone() }
    }

    pub(super) async fn stage(&mut self, target: &Target) -> Result<(), Status> {
        self.attempts += 1;
        let epoch = Epoch { cluster: "a-cluster".into(), counter: 1 };
        let mut subject = subject(self.node, epoch);
        subject.update = "attacks".into();
        subject.revision = "1".into();
        subject.attempt = format!("attack-{}", self.attempts);
        let request = StageRequest { subject: Some(subject), target: Some(target.clone()) };
        let mut progress = self.client.stage(request).await?.into_inner();
        while progress.message().await?.is_some() {}
        Ok(())
    }

    pub(super) async fn preflight(&mut self, target: &Target) -> PreflightReply {
        let epoch = Epoch { cluster: "a-cluster".into(), counter: 1 };
        let request = PreflightRequest {
            subject: Some(subject(self.node, epoch)),
            target: Some(target.clone()),
            demands: Some(Demands::default()),
        };
        self.client.preflight(request).await.unwrap().into_inner()
    }

    fn keeps(&self) -> Vec<String> {
        let found = fs::read_dir(self.machine.path(BUNDLES)).into_iter().flatten();
        let names = found.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort_unstable();
        names
    }

    /// It is refused, for this reason, which stands in the agent's log; and nothing of it stays.
    pub(super) async fn refuses(&mut self, target: &Target, line: &str, why: &str) {
        let before = self.keeps();
        let log = Log::of_agents();
        let status = self.stage(target).await.unwrap_err();
        assert_eq!(status.message(), why);
        refused(Err::<(), _>(status), Refusal::BundleUnusable);
        log.line(&[line, &format!("why={why}"), &format!("digest=\"{}\"", target.digest)]).await;
        // Room may have been made for it.
        let new: Vec<String> = self.keeps().into_iter().filter(|name| !before.contains(name)).collect();
        assert!(new.is_empty(), "{why}: {new:?} stays");
    }

    /// The legitimate twin.
    pub(super) async fn takes(&mut self, target: &Target) {
        self.stage(target).await.unwrap();
        let staged = self.machine.agents_host().unwrap().staged().unwrap();
        assert_eq!(staged.unwrap().digest, target.digest);
    }
}
