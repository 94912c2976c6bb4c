//! Whom an approval lets pass.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;

use liveupdate_planner::simulation::{Behaviour, World};
use liveupdate_planner::{Amount, Policy, Step, Time, Verb, VerbKind};

/// One node is updated, its step waits for an approval, and this is written.
fn approved_with(revision: &str) -> World {
    let mut world = World::new(Time(0), Policy::default());
    for name in ["n1", "n2"] {
        world.join(name, "9.0", BTreeMap::new(), Behaviour::default());
    }
    let mut spec = common::spec("7f3c9a21d04be68c5512f0a9937e6b1d");
    let canary = Step { approval: true, ..common::step("canary", Amount::Count(1)) };
    spec.strategy.steps = vec![canary, common::step("rest", Amount::Percent(100))];
    world.apply_update(common::update("up", Time(0), spec));
    world.pass_time(Time(120_000), |_, _| {});
    assert_eq!(world.snapshot.updates[0].record.step, 0);
    let argument = "canary".to_owned();
    let verb = Verb { kind: VerbKind::Approve, argument, revision: revision.to_owned(), again: 0 };
    world.update("up").unwrap().verbs.push(verb);
    world.pass_time(Time(240_000), |_, _| {});
    world
}

#[test]
fn invariant_4_an_approval_of_a_revision_that_begins_alike_lets_no_step_pass() {
    for short in ["7f3c", "7f3c9a21", "7f3c9a21d04be68c5512f0a9937e6b1"] {
        let world = approved_with(short);
        let record = &world.snapshot.updates[0].record;
        assert!(record.step == 0 && record.verbs.is_empty(), "{short}: {record:?}");
    }
}

#[test]
fn an_approval_of_the_whole_revision_lets_its_step_pass() {
    let world = approved_with("7f3c9a21d04be68c5512f0a9937e6b1d");
    assert!(world.snapshot.updates[0].record.finished.is_some());
}
