use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use liveupdate_crds::LiveUpdateStatus;
use liveupdate_crds::update::InFlight;

use super::super::machines;
use super::log::{Change, Event};
use super::*;

const ATTEMPT: &str = "45fb9b5c-0a1b2c3d-1";

/// The update with these attempts at `hv-02` in flight.
fn update(version: u64, flying: &[&str]) -> Event {
    let entry = |attempt: &&str| InFlight {
        node: "hv-02".to_owned(),
        uid: "u2".to_owned(),
        attempt: (*attempt).to_owned(),
        since: Time("2026-01-01T00:00:00Z".parse().unwrap()),
    };
    let mut object = machines::update("fleet", machines::NEW);
    object.metadata.uid = Some("lu".to_owned());
    object.status = Some(LiveUpdateStatus {
        in_flight: flying.iter().map(entry).collect(),
        ..LiveUpdateStatus::default()
    });
    Event { version, seen: Instant::now(), change: Change::Update(Box::new(object)) }
}

fn told(events: Vec<Event>) -> Vec<String> {
    let (mut replay, worlds) = (Replay::default(), BTreeMap::new());
    events.into_iter().for_each(|event| replay.take(event, &worlds));
    replay.jumped("hv-02", &[ATTEMPT.to_owned()]);
    replay.found()
}

#[test]
fn invariant_5_a_jump_after_the_attempt_left_without_a_trace_is_told() {
    let found = told(vec![update(1, &[]), update(2, &[ATTEMPT]), update(3, &[])]);
    assert!(matches!(found.as_slice(), [text] if text.contains("left inFlight")), "{found:?}");
}

#[test]
fn invariant_5_an_attempt_that_left_no_trace_may_be_admitted_again_under_its_id() {
    let found = told(vec![update(1, &[]), update(2, &[ATTEMPT]), update(3, &[]), update(4, &[ATTEMPT])]);
    assert_eq!(found, Vec::<String>::new());
}
