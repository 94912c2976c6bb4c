//! Agents that lie, as the controller's tests use them; and many agents in one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use liveupdate_agent::{AgentConfig, AgentServer, Misbehaviour};
use liveupdate_host::simulated::World;
use liveupdate_keeper::{InProcess, Keeper};
use liveupdate_proto::common::v1::{Epoch, Subject};
use liveupdate_proto::node::v1::{InspectReply, InspectRequest};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::Identity;
use tonic::Code;

use crate::fixture::{Fixture, NODE, machine, soon, subject};
use crate::pki::Ca;

async fn inspect(lies: Misbehaviour, subject: Subject) -> Result<InspectReply, tonic::Status> {
    let fixture = Fixture::with(machine(), |config| config.misbehaviour = lies).await;
    let request = InspectRequest { subject: Some(subject) };
    soon(fixture.client().await.inspect(request)).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn an_agent_can_lie_about_itself() {
    let lies = Misbehaviour {
        node: Some("worker-9".into()),
        boot_id: Some("not-my-boot".into()),
        release: Some("9.9".into()),
        ..Misbehaviour::default()
    };
    let reply = inspect(lies, subject()).await.unwrap();
    assert_eq!(
        (reply.node.as_str(), reply.boot_id.as_str(), reply.release.as_str()),
        ("worker-9", "not-my-boot", "9.9")
    );
    assert_eq!(inspect(Misbehaviour::default(), subject()).await.unwrap().node, NODE);
}

#[tokio::test]
async fn an_agent_can_answer_garbage() {
    let status =
        inspect(Misbehaviour { garbage: true, ..Misbehaviour::default() }, subject()).await.unwrap_err();
    assert_eq!((status.code(), Refusal::of(&status)), (Code::Internal, None), "{status:?}");
}

#[tokio::test]
async fn an_agent_can_be_slow() {
    let started = Instant::now();
    let delay = Duration::from_millis(300);
    inspect(Misbehaviour { delay, ..Misbehaviour::default() }, subject()).await.unwrap();
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn an_agent_can_obey_a_lower_epoch() {
    let lies = Misbehaviour { any_epoch: true, ..Misbehaviour::default() };
    let fixture = Fixture::with(machine(), |config| config.misbehaviour = lies).await;
    for counter in [9, 3] {
        let epoch = Some(Epoch { cluster: "cluster-a".into(), counter });
        let request = InspectRequest { subject: Some(Subject { epoch, ..subject() }) };
        soon(fixture.client().await.inspect(request)).await.unwrap();
    }
}

/// One process serves many nodes, each at an address of its own.
#[tokio::test]
async fn many_agents_live_in_one_process() {
    let ca = Ca::new("liveupdate test");
    let mut agents = Vec::new();
    for index in 0..50_u8 {
        let name = format!("worker-{index}");
        let folder = ca.folder(&Identity::node(&name, "uid"));
        let world = World::in_memory(machine());
        let keeper = Arc::new(Keeper::open(Arc::new(world.host().unwrap())).unwrap());
        let address = format!("127.9.0.{}:0", index + 1).parse().unwrap();
        let config = AgentConfig::new(&name, "uid", address, folder);
        let host = Arc::new(world.host().unwrap());
        agents.push((name, AgentServer::spawn(config, host, Arc::new(InProcess(keeper))).await.unwrap()));
    }
    let controller = ca.controller();
    for (name, agent) in &agents {
        let peer = Identity::node(name, "uid");
        let address = agent.address().to_string();
        let channel = soon(liveupdate_proto::tls::connect(&controller, &peer, &address, Default::default()));
        let mut client = liveupdate_proto::node::v1::node_client::NodeClient::new(channel.await.unwrap());
        let own = Subject { node: name.clone(), node_uid: "uid".into(), ..subject() };
        let reply = soon(client.inspect(InspectRequest { subject: Some(own) })).await.unwrap().into_inner();
        assert_eq!(reply.node, *name);
    }
}
