//! A real kernel out of a real registry: pushed by the plugin, fetched by the agent in the guest, jumped into.

use std::fs;
use std::process::Command;

use liveupdate_host::bundle::Digest;
use liveupdate_lab::vm::{Product, Variant};
use liveupdate_lab::wait::{self, Answer};
use liveupdate_lab::{Registry, RegistryOptions, RunDir, binaries};
use liveupdate_lab_guest::Order;

use crate::bed::{Bed, ENOUGH, Wanted};

const AGENT: &str = "liveupdate-agent";

/// The agent is killed in the middle of it: what it had is thrown away, and the next one fetches anew.
#[tokio::test]
async fn a_guest_fetches_its_next_kernel_from_a_registry_and_jumps_into_it_whoever_dies_meanwhile() {
    let run = RunDir::create().unwrap();
    let registry = Registry::start(&run, &RegistryOptions::default()).await.unwrap();
    let product = Product {
        agent: vec![format!("--registry-plain-http={}", registry.address_for_guests())],
        ..Product::default()
    };
    let pushed = run.path().join("pushed");
    let bed = Bed::start(Wanted { product, ..Wanted::holder() }, |kit| {
        let bundle = kit.bundle(Variant::Lu2).unwrap();
        // Not one byte of it is on the guest's disk.
        let place = kit.bundle_place(&bundle.name);
        assert!(Command::new("mv").args([&place, &pushed]).status().unwrap().success());
        vec![bundle]
    })
    .await;
    let target = &bed.targets[0];
    let program = tokio::task::spawn_blocking(|| binaries::fresh("kubectl-liveupdate", "kubectl-liveupdate"));
    let mut push = Command::new(program.await.unwrap().unwrap());
    push.args(["bundle", "push"]).arg(&pushed).arg(format!("{}/kernels/{}", registry.address(), target.name));
    push.env("DOCKER_CONFIG", run.path());
    let output = tokio::task::spawn_blocking(move || push.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let here = String::from_utf8(output.stdout).unwrap();
    let image = here.trim().replace(&registry.address(), &registry.address_for_guests());
    let kernel = Digest::of(&fs::read(pushed.join("image")).unwrap());
    let asked = || {
        registry.log().unwrap().matches(&format!("GET /v2/kernels/{}/blobs/{kernel}", target.name)).count()
    };

    bed.apply_with("real", target, |spec| {
        spec.target.bundle = None;
        spec.target.image = Some(image.clone());
    })
    .await;
    let fetching = wait::until("a request for the kernel", ENOUGH, async || {
        Ok(if asked() > 0 { Answer::Yes(()) } else { Answer::not_yet(registry.log()?) })
    });
    fetching.await.unwrap();
    bed.node.order(AGENT, Order::Kill).await.unwrap();
    bed.await_success("real").await;
    bed.await_node("the end", |status| status.state == "Updated").await;
    assert_eq!(bed.node.running().unwrap().release, target.release);
    assert!(bed.report().unbroken(bed.hold.seed), "{:?}", bed.report());
    println!("the kernel was asked for {} times", asked());
}
