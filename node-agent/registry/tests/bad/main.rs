//! Registries that behave ill, each beside one that does not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy.toml covers only the tests themselves"
)]

mod fake;
mod push;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fake::{Do, Fake, answer};
use liveupdate_registry::{Client, Error, LARGEST_MANIFEST, Limits, Options};
use tokio_rustls::TlsAcceptor;

const DIGEST: &str = "sha256:0263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f";

/// As they are, but for those whose server says nothing more: only they wait for these to pass.
fn hasty() -> Client {
    let short = Duration::from_millis(200);
    Client::new(Options {
        limits: Limits { answer: short, idle: short, ..Limits::default() },
        ..Options::default()
    })
}

fn client() -> Client {
    Client::new(Options { ..Options::default() })
}

/// More of a body than any test sends: who reads on here would read until the machine has no memory left.
const ENDLESS: usize = 1 << 20;

async fn blob(of: &Fake, size: u64) -> Result<Vec<u8>, Error> {
    let mut blob = client().blob(&of.repository(), DIGEST, size).await?;
    let mut all = Vec::new();
    while let Some(piece) = blob.next().await? {
        all.extend_from_slice(&piece);
        assert!(all.len() < ENDLESS, "{size} bytes were announced, and it reads on");
    }
    Ok(all)
}

/// What went wrong, with its causes.
fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    let error = result.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>, with: &str) {
    let told = told(result);
    assert!(told.contains(with), "want {with:?} in {told:?}");
}

#[tokio::test]
async fn a_blob_comes_as_it_is() {
    let fake = Fake::start(|_| answer("200 OK", "", b"kernel")).await;
    assert_eq!(blob(&fake, 6).await.unwrap(), b"kernel");
    let head = &fake.heads()[0];
    assert!(head.starts_with(&format!("GET /v2/kernels/lu2/blobs/{DIGEST} HTTP/1.1\r\n")), "{head}");
    assert!(!head.to_lowercase().contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn no_more_is_read_than_was_announced() {
    let longer = Fake::start(|_| answer("200 OK", "", b"kernel!")).await;
    refused(blob(&longer, 6).await, "is too long: more than the 6 bytes that it may have");
    let shorter = Fake::start(|_| answer("200 OK", "", b"kern")).await;
    refused(blob(&shorter, 6).await, "is cut off: 4 of 6 bytes came");
    // Without a length, in pieces of which there is no end.
    let endless = Fake::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        vec![
            Do::Say(head),
            Do::Repeat(b"400\r\n".iter().chain(&[b'x'; 1024]).chain(b"\r\n").copied().collect()),
        ]
    })
    .await;
    refused(blob(&endless, 6000).await, "is too long: more than the 6000 bytes");
    // It says less than it sends, and then sends nothing.
    let breaks =
        Fake::start(|_| vec![Do::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nker".to_vec())]).await;
    refused(blob(&breaks, 6).await, "broke off");
}

#[tokio::test]
async fn a_manifest_is_bounded_before_it_is_read() {
    let size = usize::try_from(LARGEST_MANIFEST).unwrap();
    let manifest = |length: usize| async move {
        let fake = Fake::start(move |_| answer("200 OK", "", &vec![b' '; length])).await;
        client().manifest(&fake.repository(), DIGEST).await
    };
    assert_eq!(manifest(size).await.unwrap().len(), size);
    refused(manifest(size + 1).await, "is too long: more than the 65536 bytes");
    let silent = Fake::start(|_| {
        vec![
            Do::Say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
            Do::Repeat(b"1\r\nx\r\n".to_vec()),
        ]
    })
    .await;
    refused(client().manifest(&silent.repository(), DIGEST).await, "does not say how long it is");
    let headers = Fake::start(|_| {
        vec![Do::Say(b"HTTP/1.1 200 OK\r\n".to_vec()), Do::Repeat(b"X-More: headers\r\n".to_vec())]
    })
    .await;
    refused(client().manifest(&headers.repository(), DIGEST).await, "broke off");
}

#[tokio::test]
async fn whoever_says_nothing_or_trickles_is_given_up() {
    let mute = Fake::start(|_| vec![Do::Hang]).await;
    let blob = async |of: &Fake| hasty().blob(&of.repository(), DIGEST, 6).await?.whole().await;
    refused(blob(&mute).await, "nothing came within 200ms");
    let stops =
        Fake::start(|_| vec![Do::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nker".to_vec()), Do::Hang])
            .await;
    refused(blob(&stops).await, "nothing came within 200ms");
}

#[tokio::test]
async fn packed_answers_are_refused() {
    let packed = Fake::start(|_| answer("200 OK", "Content-Encoding: gzip\r\n", b"kernel")).await;
    refused(blob(&packed, 6).await, "it comes packed (Content-Encoding), which nobody asked for");
    refused(client().manifest(&packed.repository(), DIGEST).await, "it comes packed");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_registrys_words_and_bounded() {
    let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest\u001b[2J unknown"}]}"#;
    let gone = Fake::start(|_| answer("404 Not Found", "", body)).await;
    let words = "404 Not Found: manifest[2J unknown; push it there, or correct the reference";
    refused(client().manifest(&gone.repository(), DIGEST).await, words);
    let talks = Fake::start(|_| {
        vec![
            Do::Say(b"HTTP/1.1 500 No\r\nContent-Length: 9999999999\r\n\r\n".to_vec()),
            Do::Repeat(vec![b'x'; 1024]),
        ]
    })
    .await;
    refused(blob(&talks, 6).await, "500 Internal Server Error");
    let no_http = Fake::start(|_| vec![Do::Say(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())]).await;
    refused(blob(&no_http, 6).await, "broke off");
}

#[tokio::test]
async fn a_blob_is_followed_elsewhere_without_credentials_and_never_down() {
    let store = Fake::start(|_| answer("200 OK", "", b"kernel")).await;
    let folder = Folder::new();
    let lead = |to: String| async move {
        Fake::start(move |head| {
            if head.contains("authorization: Basic dTpw") {
                return answer("307 Temporary Redirect", &format!("Location: {to}\r\n"), b"");
            }
            answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"")
        })
        .await
    };
    let with_credentials = |fake: &Fake| {
        let file =
            folder.write("config.json", &format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, fake.address));
        Client::new(Options { auth: Some(file), ..Options::default() })
    };
    let fetch =
        async |fake: &Fake| with_credentials(fake).blob(&fake.repository(), DIGEST, 6).await?.whole().await;
    let good = lead(format!("http://{}/there?signature=x", store.address)).await;
    assert_eq!(fetch(&good).await.unwrap(), b"kernel");
    let head = &store.heads()[0];
    assert!(
        head.starts_with("GET /there?signature=x") && !head.to_lowercase().contains("authorization"),
        "{head}"
    );
    for (to, why) in [
        ("http://198.51.100.7/latest/meta-data", "it is without TLS"),
        ("file:///etc/passwd", "that is no address"),
        ("ftp://registry.example/x", "that is no HTTP"),
        ("//198.51.100.7/x", "that is no address"),
        ("http://user@127.0.0.1/x", "that is no address"),
    ] {
        let fake = lead(to.to_owned()).await;
        refused(fetch(&fake).await, &format!("points to {to}, which is not followed: {why}"));
    }
    let round = lead("/v2/kernels/lu2/blobs/again".to_owned()).await;
    refused(fetch(&round).await, "401 Unauthorized");
    // A manifest has no business elsewhere.
    let refusal = with_credentials(&good).manifest(&good.repository(), DIGEST).await;
    refused(refusal, "redirections are followed for blobs alone");
}

#[tokio::test]
async fn whoever_is_led_in_a_circle_stops() {
    let fake = Fake::start(|_| answer("302 Found", "Location: /again\r\n", b"")).await;
    refused(blob(&fake, 6).await, "it is led around too often");
    assert_eq!(fake.heads().len(), 4);
}

#[tokio::test]
async fn a_token_is_asked_for_where_the_registry_says_and_not_without_tls() {
    let folder = Folder::new();
    let tokens = Fake::start(|_| answer("200 OK", "", br#"{"token":"t0ken"}"#)).await;
    let guard = |realm: String| async move {
        Fake::start(move |head| {
            if head.contains("authorization: Bearer t0ken") {
                return answer("200 OK", "", b"kernel");
            }
            let asks = format!(
                "WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:kernels/lu2:pull\"\r\n"
            );
            answer("401 Unauthorized", &asks, b"")
        })
        .await
    };
    let good = guard(format!("http://{}/token", tokens.address)).await;
    let file =
        folder.write("config.json", &format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, good.address));
    let client = Client::new(Options { auth: Some(file), ..Options::default() });
    let fetched = client.blob(&good.repository(), DIGEST, 6).await.unwrap().whole().await.unwrap();
    assert_eq!(fetched, b"kernel");
    let head = &tokens.heads()[0];
    assert!(head.starts_with("GET /token?service=s&scope=repository:kernels/lu2:pull "), "{head}");
    assert!(head.contains("authorization: Basic dTpw"), "{head}");
    let bad = guard("http://198.51.100.7/token".to_owned()).await;
    refused(blob(&bad, 6).await, "which is not followed: it is without TLS");
    // Said without TLS, another host would get what is the registry's. Who has nothing to give away asks there.
    let led = guard("https://localhost:1/token".to_owned()).await;
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, led.address);
    let options = Options { auth: Some(folder.write("led.json", &text)), ..Options::default() };
    let refusal = Client::new(options).blob(&led.repository(), DIGEST, 6).await;
    refused(refusal, "could have named that host, and would get its credentials");
    let told = told(blob(&led, 6).await);
    assert!(!told.contains("could have named that host"), "{told}");
    // Nobody has credentials for this one.
    let alone =
        Fake::start(|_| answer("401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", b"")).await;
    refused(blob(&alone, 6).await, "401 Unauthorized; give credentials that may do this (--registry-auth)");
}

#[tokio::test]
async fn with_tls_the_registry_proves_who_it_is() {
    let folder = Folder::new();
    let (ours, theirs) = (Ca::new(&folder, "ours.crt"), Ca::new(&folder, "theirs.crt"));
    let fake = Fake::with(Some(ours.acceptor("127.0.0.1")), |_| answer("200 OK", "", b"kernel")).await;
    let by = |ca: &Ca| Client::new(Options { ca: Some(ca.file.clone()), ..Options::default() });
    let fetched = by(&ours).blob(&fake.repository(), DIGEST, 6).await.unwrap().whole().await.unwrap();
    assert_eq!(fetched, b"kernel");
    refused(by(&theirs).blob(&fake.repository(), DIGEST, 6).await, "invalid peer certificate");
    let other =
        Fake::with(Some(ours.acceptor("registry.example")), |_| answer("200 OK", "", b"kernel")).await;
    refused(by(&ours).blob(&other.repository(), DIGEST, 6).await, "invalid peer certificate");
    // One that is spoken to in plain words where TLS is due.
    let plain = Fake::start(|_| answer("200 OK", "", b"kernel")).await;
    let hasty = Limits { connect: Duration::from_millis(200), ..Limits::default() };
    let refusal = Client::new(Options { ca: Some(ours.file.clone()), limits: hasty, ..Options::default() })
        .blob(&plain.repository(), DIGEST, 6)
        .await;
    refused(refusal, &format!("connecting to {}: nothing came", plain.address));
    // And never from TLS to none, though it is this machine.
    let to = format!("Location: http://{}/x\r\n", plain.address);
    let down = Fake::with(Some(ours.acceptor("127.0.0.1")), move |_| answer("302 Found", &to, b"")).await;
    refused(by(&ours).blob(&down.repository(), DIGEST, 6).await, "it is without TLS");
    let none = folder.write("empty.crt", "nothing");
    let client = Client::new(Options { ca: Some(none), ..Options::default() });
    refused(client.blob(&fake.repository(), DIGEST, 6).await, "it holds no certificate in PEM");
}

struct Ca {
    file: PathBuf,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    fn new(folder: &Folder, name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = parameters.self_signed(&key).unwrap();
        let file = folder.write(name, &certificate.pem());
        Self { file, issuer: rcgen::Issuer::new(parameters, key) }
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate.der().clone()], key)
                .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A folder of its own, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("liveupdate-registry-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
