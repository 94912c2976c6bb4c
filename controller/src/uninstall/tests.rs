//! What those may cost who come without a right to.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::{Request, Response};
use k8s_openapi::ByteString;
use kube::client::Body;
use liveupdate_proto::tls::Pems;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use tokio::sync::Semaphore;

use super::*;

/// An API server that knows nobody's token, and answers when it may.
#[derive(Clone)]
struct Server {
    asked: Arc<AtomicUsize>,
    answers: Arc<Semaphore>,
}

impl Server {
    fn new(answers: usize) -> Self {
        Self { asked: Arc::default(), answers: Arc::new(Semaphore::new(answers)) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn uninstaller(&self) -> Uninstaller {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                assert!(request.uri().path().ends_with("/tokenreviews"), "{}", request.uri());
                server.asked.fetch_add(1, Ordering::Relaxed);
                server.answers.acquire().await.unwrap().forget();
                let review = json!({
                    "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {},
                    "status": {"authenticated": false, "error": "invalid bearer token"},
                });
                let body = Body::from(review.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(Response::builder().status(201).body(body).unwrap())
            }
        });
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        let pems = Pems { authorities: certificate.clone(), certificate, key: key.serialize_pem() };
        let credentials = Arc::new(Credentials::held(&pems, 1).unwrap());
        let client = Client::new(service, "default");
        let (shared, strangers) = (Arc::default(), Arc::default());
        Uninstaller::new(client, credentials, shared, strangers, "liveupdate-system", 9443)
    }
}

/// One that says of itself all that it should, so that only the API server can tell.
fn forged() -> UninstallRequest {
    let claims = json!({
        "aud": AUDIENCE, "sub": format!("system:serviceaccount:liveupdate-system:{ACCOUNT}"),
    });
    let part = serde_json::to_value(ByteString(claims.to_string().into_bytes())).unwrap();
    let part = part.as_str().unwrap().trim_end_matches('=').replace('+', "-").replace('/', "_");
    UninstallRequest { token: format!("e30.{part}.forged") }
}

#[tokio::test]
async fn a_flood_of_forged_tokens_is_answered_with_busy_before_anything_is_asked() {
    let server = Server::new(Semaphore::MAX_PERMITS);
    let uninstaller = server.uninstaller();
    let (begun, mut words) = (Instant::now(), Vec::new());
    for port in 0..300 {
        let peer = SocketAddr::from(([192, 0, 2, 1], port));
        let status = uninstaller.answer(peer, &forged()).await.unwrap_err();
        words.push(Refusal::of(&status).unwrap());
    }
    // What came anew meanwhile is more only on a machine that stood still.
    let most = 101 + usize::try_from(begun.elapsed().as_secs()).unwrap() * 20 + 20;
    assert!(server.asked() >= 100 && server.asked() <= most, "asked {} times of {most}", server.asked());
    assert_eq!(words.iter().filter(|word| **word == Refusal::TokenRefused).count(), server.asked());
    assert_eq!(words.iter().filter(|word| **word == Refusal::Busy).count(), 300 - server.asked());
    // Somebody else is still heard.
    let other = SocketAddr::from(([192, 0, 2, 2], 1));
    let status = uninstaller.answer(other, &forged()).await.unwrap_err();
    assert_eq!(Refusal::of(&status), Some(Refusal::TokenRefused));
}

#[tokio::test]
async fn no_more_questions_than_for_enrolment_are_open_at_a_time() {
    let server = Server::new(0);
    let uninstaller = Arc::new(server.uninstaller());
    let asking = (0..20).map(|port| {
        let uninstaller = Arc::clone(&uninstaller);
        tokio::spawn(async move {
            let peer = SocketAddr::from(([192, 0, 2, 1], port));
            uninstaller.answer(peer, &forged()).await.unwrap_err()
        })
    });
    let asking: Vec<_> = asking.collect();
    // Everybody in this process gets his turn, time and again.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.asked(), 8);
    server.answers.add_permits(20);
    for asked in asking {
        let status = tokio::time::timeout(Duration::from_secs(30), asked).await.unwrap().unwrap();
        assert_eq!(Refusal::of(&status), Some(Refusal::TokenRefused));
    }
    assert_eq!(server.asked(), 20);
}

#[test]
fn an_update_with_attempts_in_flight_or_marks_on_nodes_still_needs_a_controller() {
    let update = |finalizers: &[&str], in_flight: &[&str]| -> LiveUpdate {
        let flying: Vec<_> = in_flight
            .iter()
            .map(|node| json!({"node": node, "uid": "u", "attempt": "a", "since": "2026-11-23T14:59:48Z"}))
            .collect();
        serde_json::from_value(json!({
            "apiVersion": "liveupdate.dev/v1alpha1", "kind": "LiveUpdate",
            "metadata": {"name": "gpu", "finalizers": finalizers},
            "spec": {"nodeSelector": {}, "target": {"release": "7.3.5-lu2"}},
            "status": {"inFlight": flying},
        }))
        .unwrap()
    };
    let said = |update| {
        unfinished(&update).into_iter().map(|problem| (problem.node, problem.why)).collect::<Vec<_>>()
    };
    assert_eq!(said(update(&[], &[])), []);
    assert_eq!(said(update(&["example.com/other"], &[])), []);
    let marked = said(update(&[FINALIZER], &[]));
    assert!(marked.len() == 1 && marked[0].1.contains("accept-failure gpu"), "{marked:?}");
    let flying = said(update(&[FINALIZER], &["n1", "n2"]));
    assert_eq!(flying.iter().map(|(node, _)| node.as_str()).collect::<Vec<_>>(), ["n1", "n2"]);
    assert!(flying.iter().all(|(_, why)| why.contains("in flight")), "{flying:?}");
}
