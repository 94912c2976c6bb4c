//! Who may speak to whom: every kind of wrong certificate, and its own error on the side that looks.

use std::fs;
use std::time::Duration;

use liveupdate_proto::node::v1::node_client::NodeClient;
use liveupdate_proto::node::v1::{InspectReply, InspectRequest};
use liveupdate_proto::refusal::Refusal;
use liveupdate_proto::tls::{Credentials, DialOptions, Identity, Objection, TlsError, connect};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{Fixture, NODE, UID, refused, soon, subject};
use crate::logs::Log;
use crate::pki::{Ca, Folder, credentials};

async fn inspect(fixture: &Fixture) -> Result<InspectReply, tonic::Status> {
    let channel = fixture.channel().await;
    let request = InspectRequest { subject: Some(subject()) };
    soon(NodeClient::new(channel).inspect(request)).await.map(tonic::Response::into_inner)
}

async fn dial(fixture: &Fixture, peer: &Identity) -> TlsError {
    let address = fixture.agent.address().to_string();
    soon(connect(&fixture.credentials, peer, &address, DialOptions::default())).await.unwrap_err()
}

#[tokio::test]
async fn the_controller_speaks_to_the_node_that_it_means() {
    let fixture = Fixture::new().await;
    let reply = inspect(&fixture).await.unwrap();
    assert_eq!((reply.node.as_str(), reply.node_uid.as_str()), (NODE, UID));
}

#[tokio::test]
async fn another_node_at_the_address_is_told_by_both_names() {
    let fixture = Fixture::new().await;
    let error = dial(&fixture, &Identity::node("worker-2", UID)).await;
    assert!(
        matches!(&error, TlsError::WrongPeer { expected, found }
        if expected.ends_with("/node/worker-2/0a1b2c3d-0000-4000-8000-000000000001") && found.contains("worker-1")),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_made_again_under_the_same_name_is_another_one() {
    let fixture = Fixture::new().await;
    let error = dial(&fixture, &Identity::node(NODE, "another-uid")).await;
    assert!(
        matches!(&error, TlsError::WrongPeer { expected, found }
        if expected.ends_with("/worker-1/another-uid") && found.ends_with(UID)),
        "{error}"
    );
    assert_eq!(error.reason(), "WrongPeer");
}

#[tokio::test]
async fn an_agent_with_an_expired_certificate_is_not_spoken_to() {
    let ca = Ca::new("liveupdate test");
    let expired = ca.expired(&Identity::node(NODE, UID));
    let mut fixture = Fixture::new().await;
    fixture.restart_agent(|config| config.tls_dir = expired).await;
    fixture.credentials = ca.controller();
    let error = dial(&fixture, &Identity::node(NODE, UID)).await;
    assert!(matches!(error, TlsError::Expired), "{error:?}");
}

#[tokio::test]
async fn an_agent_of_another_ca_is_not_spoken_to() {
    let mut fixture = Fixture::new().await;
    let other = Ca::new("somebody else's");
    fixture.credentials = other.controller();
    let error = dial(&fixture, &Identity::node(NODE, UID)).await;
    assert!(matches!(error, TlsError::UnknownAuthority), "{error:?}");
}

/// What the agent objects to in the controller's certificate reaches the controller in a word.
#[tokio::test]
async fn a_controller_with_an_expired_certificate_is_refused() {
    let mut fixture = Fixture::new().await;
    let log = Log::keep();
    fixture.credentials = credentials(&fixture.ca.expired(&Identity::Controller));
    let error = TlsError::of_status(&inspect(&fixture).await.unwrap_err()).unwrap();
    assert!(matches!(error, TlsError::Refused(Objection::Expired)), "{error:?}");
    log.refused("a connection", "CertificateExpired", "peer=127.0.0.1:").await;
}

#[tokio::test]
async fn a_controller_of_another_ca_is_refused() {
    let mut fixture = Fixture::new().await;
    let other = Ca::new("somebody else's");
    let folder = other.folder(&Identity::Controller);
    fixture.ca.trusting(&folder);
    fixture.credentials = credentials(&folder);
    let log = Log::keep();
    let error = TlsError::of_status(&inspect(&fixture).await.unwrap_err()).unwrap();
    assert!(matches!(error, TlsError::Refused(Objection::UnknownAuthority)), "{error:?}");
    log.refused("a connection", "UnknownAuthority", "peer=127.0.0.1:").await;
}

/// As any other client would see it, one that has no certificate at all.
#[tokio::test]
async fn a_caller_without_a_certificate_is_refused() {
    let fixture = Fixture::new().await;
    let ca = fs::read(fixture.ca.folder(&Identity::Controller).join("ca.crt")).unwrap();
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(ca))
        .domain_name(Identity::node(NODE, UID).dns_name());
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{}", fixture.agent.address()));
    let log = Log::keep();
    let channel = endpoint.unwrap().tls_config(tls).unwrap().connect().await.unwrap();
    let request = InspectRequest { subject: Some(subject()) };
    let status = soon(NodeClient::new(channel).inspect(request)).await.unwrap_err();
    let mut causes = Vec::new();
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&status);
    while let Some(error) = next {
        causes.push(error.to_string());
        next = error.source();
    }
    assert!(causes.iter().any(|cause| cause.contains("CertificateRequired")), "{causes:?}");
    log.refused("a connection", "NoCertificate", "peer=127.0.0.1:").await;
}

/// Another node's agent has a certificate of the same CA, and still no business here.
#[tokio::test]
async fn only_the_controller_may_call_an_agent() {
    for (folder, found) in [
        (|ca: &Ca| ca.folder(&Identity::node("worker-2", "u2")), "spiffe://liveupdate.dev/node/worker-2/u2"),
        (|ca: &Ca| ca.folder(&Identity::node(NODE, UID)), "spiffe://liveupdate.dev/node/worker-1/0a1b"),
        (|ca: &Ca| ca.issue("controller.liveupdate.dev", &[], None), "without a URI"),
        (|ca: &Ca| ca.issue("x", &["spiffe://elsewhere.example/controller"], None), "elsewhere.example"),
        (
            |ca: &Ca| {
                ca.issue("x", &["spiffe://liveupdate.dev/controller", "spiffe://liveupdate.dev/x"], None)
            },
            "controller, spiffe://liveupdate.dev/x",
        ),
    ] as [(fn(&Ca) -> std::path::PathBuf, &str); 5]
    {
        let mut fixture = Fixture::new().await;
        fixture.credentials = credentials(&folder(&fixture.ca));
        let log = Log::keep();
        let message = refused(inspect(&fixture).await, Refusal::WrongPeer);
        assert!(
            message.contains(found) && message.contains("expected spiffe://liveupdate.dev/controller"),
            "{message}"
        );
        log.refused("a call", "WrongPeer", found).await;
    }
}

#[tokio::test]
async fn health_and_reflection_are_served_to_the_controller_alone() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};

    let mut fixture = Fixture::new().await;
    let channel = fixture.channel().await;
    let check = HealthCheckRequest { service: "liveupdate.node.v1.Node".into() };
    let health = soon(HealthClient::new(channel.clone()).check(check.clone())).await.unwrap().into_inner();
    assert_eq!(health.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);

    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let mut replies =
        soon(ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::once(ask)))
            .await
            .unwrap()
            .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        soon(replies.message()).await.unwrap().unwrap().message_response
    else {
        panic!("reflection lists no services")
    };
    assert!(list.service.iter().any(|service| service.name == "liveupdate.node.v1.Node"), "{list:?}");

    fixture.credentials = credentials(&fixture.ca.folder(&Identity::node("worker-2", "u2")));
    let (channel, log) = (fixture.channel().await, Log::keep());
    refused(soon(HealthClient::new(channel).check(check)).await, Refusal::WrongPeer);
    log.refused("a call", "WrongPeer", "call=\"Check\"").await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let ca = Ca::new("liveupdate test");
    let identity = Identity::node(NODE, UID);
    let folder = ca.expired(&identity);
    let mut fixture = Fixture::new().await;
    fixture.restart_agent(|config| config.tls_dir.clone_from(&folder)).await;
    fixture.credentials = ca.controller();
    assert!(matches!(dial(&fixture, &identity).await, TlsError::Expired));

    // Half of a rotation changes nothing: key and certificate do not belong together.
    let spare = ca.folder(&identity);
    fs::copy(spare.join("tls.crt"), folder.join("tls.crt")).unwrap();
    assert!(matches!(dial(&fixture, &identity).await, TlsError::Expired));
    fs::copy(spare.join("tls.key"), folder.join("tls.key")).unwrap();
    inspect(&fixture).await.unwrap();
}

#[tokio::test]
async fn sessions_are_resumed_and_the_peer_is_checked_again() {
    let fixture = Fixture::new().await;
    inspect(&fixture).await.unwrap();
    // The ticket is for this DNS name; the UID is checked on the resumed session, too.
    let error = dial(&fixture, &Identity::node(NODE, "another-uid")).await;
    assert!(matches!(error, TlsError::WrongPeer { .. }), "{error:?}");
    inspect(&fixture).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_never_shakes_hands_holds_nobody_up_and_is_cut_off() {
    let fixture = Fixture::new().await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(fixture.agent.address()).await.unwrap());
    }
    let log = Log::keep();
    tokio::time::timeout(Duration::from_secs(3), inspect(&fixture)).await.unwrap().unwrap();
    let mut bytes = [0; 1];
    let read = soon(silent[0].read(&mut bytes)).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    log.refused("a connection", "TimedOut", "peer=127.0.0.1:").await;
}

#[tokio::test]
async fn an_agent_that_never_shakes_hands_is_given_up() {
    let ca = Ca::new("liveupdate test");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = DialOptions { connect_timeout: Duration::from_millis(200), ..DialOptions::default() };
    let error =
        soon(connect(&ca.controller(), &Identity::node(NODE, UID), &address, options)).await.unwrap_err();
    assert!(matches!(&error, TlsError::TimedOut { address: told } if *told == address), "{error:?}");
    drop(listener);
    let error =
        soon(connect(&ca.controller(), &Identity::node(NODE, UID), &address, options)).await.unwrap_err();
    assert!(matches!(&error, TlsError::Unreachable { address: told, .. } if *told == address), "{error:?}");
}

#[test]
fn credentials_that_cannot_be_used_name_their_file() {
    let ca = Ca::new("liveupdate test");
    let identity = Identity::node(NODE, UID);
    let told = |folder: &std::path::Path| Credentials::load(folder, 1).unwrap_err().to_string();

    let empty = Folder::new();
    assert!(told(empty.path()).contains("ca.crt"));

    for (file, bytes) in [
        ("ca.crt", b"".as_slice()),
        ("tls.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("tls.key", b"no key at all"),
    ] {
        let folder = ca.folder(&identity);
        fs::write(folder.join(file), bytes).unwrap();
        assert!(told(&folder).contains(file), "{file}: {}", told(&folder));
    }
    let folder = ca.folder(&identity);
    fs::copy(ca.folder(&identity).join("tls.key"), folder.join("tls.key")).unwrap();
    assert!(told(&folder).contains("tls.crt") && told(&folder).contains("tls.key"), "{}", told(&folder));
    let folder = ca.folder(&identity);
    fs::write(folder.join("tls.crt"), vec![b'x'; 300 * 1024]).unwrap();
    assert!(told(&folder).contains("larger than"), "{}", told(&folder));
}
