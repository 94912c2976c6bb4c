//! Knocking at the controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use liveupdate_host::simulated::{Answer, GateSpec};
use liveupdate_keeper::{ClientError, InProcess, KeeperClient};
use liveupdate_proto::common::v1::NodeState;
use liveupdate_proto::controller::v1::controller_server::{Controller, ControllerServer};
use liveupdate_proto::controller::v1::{
    EnrolReply, EnrolRequest, KnockCause, KnockReply, KnockRequest, UninstallReply, UninstallRequest,
};
use liveupdate_proto::keeper;
use liveupdate_proto::keeper::v1::Reply;
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{AcceptLimits, Credentials, Identity, Peer, incoming};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::fixture::{Fixture, NODE, UID, machine, soon};
use crate::pki::credentials;

struct Door(mpsc::UnboundedSender<(KnockRequest, Option<Identity>)>);

#[tonic::async_trait]
impl Controller for Door {
    async fn knock(&self, request: Request<KnockRequest>) -> Result<Response<KnockReply>, Status> {
        let peer = request.extensions().get::<Peer>().and_then(|peer| peer.identity().cloned());
        self.0.send((request.into_inner(), peer)).unwrap();
        Ok(Response::new(KnockReply { quiet_ms: 0 }))
    }

    async fn enrol(&self, _: Request<EnrolRequest>) -> Result<Response<EnrolReply>, Status> {
        Err(Refusal::NotBuilt.status("not in this test"))
    }

    async fn uninstall(&self, _: Request<UninstallRequest>) -> Result<Response<UninstallReply>, Status> {
        Err(Refusal::NotBuilt.status("not in this test"))
    }
}

type Knocks = mpsc::UnboundedReceiver<(KnockRequest, Option<Identity>)>;

fn open(listener: TcpListener, credentials: Arc<Credentials>) -> (Knocks, tokio_util::sync::DropGuard) {
    let (sender, knocks) = mpsc::unbounded_channel();
    let cut = CancellationToken::new();
    let connections = incoming(listener, credentials, AcceptLimits::default(), cut.clone());
    let server = tonic::transport::Server::builder().add_service(ControllerServer::new(Door(sender)));
    tokio::spawn(server.serve_with_incoming(connections));
    (knocks, cut.drop_guard())
}

async fn heard(knocks: &mut Knocks) -> KnockCause {
    let (request, peer) = soon(knocks.recv()).await.unwrap();
    assert_eq!((request.node.as_str(), request.node_uid.as_str()), (NODE, UID));
    assert_eq!(peer, Some(Identity::node(NODE, UID)));
    request.cause()
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn an_agent_knocks_when_it_starts_when_facts_change_and_when_it_returns() {
    let mut fixture = Fixture::new().await;
    let (listener, address) = listen().await;
    let (mut knocks, _open) = open(listener, fixture.ca.controller());
    let edit = |config: &mut liveupdate_agent::AgentConfig| {
        config.controller = Some(address.clone());
        config.limits.watch_facts = Some(Duration::from_millis(100));
    };
    fixture.restart_agent(edit).await;
    assert_eq!(heard(&mut knocks).await, KnockCause::Started);

    let gate = GateSpec {
        id: "ForeignSessions".into(),
        subject: None,
        release: None,
        result: Answer::Fail,
        evidence: None,
        remedy: None,
    };
    // Long enough for the first look at the facts.
    tokio::time::sleep(Duration::from_millis(300)).await;
    fixture.world.change(|spec| spec.gates.push(gate)).unwrap();
    assert_eq!(heard(&mut knocks).await, KnockCause::Changed);
    fixture.world.change(|spec| spec.gates.clear()).unwrap();
    assert_eq!(heard(&mut knocks).await, KnockCause::Changed);

    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    run.permit(&receipt).await;
    run.end().await.unwrap();
    while knocks.try_recv().is_ok() {}
    fixture.boot(edit).await;
    assert_eq!(heard(&mut knocks).await, KnockCause::Returned);
    fixture.outcome_in(NodeState::Verifying).await;
}

/// A keeper that comes up a moment after its agent.
struct Late(InProcess, AtomicUsize);

impl KeeperClient for Late {
    fn ask(&self, request: &keeper::v1::Request) -> Result<Reply, ClientError> {
        let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            return self.0.ask(request);
        }
        let why = std::io::ErrorKind::NotFound.into();
        Err(ClientError::Unreachable { path: "/run/liveupdate/keeper.sock".into(), why })
    }
}

#[tokio::test]
async fn a_return_is_told_as_one_when_the_keeper_comes_up_after_the_agent() {
    let mut fixture = Fixture::new().await;
    let mut run = fixture.run().await;
    let (receipt, _) = run.receipt().await;
    run.permit(&receipt).await;
    run.end().await.unwrap();
    let (listener, address) = listen().await;
    let (mut knocks, _open) = open(listener, fixture.ca.controller());
    let edit = |config: &mut liveupdate_agent::AgentConfig| config.controller = Some(address);
    fixture.boot_with(edit, |keeper| Arc::new(Late(keeper, AtomicUsize::new(6)))).await;
    assert_eq!(heard(&mut knocks).await, KnockCause::Returned);
}

#[tokio::test]
async fn the_end_of_a_run_without_a_jump_is_knocked_about() {
    let mut fixture = Fixture::new().await;
    let (listener, address) = listen().await;
    let (mut knocks, _open) = open(listener, fixture.ca.controller());
    fixture
        .restart_agent(|config| {
            config.controller = Some(address);
            config.limits.permission = Duration::from_millis(100);
        })
        .await;
    assert_eq!(heard(&mut knocks).await, KnockCause::Started);
    fixture.run().await.ended().await;
    assert_eq!(heard(&mut knocks).await, KnockCause::Changed);
}

#[tokio::test]
async fn an_agent_knocks_until_it_is_heard_and_answers_meanwhile() {
    let (listener, address) = listen().await;
    drop(listener);
    let mut fixture = Fixture::with(machine(), |config| config.controller = Some(address.clone())).await;
    fixture.stage().await;
    // It starts with somebody else at that address, who is not knocked at.
    let listener = TcpListener::bind(&address).await.unwrap();
    let impostor = credentials(&fixture.ca.folder(&Identity::node("worker-2", "u2")));
    let (mut wrong, open_wrong) = open(listener, impostor);
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(wrong.try_recv().is_err(), "only the controller is knocked at");
    drop(open_wrong);
    let listener = soon(async {
        loop {
            match TcpListener::bind(&address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    let (mut knocks, _open) = open(listener, fixture.ca.controller());
    assert_eq!(heard(&mut knocks).await, KnockCause::Started);
    fixture.agent.kill();
    soon(fixture.agent.stopped()).await;
}
