//! Registries that ask for more than they asked for before, and such as do not take what is pushed.

use std::sync::atomic::{AtomicU32, Ordering};

use liveupdate_registry::{Client, Options};

use crate::fake::{Fake, answer, taken};
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
