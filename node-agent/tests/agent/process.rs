//! The agent as a process of its own, with the keeper behind its socket.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use liveupdate_host::Host;
use liveupdate_host::simulated::World;
use liveupdate_keeper::{Keeper, Server, serve};
use liveupdate_proto::common::v1::NodeState;
use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::node::v1::run_event::Event;
use liveupdate_proto::node::v1::{InspectRequest, OutcomeRequest, RunRequest, StageRequest, run_request};
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::fixture::{NODE, Running, UID, machine, soon, start, subject, target};
use crate::pki::{Ca, Folder};

struct Machine {
    ca: Ca,
    credentials: Arc<Credentials>,
    folder: Folder,
    world: World,
    address: String,
    keeper: Option<Server>,
}

/// Killed when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    fn new() -> Self {
        let ca = Ca::new("liveupdate test");
        let folder = Folder::new();
        let mut spec = machine();
        spec.boot_id = Some("first-boot".into());
        std::fs::create_dir(folder.path().join("machine")).unwrap();
        let world = World::create(&folder.path().join("machine"), &spec).unwrap();
        let free = std::net::TcpListener::bind("127.8.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        let credentials = ca.controller();
        let mut machine = Self { ca, credentials, folder, world, address, keeper: None };
        machine.start_keeper();
        machine
    }

    fn start_keeper(&mut self) {
        self.keeper = None;
        let keeper = Arc::new(Keeper::open(Arc::new(self.world.host().unwrap())).unwrap());
        self.keeper = Some(serve(keeper, &self.folder.path().join("keeper.sock")).unwrap());
    }

    fn start_agent(&self) -> Process {
        let command = Command::new(env!("CARGO_BIN_EXE_liveupdate-agent"))
            .args(["--node", NODE, "--node-uid", UID, "--listen", &self.address])
            .arg("--tls-dir")
            .arg(self.ca.folder(&Identity::node(NODE, UID)))
            .arg("--host")
            .arg(format!("simulated:{}", self.folder.path().join("machine").display()))
            .arg("--keeper")
            .arg(self.folder.path().join("keeper.sock"))
            .stderr(Stdio::null())
            .spawn();
        Process(command.unwrap())
    }

    async fn client(&self) -> NodeClient<Channel> {
        let peer = Identity::node(NODE, UID);
        soon(async {
            loop {
                match connect(&self.credentials, &peer, &self.address, DialOptions::default()).await {
                    Ok(channel) => return NodeClient::new(channel),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        })
        .await
    }

    async fn run(&self) -> Running {
        let mut client = self.client().await;
        let (sender, receiver) = mpsc::channel(4);
        sender.send(RunRequest { message: Some(run_request::Message::Start(start())) }).await.unwrap();
        let events = soon(client.run(ReceiverStream::new(receiver))).await.unwrap().into_inner();
        Running { sender, events }
    }
}

async fn exit(mut agent: Process) -> std::process::ExitStatus {
    soon(tokio::task::spawn_blocking(move || agent.0.wait().unwrap())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_with_its_attempt_under_way_then_jumps_and_tells() {
    let mut machine = Machine::new();
    let agent = machine.start_agent();
    let request = StageRequest { subject: Some(subject()), target: Some(target()) };
    let mut staging = soon(machine.client().await.stage(request)).await.unwrap().into_inner();
    while soon(staging.message()).await.unwrap().is_some() {}
    let mut run = machine.run().await;
    let (receipt, _) = run.receipt().await;
    // SIGKILL: nothing of it can say goodbye.
    drop(agent);
    assert!(run.end().await.is_err());
    assert!(machine.world.host().unwrap().preserved().unwrap().is_some());

    let agent = machine.start_agent();
    let mut run = machine.run().await;
    assert_eq!(run.receipt().await.0, receipt);
    run.permit(&receipt).await;
    let end = run.end().await.unwrap();
    assert!(matches!(&end, Event::Jumping(jumping) if jumping.boot_id == "first-boot"), "{end:?}");
    assert!(exit(agent).await.success(), "the machine jumped: its processes are over");

    machine.world.boot().unwrap();
    machine.start_keeper();
    let _agent = machine.start_agent();
    let mut client = machine.client().await;
    let state = soon(async {
        loop {
            let request = OutcomeRequest { subject: Some(subject()) };
            let report = client.outcome(request).await.unwrap().into_inner().attempt.unwrap();
            if report.state() != NodeState::Reclaiming && report.state() != NodeState::Returned {
                return report.state();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(state.await, NodeState::Verifying);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_its_keeper_says_so_as_a_gate() {
    let mut machine = Machine::new();
    machine.keeper = None;
    let _agent = machine.start_agent();
    let request = InspectRequest { subject: Some(subject()) };
    let reply = soon(machine.client().await.inspect(request)).await.unwrap().into_inner();
    let gate = reply.gates.iter().find(|gate| gate.id == "CustodySafe").unwrap();
    assert!(gate.evidence.contains("keeper.sock"), "{gate:?}");
    assert_eq!(gate.result(), liveupdate_proto::common::v1::GateResult::Fail);
    assert_eq!((reply.keeper_heard, reply.attempt), (Some(false), None), "nobody takes that for no attempt");
}

#[test]
fn what_is_wrong_at_the_start_is_said_once_and_ends_it() {
    let machine = Machine::new();
    let run = |tls: &str, host: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_liveupdate-agent"))
            .args(["--node", NODE, "--node-uid", UID, "--listen", "127.0.0.1:0"])
            .args(["--tls-dir", tls, "--host", host])
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let world = format!("simulated:{}", machine.folder.path().join("machine").display());
    let told = run("/nonexistent", &world);
    assert_eq!(told.matches("/nonexistent/ca.crt").count(), 1, "{told}");
    assert!(told.contains("No such file"), "{told}");
    let told = run("/nonexistent", "windows");
    assert!(told.contains("want linux, linux:ROOT or simulated:DIR"), "{told}");
    let told = run("/nonexistent", "simulated:/nonexistent");
    assert!(told.contains("/nonexistent"), "{told}");
}
