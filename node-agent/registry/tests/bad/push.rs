//! Registries that ask for more than they asked for before, and such as do not take what is pushed.

use std::io::{self, Read};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use liveupdate_registry::{Client, Error, Limits, Options};

use crate::fake::{Do, Fake, answer, taken};
use crate::{DIGEST, Folder, refused};

const KIND: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with all blobs, and tokens that let one do what was asked for when they were given.
async fn with_tokens(reads_anonymously: bool, tokens_for_writing: &'static [&'static str]) -> Fake {
    let given = AtomicU32::new(0);
    Fake::start(move |head| {
        let wants = |scope| {
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
            let asks = format!(
                "WWW-Authenticate: Bearer realm=\"http://{host}/token\",scope=\"repository:kernels/lu2:{scope}\"\r\n"
            );
            taken("401 Unauthorized", &asks, b"")
        };
        let token = |token: &str| answer("200 OK", "", format!("{{\"token\":\"{token}\"}}").as_bytes());
        if head.starts_with("GET /token?scope=repository:kernels/lu2:pull,push ") {
            let number = given.fetch_add(1, Ordering::Relaxed);
            return token(tokens_for_writing[usize::try_from(number).unwrap()]);
        }
        if head.starts_with("GET /token?scope=repository:kernels/lu2:pull ") {
            return token("reads");
        }
        if head.starts_with("HEAD /v2/kernels/lu2/blobs/") {
            let may = reads_anonymously || head.contains("authorization: Bearer reads");
            return if may { answer("200 OK", "", b"") } else { wants("pull") };
        }
        let may = head.starts_with("PUT /v2/kernels/lu2/manifests/")
            && head.contains("authorization: Bearer writes\r\n");
        if may { taken("201 Created", "", b"") } else { wants("pull,push") }
    })
    .await
}

fn client(folder: &Folder, of: &Fake) -> Client {
    let text = format!(r#"{{"auths":{{"{}":{{"auth":"dTpw"}}}}}}"#, of.address);
    Client::new(Options { auth: Some(folder.write("config.json", &text)), ..Options::default() })
}

#[tokio::test]
async fn a_manifest_is_put_where_nothing_but_reading_was_asked_for_before() {
    let folder = Folder::new();
    for reads_anonymously in [false, true] {
        let fake = with_tokens(reads_anonymously, &["writes"]).await;
        let client = client(&folder, &fake);
        assert!(client.has(&fake.repository(), DIGEST).await.unwrap());
        // By its digest and by a tag; the second time it is known what lets one in.
        client.put_manifest(&fake.repository(), DIGEST, KIND, b"{}".to_vec()).await.unwrap();
        client.put_manifest(&fake.repository(), "stable", KIND, b"{}".to_vec()).await.unwrap();
        let heads = fake.heads();
        let put = heads.last().unwrap();
        assert!(put.starts_with("PUT /v2/kernels/lu2/manifests/stable "), "{put}");
        assert!(put.contains(&format!("content-type: {KIND}\r\n")) && put.contains("content-length: 2\r\n"));
        let puts = heads.iter().filter(|head| head.starts_with("PUT ")).count();
        assert_eq!(puts, 3, "asked once, answered once, known then: {heads:?}");
    }
}

#[tokio::test]
async fn a_token_that_has_run_out_is_renewed_and_one_that_does_not_help_is_asked_for_once() {
    let folder = Folder::new();
    let put = async |fake: &Fake, client: &Client| {
        client.put_manifest(&fake.repository(), "stable", KIND, b"{}".to_vec()).await
    };
    let no = with_tokens(true, &["of no use", "writes"]).await;
    let client = client(&folder, &no);
    refused(put(&no, &client).await, "401 Unauthorized; give credentials that may do this (--registry-auth)");
    assert_eq!(no.heads().iter().filter(|head| head.starts_with("PUT ")).count(), 2);
    // What it was let in with then is as good as one that has run out.
    put(&no, &client).await.unwrap();
}

/// Uploads so many bytes, each reading of which takes so long.
async fn upload(to: &Fake, size: usize, pause: Duration, limits: Limits) -> Result<(), Error> {
    struct Slowly(usize, Duration);
    impl Read for Slowly {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = buffer.len().min(self.0);
            self.0 -= read;
            thread::sleep(self.1);
            Ok(read)
        }
    }
    let client = Client::new(Options { limits, ..Options::default() });
    let size_told = u64::try_from(size).unwrap();
    client.upload(&to.repository(), DIGEST, size_told, Slowly(size, pause)).await
}

/// Where uploads begin, and what is done when the bytes come.
async fn takes(end: fn() -> Vec<Do>) -> Fake {
    Fake::start(move |head| {
        if head.starts_with("POST /v2/kernels/lu2/blobs/uploads/ ") {
            return answer("202 Accepted", "Location: /upload?x=y\r\n", b"");
        }
        assert!(head.starts_with(&format!("PUT /upload?x=y&digest={DIGEST} ")), "{head}");
        end()
    })
    .await
}

#[tokio::test]
async fn an_upload_may_take_long_but_stands_still_for_a_bounded_time_only() {
    let short = Duration::from_millis(500);
    let limits = Limits { answer: short, idle: short, store: short, ..Limits::default() };
    let none = Duration::ZERO;
    // More than the sockets of both sides hold.
    let much = 64 << 20;
    let stops = takes(|| vec![Do::Hang]).await;
    refused(upload(&stops, much, none, limits).await, "given up: no more of it could be sent within 500ms");
    // All of it is taken, and there is no answer.
    let mute = takes(|| vec![Do::Take, Do::Hang]).await;
    refused(upload(&mute, 1000, none, limits).await, "nothing came within 500ms");
    refused(upload(&mute, 0, none, limits).await, "nothing came within 500ms");
    // A manifest is small: it is answered like everything else.
    let patient = Limits { idle: Duration::from_secs(60), store: Duration::from_secs(60), ..limits };
    let client = Client::new(Options { limits: patient, ..Options::default() });
    let silent = Fake::start(|_| vec![Do::Hang]).await;
    let put = client.put_manifest(&silent.repository(), "stable", KIND, b"{}".to_vec()).await;
    refused(put, "nothing came within 500ms");
    // Ten pieces, each of them in time.
    let good = takes(|| taken("201 Created", "", b"")).await;
    upload(&good, 10 * (64 << 10), Duration::from_millis(60), limits).await.unwrap();
}
