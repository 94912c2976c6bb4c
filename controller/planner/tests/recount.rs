//! Where no script reaches: what happens between the admission of a node and its jump.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;

use liveupdate_planner::simulation::{Behaviour, World};
use liveupdate_planner::{
    Action, Agent, Amount, AttemptFacts, AttemptState, Plan, Policy, Text, Time, Verb, VerbKind,
};

/// Four nodes, two at a time, carried to the pass in which both marks are seen and `Run` comes next.
fn marked() -> World {
    let mut world = World::new(Time(0), Policy::default());
    for number in 1..=4 {
        world.join(&format!("n{number}"), "9.0", BTreeMap::new(), Behaviour::default());
    }
    let mut spec = common::spec("aaaa1111");
    spec.strategy.max_unavailable = Amount::Count(2);
    world.apply_update(common::update("up", Time(0), spec));
    while world.snapshot.nodes.iter().filter(|node| node.mark.is_some()).count() < 2 {
        let plan = world.plan();
        assert!(started(&plan).is_empty(), "nothing starts before its mark is seen");
        world.carry_out(&plan);
    }
    world
}

fn started(plan: &Plan) -> Vec<&str> {
    plan.actions
        .iter()
        .filter_map(|action| if let Action::Run { node, .. } = action { Some(node.as_str()) } else { None })
        .collect()
}

fn down(world: &mut World, name: &str) {
    world.node(name).expect("it joined").0.ready = false;
}

#[test]
fn invariant_1_both_run_when_the_count_still_fits() {
    let mut world = marked();
    assert_eq!(started(&world.plan()), ["n1", "n2"]);
}

#[test]
fn invariant_1_the_last_admitted_leaves_when_another_node_went_down_before_the_run() {
    let mut world = marked();
    down(&mut world, "n4");
    let plan = world.plan();
    assert_eq!(started(&plan), ["n1"]);
    let left: Vec<&str> =
        plan.report.updates["up"].record.in_flight.iter().map(|flight| flight.node.as_str()).collect();
    assert_eq!(left, ["n1"]);
    // Its mark goes once the record is seen, and it is not admitted again while there is no room.
    world.carry_out(&plan);
    assert!(world.settle(|_, plan| assert_eq!(started(plan).iter().filter(|n| **n != "n1").count(), 0)));
    assert!(world.node("n2").expect("it joined").0.mark.is_none());
    assert_eq!(world.snapshot.updates[0].record.in_flight.len(), 1);
}

#[test]
fn invariant_1_the_policys_limit_counts_at_the_run_too() {
    let mut world = marked();
    world.snapshot.policy.max_unavailable = Some(Amount::Count(1));
    assert_eq!(started(&world.plan()), ["n1"]);
}

#[test]
fn invariant_4_nothing_that_was_admitted_runs_after_a_pause() {
    let mut world = marked();
    if let Ok(spec) = &mut world.snapshot.updates[0].spec {
        spec.paused = true;
    }
    let plan = world.plan();
    assert!(started(&plan).is_empty());
    assert!(plan.report.updates["up"].record.in_flight.is_empty(), "what never ran leaves again");
}

#[test]
fn invariant_9_a_node_that_another_actor_took_meanwhile_does_not_run() {
    let mut world = marked();
    world.node("n1").expect("it joined").0.foreign = Some("taint medik8s.io/remediation".into());
    assert_eq!(started(&world.plan()), ["n2"]);
}

#[test]
fn a_flood_of_verbs_neither_outgrows_the_status_nor_keeps_abort_out() {
    let mut world = marked();
    let verb = |kind, argument: String| Verb { kind, argument, revision: "aaaa".into(), again: 0 };
    let flood = (0..100).map(|number| verb(VerbKind::Skip, format!("gone-{number}")));
    world.snapshot.updates[0].verbs = flood.chain([verb(VerbKind::Abort, String::new())]).collect();
    let taken = world.plan().report.updates.remove("up").expect("it is reported").record.verbs;
    assert!(taken.len() <= 32, "{} verbs", taken.len());
    assert!(taken.iter().any(|verb| verb.kind == VerbKind::Abort));
}

/// Puts `n1` to where its agent has a receipt and asks for the permission.
fn asks(world: &mut World) -> Text {
    let attempt = world.snapshot.updates[0].record.in_flight[0].attempt.clone();
    let node = world.node("n1").expect("it joined").0;
    let state = AttemptState::AsksPermission { receipt: "receipt".into(), boot_id: node.boot_id.to_string() };
    let Agent::Answered(facts) = &mut node.agent else { panic!("{:?}", node.agent) };
    facts.attempt = Some(AttemptFacts { attempt: attempt.clone(), state });
    attempt
}

fn permits(plan: &Plan) -> usize {
    plan.actions.iter().filter(|action| matches!(action, Action::Permit { .. })).count()
}

#[test]
fn invariant_2_who_asks_under_a_hold_or_an_abort_is_undone_and_not_permitted() {
    let mut world = marked();
    let attempt = asks(&mut world);
    assert_eq!(permits(&world.plan()), 1, "with nothing in the way it is permitted");
    let undone = |plan: &Plan| {
        let abort = |action: &Action| matches!(action, Action::Abort { attempt: of, .. } if *of == attempt);
        permits(plan) == 0 && plan.actions.iter().any(abort)
    };
    world.snapshot.policy.hold = true;
    assert!(undone(&world.plan()), "{:?}", world.plan().actions);
    world.snapshot.policy.hold = false;
    let abort =
        Verb { kind: VerbKind::Abort, argument: String::new(), revision: "aaaa1111".into(), again: 0 };
    world.snapshot.updates[0].verbs.push(abort);
    assert!(undone(&world.plan()), "{:?}", world.plan().actions);
    world.snapshot.updates[0].verbs.clear();
    world.snapshot.updates[0].deleting = true;
    assert!(undone(&world.plan()), "{:?}", world.plan().actions);
}

#[test]
fn invariant_2_a_receipt_for_another_boot_than_the_kubelets_is_not_permitted() {
    let mut world = marked();
    asks(&mut world);
    world.node("n1").expect("it joined").0.boot_id = "another".into();
    assert_eq!(permits(&world.plan()), 0);
}

/// Nobody saw it go: the name is the same, the mark is copied, the agent's word is the old one.
#[test]
fn invariant_6_a_node_made_again_between_two_looks_inherits_no_attempt() {
    let mut world = marked();
    let attempt = asks(&mut world);
    world.node("n1").expect("it joined").0.uid = "another".into();
    let plan = world.plan();
    let record = &plan.report.updates["up"].record;
    assert!(record.in_flight.iter().all(|flight| flight.attempt != attempt), "{:?}", record.in_flight);
    assert_eq!((record.failures, permits(&plan)), (1, 0), "nobody can say that it had not jumped");
    assert!(!started(&plan).contains(&"n1"));
}
