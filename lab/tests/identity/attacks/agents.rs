//! At an agent's port: whoever is not the controller, or is one of before, or asks for what is over.

use std::path::PathBuf;
use std::sync::Arc;

use liveupdate_crds::LiveUpdate;
use liveupdate_lab::certs::Certificate;
use liveupdate_lab::testbed::machines;
use liveupdate_proto::MINOR_VERSION;
use liveupdate_proto::common::v1::{
    Continuity, Demands, DeviceRule, Epoch, OnShortfall, OnUpdate, Subject, Target,
};
use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::node::v1::{InspectRequest, RunRequest, StageRequest, Start, run_request};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, connect};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use tonic::transport::Channel;

use crate::bed::{Bed, Enrolled, SOON, run};
use crate::logs::Log;
use crate::wire::refused;

/// The controller's own, made with the CA's key, which is the controller's alone.
async fn controllers(bed: &Bed) -> PathBuf {
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

async fn client(bed: &Bed, folder: &std::path::Path, node: &Enrolled) -> NodeClient<Channel> {
    let credentials = Arc::new(Credentials::load(folder, 1).unwrap());
    let address = bed.bed.fleet.node(&node.name).unwrap().address().to_string();
    let peer = Identity::node(&node.name, node.uid());
    NodeClient::new(connect(&credentials, &peer, &address, DialOptions::default()).await.unwrap())
}

fn subject(node: &Enrolled, epoch: Epoch) -> Subject {
    Subject {
        node: node.name.clone(),
        node_uid: node.uid(),
        epoch: Some(epoch),
        minor_version: MINOR_VERSION,
        ..Subject::default()
    }
}

fn inspect(subject: Subject) -> InspectRequest {
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
async fn known_epoch(bed: &Bed) -> Epoch {
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
