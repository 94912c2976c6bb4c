//! One node: a simulated machine, its keeper, its agent, and a controller's client.

use std::sync::Arc;
use std::time::Duration;

use liveupdate_agent::{AgentConfig, AgentHandle, AgentServer};
use liveupdate_host::Host;
use liveupdate_host::simulated::{
    BundleSpec, DeviceSpec, FactsSpec, HolderSpec, Level, Pace, World, WorldSpec,
};
use liveupdate_keeper::{InProcess, Keeper, KeeperClient};
use liveupdate_proto::common::v1::{
    AttemptReport, Continuity, Demands, DeviceRule, Epoch, NodeState, OnShortfall, OnUpdate, Subject, Target,
};
use liveupdate_proto::keeper::v1::{Request, Status, reply, request};
use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::node::v1::run_event::Event;
use liveupdate_proto::node::v1::{
    OutcomeReply, OutcomeRequest, Permission, Receipt, RunEvent, RunRequest, StageRequest, Start, run_request,
};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect};
use liveupdate_proto::{MAX_MESSAGE_BYTES, MINOR_VERSION};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::pki::Ca;

pub(crate) const NODE: &str = "worker-1";
pub(crate) const UID: &str = "0a1b2c3d-0000-4000-8000-000000000001";
pub(crate) const ATTEMPT: &str = "7f3c-0a1b2c3d-1";
pub(crate) const GPU: &str = "0000:01:00.0";

/// Nothing in these tests may take so long.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

pub(crate) struct Fixture {
    pub(crate) ca: Ca,
    pub(crate) world: World,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) agent: AgentHandle,
    pub(crate) credentials: Arc<Credentials>,
}

pub(crate) fn machine() -> WorldSpec {
    let mut spec = WorldSpec::new("7.2.0");
    spec.bundles = vec![BundleSpec {
        name: "7.3.5-lu2".into(),
        digest: digest(),
        release: "7.3.5-lu2".into(),
        boots_as: None,
        bytes: 1 << 20,
    }];
    spec.devices = vec![DeviceSpec {
        address: GPU.into(),
        vendor: "10de".into(),
        device: "2330".into(),
        class: "0302".into(),
        holder: Some("vm-a".into()),
        ceiling: Some(Level::Paused),
        facts: FactsSpec::default(),
    }];
    spec.holders = vec![HolderSpec {
        name: "vm-a".into(),
        aware: true,
        minimum: None,
        refuses: false,
        memory_bytes: 1 << 30,
    }];
    spec
}

pub(crate) fn digest() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        Self::with(machine(), |_| {}).await
    }

    pub(crate) async fn with(spec: WorldSpec, edit: impl FnOnce(&mut AgentConfig)) -> Self {
        let ca = Ca::new("liveupdate test");
        let world = World::in_memory(spec);
        let keeper = Arc::new(Keeper::open(Arc::new(world.host().unwrap())).unwrap());
        let agent = spawn(&ca, &world, Arc::new(InProcess(Arc::clone(&keeper))), edit).await;
        let credentials = ca.controller();
        Self { ca, world, keeper, agent, credentials }
    }

    /// Kills the agent and starts another one over the same machine and keeper.
    pub(crate) async fn restart_agent(&mut self, edit: impl FnOnce(&mut AgentConfig)) {
        self.agent.kill();
        soon(self.agent.stopped()).await;
        let keeper = Arc::new(InProcess(Arc::clone(&self.keeper)));
        self.agent = spawn(&self.ca, &self.world, keeper, edit).await;
    }

    /// The machine comes up after a jump, with a keeper and an agent of the new boot.
    pub(crate) async fn boot(&mut self, edit: impl FnOnce(&mut AgentConfig)) {
        self.boot_with(edit, |keeper| Arc::new(keeper)).await;
    }

    /// As [`Fixture::boot`]; the agent reaches its keeper in a way of the test's own.
    pub(crate) async fn boot_with(
        &mut self,
        edit: impl FnOnce(&mut AgentConfig),
        reach: impl FnOnce(InProcess) -> Arc<dyn KeeperClient>,
    ) {
        self.world.boot().unwrap();
        self.keeper = Arc::new(Keeper::open(Arc::new(self.world.host().unwrap())).unwrap());
        self.agent.kill();
        soon(self.agent.stopped()).await;
        let keeper = reach(InProcess(Arc::clone(&self.keeper)));
        self.agent = spawn(&self.ca, &self.world, keeper, edit).await;
    }

    pub(crate) async fn channel(&self) -> Channel {
        let address = self.agent.address().to_string();
        let peer = Identity::node(NODE, UID);
        soon(connect(&self.credentials, &peer, &address, DialOptions::default())).await.unwrap()
    }

    pub(crate) async fn client(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel().await)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) async fn stage(&self) {
        let request = StageRequest { subject: Some(subject()), target: Some(target()) };
        let mut progress = self.client().await.stage(request).await.unwrap().into_inner();
        let mut done = false;
        while let Some(told) = soon(progress.message()).await.unwrap() {
            done = told.done;
        }
        assert!(done, "a staging that ends without an error has loaded the image");
    }

    /// Stages and begins to run.
    pub(crate) async fn run(&self) -> Running {
        self.stage().await;
        self.join(start()).await.unwrap()
    }

    pub(crate) async fn join(&self, start: Start) -> Result<Running, tonic::Status> {
        let (sender, receiver) = mpsc::channel(4);
        sender.send(RunRequest { message: Some(run_request::Message::Start(start)) }).await.unwrap();
        let events = soon(self.client().await.run(ReceiverStream::new(receiver))).await?.into_inner();
        Ok(Running { sender, events })
    }

    pub(crate) async fn outcome(&self) -> Result<OutcomeReply, tonic::Status> {
        let request = OutcomeRequest { subject: Some(subject()) };
        soon(self.client().await.outcome(request)).await.map(tonic::Response::into_inner)
    }

    /// Asks until the attempt has this state.
    pub(crate) async fn outcome_in(&self, state: NodeState) -> AttemptReport {
        soon(async {
            loop {
                match self.outcome().await {
                    Ok(reply) if reply.attempt.as_ref().is_some_and(|report| report.state() == state) => {
                        return reply.attempt.unwrap();
                    }
                    Ok(_) => {}
                    // A run that was just begun is not in the keeper's records yet.
                    Err(status) => assert_eq!(status.code(), tonic::Code::NotFound, "{status:?}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// What the keeper itself has.
    pub(crate) async fn kept(&self) -> Option<AttemptReport> {
        let keeper = InProcess(Arc::clone(&self.keeper));
        let message = Some(request::Message::Status(Status {}));
        let request = Request { subject: Some(subject()), message };
        let reply = tokio::task::spawn_blocking(move || keeper.ask(&request)).await.unwrap().unwrap();
        match reply.message {
            Some(reply::Message::Attempt(report)) => Some(report),
            _ => None,
        }
    }

    pub(crate) async fn kept_in(&self, state: NodeState) -> AttemptReport {
        soon(async {
            loop {
                if let Some(report) = self.kept().await.filter(|report| report.state() == state) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    pub(crate) fn host(&self) -> impl Host {
        self.world.host().unwrap()
    }
}

async fn spawn(
    ca: &Ca,
    world: &World,
    keeper: Arc<dyn KeeperClient>,
    edit: impl FnOnce(&mut AgentConfig),
) -> AgentHandle {
    let folder = ca.folder(&Identity::node(NODE, UID));
    let mut config = AgentConfig::new(NODE, UID, "127.0.0.1:0".parse().unwrap(), folder);
    config.limits.knock_spread = Duration::ZERO;
    edit(&mut config);
    AgentServer::spawn(config, Arc::new(world.host().unwrap()), keeper).await.unwrap()
}

/// A machine that takes its time, so that something can happen meanwhile.
pub(crate) fn slow(edit: impl FnOnce(&mut WorldSpec)) -> WorldSpec {
    let mut spec = machine();
    spec.pace = Pace::Real;
    edit(&mut spec);
    spec
}

pub(crate) fn subject() -> Subject {
    Subject {
        node: NODE.into(),
        node_uid: UID.into(),
        update: "kernels".into(),
        update_uid: "5e6f".into(),
        revision: "7f3c".into(),
        attempt: ATTEMPT.into(),
        epoch: Some(Epoch { cluster: "cluster-a".into(), counter: 7 }),
        minor_version: MINOR_VERSION,
    }
}

pub(crate) fn target() -> Target {
    Target { release: "7.3.5-lu2".into(), bundle: "7.3.5-lu2".into(), digest: digest(), ..Target::default() }
}

pub(crate) fn demands() -> Demands {
    Demands {
        devices: vec![DeviceRule {
            name: "gpus".into(),
            vendor: "10de".into(),
            on_update: OnUpdate::Preserve.into(),
            minimum: Continuity::Reinitialised.into(),
            on_shortfall: OnShortfall::Block.into(),
            ..DeviceRule::default()
        }],
        acknowledged: vec!["VfioPciLiveUpdate".into()],
        ..Demands::default()
    }
}

pub(crate) fn start() -> Start {
    Start { subject: Some(subject()), target: Some(target()), demands: Some(demands()) }
}

/// A refusal as a client sees it: code and word.
pub(crate) fn word(status: &tonic::Status) -> (Code, Option<Refusal>) {
    (status.code(), Refusal::of(status))
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, tonic::Status>, expected: Refusal) -> String {
    let status = result.expect_err("it must be refused");
    assert_eq!(word(&status), (expected.code(), Some(expected)), "{}", status.message());
    status.message().to_owned()
}

/// An open Run.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) sender: mpsc::Sender<RunRequest>,
    pub(crate) events: Streaming<RunEvent>,
}

impl Running {
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, tonic::Status> {
        Ok(soon(self.events.message()).await?.and_then(|event| event.event))
    }

    /// Reads up to the receipt; the states on the way.
    pub(crate) async fn receipt(&mut self) -> (Receipt, Vec<NodeState>) {
        let mut states = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Some(Event::State(entered)) => states.push(entered.state()),
                Some(Event::Receipt(receipt)) => return (receipt, states),
                other => panic!("no receipt but {other:?} after {states:?}"),
            }
        }
    }

    pub(crate) async fn permit(&self, receipt: &Receipt) {
        self.say(permission(receipt)).await;
    }

    pub(crate) async fn say(&self, permission: Permission) {
        let message = RunRequest { message: Some(run_request::Message::Permission(permission)) };
        self.sender.send(message).await.unwrap();
    }

    /// Reads to the end; the last event.
    pub(crate) async fn end(&mut self) -> Result<Event, tonic::Status> {
        let mut last = None;
        while let Some(event) = self.next().await? {
            last = Some(event);
        }
        Ok(last.expect("a Run ends with an event or an error"))
    }

    pub(crate) async fn ended(&mut self) -> AttemptReport {
        match self.end().await.unwrap() {
            Event::Ended(report) => report,
            other => panic!("it should have ended without a jump: {other:?}"),
        }
    }
}

pub(crate) fn permission(receipt: &Receipt) -> Permission {
    Permission {
        subject: Some(subject()),
        boot_id: receipt.boot_id.clone(),
        receipt: receipt.id.clone(),
        duration_ms: 30_000,
    }
}
