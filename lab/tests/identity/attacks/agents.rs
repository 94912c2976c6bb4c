//! At an agent's port: whoever is not the controller, or is one of before. That an attempt which has ended does not
//! run again is shown where attempts are run: `node-agent/tests/agent/run.rs`.

use std::path::PathBuf;
use std::sync::Arc;

use liveupdate_lab::certs::Certificate;
use liveupdate_lab::testbed::machines;
use liveupdate_proto::MINOR_VERSION;
use liveupdate_proto::common::v1::{Epoch, Subject};
use liveupdate_proto::node::v1::InspectRequest;
use liveupdate_proto::node::v1::node_client::NodeClient;
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

/// The epoch that the agent knows, as the controller's own certificate may ask.
async fn known_epoch(bed: &Bed) -> Epoch {
    bed.bed.apply_update(&machines::update("epochs", machines::NEW)).await.unwrap();
    let update = bed.bed.await_success("epochs", SOON).await.unwrap();
    let epoch = update.status.unwrap().epoch.unwrap();
    bed.bed.delete_update_and_wait("epochs", SOON).await.unwrap();
    Epoch { cluster: epoch.cluster, counter: u64::try_from(epoch.counter).unwrap() }
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
