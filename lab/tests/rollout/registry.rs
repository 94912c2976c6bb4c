//! Bundles in a real registry, pushed by the plugin and fetched by the agents.

use std::fs;
use std::path::{Path, PathBuf};

use liveupdate_crds::LiveUpdate;
use liveupdate_host::Host as _;
use liveupdate_host::bundle::{Digest, MANIFEST, Manifest, Part, SIGNATURES, Signatures, SigningKey};
use liveupdate_lab::testbed::machines::{NEW, OLD};
use liveupdate_lab::{Registry, RegistryOptions, trial_bundle};

use crate::bed::{Bed, Pool, run, says};

/// A signed bundle in a folder of the run. What its kernel is does not matter to machines that are simulated.
fn bundle(bed: &Bed, name: &str, release: &str) -> PathBuf {
    let folder = bed.bed.plane.run().folder(&format!("bundles/{name}")).unwrap();
    let write = |part: Part, bytes: &[u8]| {
        fs::write(folder.join(part.file()), bytes).unwrap();
        trial_bundle::file(bytes)
    };
    let image = write(Part::Image, &name.as_bytes().repeat(1 << 20));
    let manifest = Manifest {
        initrd: Some(write(Part::Initrd, b"an initrd")),
        ..trial_bundle::manifest(release, "kho=on liveupdate=on", image)
    };
    let bytes = manifest.to_bytes().unwrap();
    let mut signatures = Signatures::default();
    signatures.sign(&bytes, &SigningKey::generate().unwrap()).unwrap();
    fs::write(folder.join(MANIFEST), bytes).unwrap();
    fs::write(folder.join(SIGNATURES), signatures.to_bytes().unwrap()).unwrap();
    folder
}

async fn push(bed: &Bed, bundle: &Path, to: &str) -> String {
    bed.plugin(&["bundle", "push", &bundle.to_string_lossy(), to]).await.trim().to_owned()
}

/// Machines that have no bundle but the one that they run.
async fn pool<'a>(bed: &'a Bed, name: &str, count: u16) -> Pool<'a> {
    bed.pool(name, count, |_, world| world.bundles.retain(|bundle| bundle.name == OLD)).await
}

fn from(update: &mut LiveUpdate, image: &str) {
    update.spec.target.bundle = None;
    update.spec.target.image = Some(image.to_owned());
}

#[test]
fn a_bundle_is_pushed_once_and_every_node_fetches_it_by_its_digest() {
    run(async |bed| {
        let registry = Registry::start(bed.bed.plane.run(), &RegistryOptions::default()).await.unwrap();
        let folder = bundle(bed, "fetched", NEW);
        let repository = format!("{}/kernels/fetched", registry.address());
        let image = push(bed, &folder, &format!("{repository}:stable")).await;
        assert!(image.starts_with(&format!("{repository}@sha256:")), "{image}");
        assert_eq!(push(bed, &folder, &repository).await, image, "the same bundle is the same artifact");

        let back = bed.bed.plane.run().path().join("bundles/pulled");
        let pulled = bed.plugin(&["bundle", "pull", &image, "-o", &back.to_string_lossy()]).await;
        says(&pulled, &[&Digest::of(&fs::read(folder.join(MANIFEST)).unwrap()).to_string()]);
        for name in [MANIFEST, SIGNATURES, "image", "initrd"] {
            assert_eq!(fs::read(back.join(name)).unwrap(), fs::read(folder.join(name)).unwrap(), "{name}");
        }
        let by_tag = bed.bed.plugin(&["bundle", "pull", &format!("{repository}:stable"), "-o", "x"]).await;
        says(&by_tag.unwrap().stderr, &["name the artifact by its digest"]);

        let pool = pool(bed, "fetched", 3).await;
        pool.roll(|update| from(update, &image)).await;
        let status = bed.success("fetched").await;
        assert_eq!((status.counts.updated, status.failures), (3, 0));
        let digest = image.split_once('@').unwrap().1;
        for number in 1..=3 {
            assert_eq!(pool.node(number).world().running().unwrap().unwrap().release, NEW);
            pool.stands(number, "Updated", "Updated").await;
            let runs = pool.node(number).world().host().unwrap().bundle_digest().unwrap();
            assert_eq!(runs.as_deref(), Some(digest), "by this name it is on the target");
        }
        // By its log each of them came for it; the plugin had pulled it once before.
        let log = registry.log().unwrap();
        let image = Digest::of(&fs::read(folder.join("image")).unwrap());
        let fetched = |line: &&str| {
            line.contains(&format!("GET /v2/kernels/fetched/blobs/{image}")) && line.contains("liveupdate/")
        };
        let lines = log.lines().filter(|line| line.contains("HTTP/1.1\" 200")).filter(fetched).count();
        assert_eq!(lines, 4, "{log}");
    });
}

#[test]
fn what_cannot_be_fetched_blocks_the_node_with_the_registrys_words_and_a_spoilt_blob_is_found() {
    run(async |bed| {
        let registry = Registry::start(bed.bed.plane.run(), &RegistryOptions::default()).await.unwrap();
        let folder = bundle(bed, "spoilt", NEW);
        let repository = format!("{}/kernels/spoilt", registry.address());
        let pool = pool(bed, "spoilt", 1).await;
        let nothing = format!("{repository}@sha256:{}", "0".repeat(64));
        pool.roll(|update| from(update, &nothing)).await;
        let record = pool.stands(1, "Blocked", "GateNotPassed").await;
        says(&record.message, &["TargetTrusted is unknown", &nothing, "404 Not Found"]);
        assert_eq!(record.attempt, "", "nothing was begun");

        let image = push(bed, &folder, &repository).await;
        let kernel = fs::read(folder.join("image")).unwrap();
        let place = registry.blob(&Digest::of(&kernel).to_string());
        let mut spoilt = kernel.clone();
        spoilt[12345] ^= 1;
        fs::write(&place, spoilt).unwrap();
        pool.roll(|update| from(update, &image)).await;
        let told = "image was changed: its digest is";
        let record = pool
            .node_update(&pool.name_of(1), "a changed byte", |status| status.message.contains(told))
            .await;
        says(&record.message, &["TargetTrusted is unknown", &image]);
        assert_eq!((record.state.as_str(), record.attempt.as_str()), ("Blocked", ""));

        // Put right, it is fetched by the next look.
        fs::write(&place, kernel).unwrap();
        bed.success("spoilt").await;
        assert_eq!(pool.node(1).world().running().unwrap().unwrap().release, NEW);
    });
}
