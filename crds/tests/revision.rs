//! What makes an update another undertaking.
// Helpers of tests are tests, which clippy does not see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use liveupdate_crds::update::{OnUpdate, Strategy};
use liveupdate_crds::{Acknowledgement, IntOrPercent, LiveUpdate, LiveUpdateSpec, check, revision};

fn full() -> LiveUpdateSpec {
    check::<LiveUpdate>(&common::read("examples/full.yaml"), None).unwrap().spec
}

/// These stand in statuses and attempt ids: another value after an upgrade of the controller would begin
/// every run again.
#[test]
fn the_revisions_of_the_examples_never_change() {
    let minimal = check::<LiveUpdate>(&common::read("examples/minimal.yaml"), None).unwrap().spec;
    assert_eq!(revision(&full()), "f2cc07d0e9f38dabca485934e891be63");
    assert_eq!(revision(&minimal), "35b2d97ff2a5693cbbedc2d84bf835a4");
}

#[test]
fn how_the_run_goes_does_not_matter() {
    let mut spec = full();
    spec.strategy = Strategy { max_unavailable: IntOrPercent::Int(7), ..Strategy::default() };
    spec.deadlines.stage = "1h".to_owned();
    spec.blackout_budget = None;
    spec.paused = true;
    spec.node_selector = Default::default();
    spec.join_policy = liveupdate_crds::update::JoinPolicy::Include;
    assert_eq!(revision(&spec), revision(&full()));
}

#[test]
fn repeated_tokens_do_not_matter() {
    let mut spec = full();
    spec.acknowledge = vec![Acknowledgement::VfioPciLiveUpdate; 2];
    assert_eq!(revision(&spec), revision(&full()));
}

#[test]
fn target_devices_their_order_and_acknowledgements_matter() {
    let edits: [fn(&mut LiveUpdateSpec); 7] = [
        |spec| spec.target.release.push('x'),
        |spec| spec.target.bundle.as_mut().unwrap().name.push('x'),
        |spec| spec.target.bundle.as_mut().unwrap().digest.push('0'),
        |spec| spec.target.image = Some("registry.example/kernels@sha256:0".to_owned()),
        |spec| spec.devices.swap(0, 1),
        |spec| spec.devices[0].on_update = OnUpdate::Stop,
        |spec| spec.acknowledge.clear(),
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        let mut spec = full();
        edit(&mut spec);
        assert_ne!(revision(&spec), revision(&full()), "edit {index}");
    }
}
