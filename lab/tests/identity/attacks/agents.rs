//! At an agent's port: whoever is not the controller, or is one of before, or asks for what is over.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use liveupdate_crds::LiveUpdate;
use liveupdate_lab::certs::Certificate;
use liveupdate_lab::testbed::{NAMESPACE, machines};
use liveupdate_lab::wait::{Answer, until};
use liveupdate_proto::MINOR_VERSION;
use liveupdate_proto::common::v1::{
    Continuity, Demands, DeviceRule, Epoch, OnShortfall, OnUpdate, Subject, Target,
};
use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::node::v1::{
    InspectReply, InspectRequest, RunRequest, StageRequest, Start, run_request,
};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use serde_json::json;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use crate::bed::{Bed, Enrolled, SOON, alone, run};
use crate::logs::Log;
use crate::wire::refused;

/// The controller's own, made with the CA's key, which is the controller's alone.
pub(super) async fn controllers(bed: &Bed) -> PathBuf {
    let authorities = bed.authorities().await;
    let text = |name: &str| authorities["current"][name].as_str().unwrap().to_owned();
    let issuer =
        Issuer::from_ca_cert_pem(&text("certificate"), KeyPair::from_pem(&text("key")).unwrap()).unwrap();
    let mut params = CertificateParams::new(vec![Identity::Controller.dns_name()]).unwrap();
    params.subject_alt_names.push(SanType::URI(Identity::Controller.uri().try_into().unwrap()));
    let key = KeyPair::generate().unwrap();
    let certificate_pem = params.signed_by(&key, &issuer).unwrap().pem();
    let folder = bed.scratch();
    let certificate = Certificate { certificate_pem, key_pem: key.serialize_pem() };
    certificate.write(&text("certificate"), &folder).unwrap();
    folder
}

async fn channel(bed: &Bed, folder: &std::path::Path, node: &Enrolled) -> Channel {
    let credentials = Arc::new(Credentials::load(folder, 1).unwrap());
    let address = bed.bed.fleet.node(&node.name).unwrap().address().to_string();
    let peer = Identity::node(&node.name, node.uid());
    connect(&credentials, &peer, &address, DialOptions::default()).await.unwrap()
}

pub(super) async fn client(bed: &Bed, folder: &std::path::Path, node: &Enrolled) -> NodeClient<Channel> {
    NodeClient::new(channel(bed, folder, node).await)
}

pub(super) fn subject(node: &Enrolled, epoch: Epoch) -> Subject {
    Subject {
        node: node.name.clone(),
        node_uid: node.uid(),
        epoch: Some(epoch),
        minor_version: MINOR_VERSION,
        ..Subject::default()
    }
}

pub(super) fn inspect(subject: Subject) -> InspectRequest {
    InspectRequest { subject: Some(subject) }
}

/// An update of all nodes that succeeded and is gone again, and the epoch in which it did.
async fn updated(bed: &Bed, name: &str, release: &str) -> (LiveUpdate, Epoch) {
    bed.bed.apply_update(&machines::update(name, release)).await.unwrap();
    let update = bed.bed.await_success(name, SOON).await.unwrap();
    bed.bed.delete_update_and_wait(name, SOON).await.unwrap();
    let epoch = update.status.as_ref().unwrap().epoch.clone().unwrap();
    (update, Epoch { cluster: epoch.cluster, counter: u64::try_from(epoch.counter).unwrap() })
}

/// The epoch that the agent knows, as the controller's own certificate may ask.
pub(super) async fn known_epoch(bed: &Bed) -> Epoch {
    updated(bed, "epochs", machines::NEW).await.1
}

#[test]
fn an_agent_listens_to_no_other_node_and_to_no_leader_of_before() {
    run(async |bed| {
        let (a, b, log) = (&bed.nodes[0], &bed.nodes[1], Log::of_agents());
        let epoch = known_epoch(bed).await;
        let folder = controllers(bed).await;
        let mut legitimate = client(bed, &folder, b).await;
        legitimate.inspect(inspect(subject(b, epoch.clone()))).await.unwrap();

        // A node that was taken over has a certificate of our CA.
        let mut taken = client(bed, &a.tls_dir, b).await;
        refused(taken.inspect(inspect(subject(b, epoch.clone()))).await, Refusal::WrongPeer);
        log.line(&["refused a call", "reason=\"WrongPeer\"", &format!("/node/{}/", a.name)]).await;

        let old = Epoch { counter: epoch.counter - 1, ..epoch.clone() };
        refused(legitimate.inspect(inspect(subject(b, old))).await, Refusal::StaleEpoch);
        log.line(&["refused a call", "call=\"Inspect\"", "reason=\"StaleEpoch\""]).await;
        let foreign = Epoch { cluster: "another".into(), ..epoch.clone() };
        refused(legitimate.inspect(inspect(subject(b, foreign))).await, Refusal::ForeignCluster);
        log.line(&["refused a call", "reason=\"ForeignCluster\""]).await;
        refused(legitimate.inspect(inspect(subject(a, epoch.clone()))).await, Refusal::WrongNode);
        log.line(&["refused a call", "reason=\"WrongNode\""]).await;

        legitimate.inspect(inspect(subject(b, epoch))).await.unwrap();
    });
}

/// Bad certificates and messages that are too large: `node-agent/tests/agent`.
#[test]
fn a_message_that_means_nothing_is_refused() {
    run(async |bed| {
        let (node, log) = (&bed.nodes[0], Log::of_agents());
        let folder = controllers(bed).await;
        let mut client = Grpc::new(channel(bed, &folder, node).await);
        client.ready().await.unwrap();
        // A text where a message should be.
        let codec: ProstCodec<Target, InspectReply> = ProstCodec::default();
        let nonsense = Request::new(Target { release: "\u{1}".into(), ..Target::default() });
        let inspect = PathAndQuery::from_static("/liveupdate.node.v1.Node/Inspect");
        let status = client.unary(nonsense, inspect, codec).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status:?}");
        log.line(&["refused a call", "call=\"Inspect\"", "reason=\"Malformed\""]).await;
        known_epoch(bed).await;
    });
}

/// The controller's own words of before, said once more with its own certificate: a node jumps once for them.
#[test]
fn an_attempt_that_has_ended_does_not_run_again() {
    run(async |bed| {
        let (node, log) = (&bed.nodes[0], Log::of_agents());
        updated(bed, "before", machines::NEW).await;
        let (update, epoch) = updated(bed, "once", machines::OLD).await;
        let record = bed.bed.node_update(&node.name).await.unwrap().status.unwrap();
        let subject = Subject {
            update: "once".into(),
            update_uid: update.metadata.uid.unwrap(),
            revision: update.status.unwrap().revision,
            attempt: record.attempt.clone(),
            ..subject(node, epoch)
        };
        let release = machines::OLD;
        let target = Target {
            release: release.into(),
            bundle: release.into(),
            digest: machines::digest(release),
            ..Target::default()
        };
        let all = DeviceRule {
            name: "all".into(),
            on_update: OnUpdate::Preserve.into(),
            minimum: Continuity::Reinitialised.into(),
            on_shortfall: OnShortfall::Block.into(),
            ..DeviceRule::default()
        };
        let acknowledged = vec!["VfioPciLiveUpdate".into()];
        let demands = Demands { acknowledged, devices: vec![all], ..Demands::default() };
        let (subject, target) = (Some(subject), Some(target));
        let stage = StageRequest { subject: subject.clone(), target: target.clone() };
        let start = Start { subject, target, demands: Some(demands) };
        let folder = controllers(bed).await;
        let mut legitimate = client(bed, &folder, node).await;
        let mut staging = legitimate.stage(stage).await.unwrap().into_inner();
        while staging.message().await.unwrap().is_some() {}
        let begin = RunRequest { message: Some(run_request::Message::Start(start)) };
        let mut events = legitimate.run(tokio_stream::once(begin)).await.unwrap().into_inner();
        let ended = loop {
            match events.message().await {
                Ok(Some(_)) => {}
                ended => break ended,
            }
        };
        refused(ended, Refusal::AttemptRepeated);
        log.line(&["refused", "reason=\"AttemptRepeated\"", &record.attempt]).await;

        // A new attempt runs.
        updated(bed, "again", machines::NEW).await;
        let jumps = &bed.bed.jumps().unwrap()[&node.name];
        let times = jumps.iter().filter(|jump| **jump == record.attempt).count();
        assert!(times == 1 && jumps.last() != Some(&record.attempt), "{} in {jumps:?}", record.attempt);
    });
}

/// What docs/threat-model.md has whoever lost the CA do: it is emptied while no controller runs, and agents begin anew.
#[test]
fn what_a_revoked_ca_has_signed_is_worth_nothing() {
    alone(async {
        let mut bed = Bed::start(1, &[]).await;
        let epoch = known_epoch(&bed).await;
        let question = inspect(subject(&bed.nodes[0], epoch));
        let lost = bed.authorities().await["current"]["certificate"].as_str().unwrap().trim().to_owned();
        let taken = controllers(&bed).await;
        client(&bed, &taken, &bed.nodes[0]).await.inspect(question.clone()).await.unwrap();

        bed.bed.controller(0).unwrap().kill().unwrap();
        let (nothing, by) = (Patch::Merge(json!({"data": null})), PatchParams::default());
        bed.bed.in_namespace::<Secret>(NAMESPACE).patch("liveupdate-ca", &by, &nothing).await.unwrap();
        bed.bed.in_namespace::<ConfigMap>(NAMESPACE).patch("liveupdate-trust", &by, &nothing).await.unwrap();
        // Another pod has none of the files of the one before.
        let folder = bed.scratch();
        let tls_dir = folder.clone();
        bed.bed.fleet.node(&bed.nodes[0].name).unwrap().set(|settings| {
            settings.tls_dir = tls_dir;
            settings.agent_generation += 1;
        });
        bed.bed.restart_controller(0).unwrap();
        until("another CA, and a certificate of it", SOON, async || {
            let trusted = std::fs::read_to_string(folder.join("ca.crt")).unwrap_or_default();
            let new = trusted.contains("BEGIN CERTIFICATE") && !trusted.contains(&lost);
            let enrolled = new && Credentials::load(&folder, 1).is_ok();
            Ok(if enrolled { Answer::Yes(()) } else { Answer::not_yet(trusted) })
        })
        .await
        .unwrap();
        assert!(!bed.bed.trust().await.unwrap().unwrap().contains(&lost), "it is trusted");

        // Whom it calls it does not ask for a name, since the CA of that is another one now.
        let log = Log::of_agents();
        let trusted = std::fs::read(folder.join("ca.crt")).unwrap();
        std::fs::write(taken.join("ca.crt"), trusted).unwrap();
        let credentials = Arc::new(Credentials::load(&taken, 1).unwrap());
        let (node, peer) = (&bed.nodes[0], Identity::node(&bed.nodes[0].name, bed.nodes[0].uid()));
        let address = bed.bed.fleet.node(&node.name).unwrap().address().to_string();
        // The client has shaken hands before the server has looked at its certificate.
        if let Ok(channel) = connect(&credentials, &peer, &address, DialOptions::default()).await {
            let asked = NodeClient::new(channel).inspect(question).await;
            assert!(asked.is_err(), "the certificate of before is let in: {asked:?}");
        }
        log.line(&["refused a connection", "reason=\"UnknownAuthority\""]).await;

        // The twin: the new controller is, in its own epoch.
        let (_, epoch) = updated(&bed, "after", machines::OLD).await;
        let own = controllers(&bed).await;
        client(&bed, &own, node).await.inspect(inspect(subject(node, epoch))).await.unwrap();
    });
}
