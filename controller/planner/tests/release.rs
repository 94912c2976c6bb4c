//! The verb `release`: what it is bound to, and when it is carried out.
#![expect(clippy::expect_used, reason = "helpers of tests")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use liveupdate_planner::simulation::{Behaviour, Fault, World};
use liveupdate_planner::{Action, Agent, NodeEnd, Plan, Policy, Reason, Text, Time, Update, Verb, VerbKind};

/// Two nodes, of which `n1` keeps files of its attempt, and a run that stands because of it.
fn quarantined() -> (World, Text) {
    let mut world = World::new(Time(0), Policy::default());
    for number in 1..=2 {
        let fault = (number == 1).then_some(Fault::Fails(Reason::Quarantined));
        let behaviour = Behaviour { fault, ..Behaviour::default() };
        world.join(&format!("n{number}"), "9.0", BTreeMap::new(), behaviour);
    }
    world.apply_update(update("up", "aaaa1111", Time(0)));
    assert!(world.pass_time(Time(600_000), |_, _| {}));
    let record = world.node("n1").expect("it joined").0.record.clone().expect("it has one");
    assert_eq!(record.end, Some(NodeEnd::Failed { reason: Reason::Quarantined }));
    (world, record.attempt)
}

fn update(name: &str, revision: &str, created: Time) -> Update {
    common::update(name, created, common::spec(revision))
}

fn verb(node: &str, revision: &str) -> Verb {
    Verb { kind: VerbKind::Release, argument: node.into(), revision: revision.into(), again: 0 }
}

fn give(world: &mut World, verb: Verb) {
    world.snapshot.updates[0].verbs.push(verb);
}

fn released(plan: &Plan) -> Vec<(&str, &str)> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Release { node, attempt, .. } => Some((node.as_str(), attempt.as_str())),
            _ => None,
        })
        .collect()
}

fn remarks(plan: &Plan) -> &[String] {
    &plan.report.updates["up"].remarks
}

#[test]
fn invariant_8_nothing_is_given_up_before_the_word_is_on_record() {
    let (mut world, attempt) = quarantined();
    assert!(released(&world.plan()).is_empty(), "not without the verb");
    give(&mut world, verb("n1", "aaaa"));
    let plan = world.plan();
    assert!(released(&plan).is_empty(), "taken, and not on record yet: {:?}", plan.actions);
    let noted = format!("n1/{attempt}");
    let verbs = &plan.report.updates["up"].record.verbs;
    assert!(verbs.iter().any(|verb| verb.argument == noted), "{verbs:?}");
    world.carry_out(&plan);
    assert_eq!(released(&world.plan()), [("n1", attempt.as_str())]);
    // Until its agent has said so: nobody knows whether a call was carried out.
    assert_eq!(released(&world.plan()), [("n1", attempt.as_str())]);
    assert!(world.settle(|_, _| {}));
    assert!(released(&world.plan()).is_empty());
    let record = world.node("n1").expect("it joined").0.record.clone().expect("it has one");
    assert_eq!(record.end, Some(NodeEnd::Failed { reason: Reason::Quarantined }), "it stays failed");
    assert!(record.last_failure.contains("gave up the files"), "{}", record.last_failure.as_str());
    assert_eq!(world.snapshot.updates[0].record.failures, 1);
    let left = &world.snapshot.updates[0].record.verbs;
    assert!(left.iter().all(|verb| verb.argument != noted), "{left:?}");
}

/// An agent says that it keeps files before anybody has recorded how its attempt ended.
#[test]
fn invariant_8_nothing_is_given_up_of_an_attempt_whose_end_is_not_on_record() {
    let mut world = World::new(Time(0), Policy::default());
    let fault = Some(Fault::Fails(Reason::Quarantined));
    world.join("n1", "9.0", BTreeMap::new(), Behaviour { fault, ..Behaviour::default() });
    let mut update = update("up", "aaaa1111", Time(0));
    update.verbs.push(verb("n1", "aaaa1111"));
    world.apply_update(update);
    let mut times = 0;
    let over = world.pass_time(Time(600_000), |world, plan| {
        let flying = &world.snapshot.updates[0].record.in_flight;
        for (_, attempt) in released(plan) {
            assert!(flying.iter().all(|flight| *flight.attempt != *attempt), "{attempt} is under way");
            times += 1;
        }
    });
    assert!(over && times > 0, "{times}");
}

#[test]
fn where_nothing_is_kept_the_verb_is_refused_and_says_why() {
    let (mut world, _) = quarantined();
    give(&mut world, verb("n2", "aaaa1111"));
    give(&mut world, verb("n3", "aaaa1111"));
    for _ in 0..2 {
        let plan = world.plan();
        let said = remarks(&plan);
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("node \"n2\" is not Quarantined"), "{said:?}");
        assert!(said[1].contains("node \"n3\" does not exist"), "{said:?}");
        assert!(released(&plan).is_empty());
        let taken = &plan.report.updates["up"].record.verbs;
        assert!(taken.iter().all(|verb| verb.kind != VerbKind::Release), "{taken:?}");
        world.carry_out(&plan);
    }
}

#[test]
fn a_verb_for_another_revision_gives_up_nothing() {
    let (mut world, _) = quarantined();
    for revision in ["bbbb2222", "aaa", "aaaa2222"] {
        give(&mut world, verb("n1", revision));
    }
    assert!(world.settle(|_, plan| assert!(released(plan).is_empty() && remarks(plan).is_empty())));
}

#[test]
fn an_update_that_has_nothing_to_do_with_the_node_gives_up_nothing_of_it() {
    let (mut world, _) = quarantined();
    let mut other = update("up", "aaaa1111", Time(0));
    other.uid = "uid-of-another".into();
    // A node that joined before it was made is its own; these joined after.
    other.created = Time(-1);
    other.verbs = vec![verb("n1", "aaaa1111")];
    world.snapshot.updates = vec![other];
    let plan = world.plan();
    assert!(remarks(&plan)[0].contains("node \"n1\" is no part of this update"), "{:?}", remarks(&plan));
    assert!(world.settle(|_, plan| assert!(released(plan).is_empty())));
}

#[test]
fn an_agent_that_refuses_is_quoted_and_asked_again() {
    let (mut world, attempt) = quarantined();
    give(&mut world, verb("n1", "aaaa"));
    let plan = world.plan();
    world.carry_out(&plan);
    let (node, _) = world.node("n1").expect("it joined");
    let Agent::Answered(facts) = &mut node.agent else { panic!("{:?}", node.agent) };
    facts.refusal = Some((attempt.clone(), "the kernel says EBUSY".into()));
    let plan = world.plan();
    assert_eq!(released(&plan), [("n1", attempt.as_str())]);
    assert!(remarks(&plan)[0].ends_with("the kernel says EBUSY"), "{:?}", remarks(&plan));
}

#[test]
fn invariant_8_a_verb_is_for_the_attempt_that_was_seen_and_for_none_that_follows() {
    let (mut world, first) = quarantined();
    give(&mut world, verb("n1", "aaaa"));
    assert!(world.settle(|_, _| {}));
    // The annotation stays where it is; the node is tried again, and its holder does not come again.
    let retry = Verb { kind: VerbKind::Retry, ..verb("n1", "aaaa") };
    give(&mut world, retry);
    give(&mut world, Verb { kind: VerbKind::Resume, ..verb("", "aaaa") });
    let until = world.now.after(Duration::from_mins(10));
    assert!(world.pass_time(until, |_, plan| {
        assert!(released(plan).iter().all(|(_, attempt)| first == *attempt), "{:?}", plan.actions);
    }));
    let record = world.node("n1").expect("it joined").0.record.clone().expect("it has one");
    assert_eq!(record.end, Some(NodeEnd::Failed { reason: Reason::Quarantined }));
    assert_ne!(record.attempt, first, "another attempt was made");
    let Agent::Answered(facts) = &world.node("n1").expect("it joined").0.agent else { panic!("it answers") };
    assert_eq!(facts.kept.as_ref().map(|(of, _)| of), Some(&record.attempt), "and its files are kept");
    // Asked for again, and of this one.
    give(&mut world, Verb { again: 1, ..verb("n1", "aaaa") });
    let mut given_up = Vec::new();
    assert!(world.settle(|_, plan| {
        given_up.extend(released(plan).iter().map(|(_, attempt)| (*attempt).to_owned()));
    }));
    assert_eq!(given_up.first().map(String::as_str), Some(record.attempt.as_str()), "{given_up:?}");
}

#[test]
fn a_retry_beside_it_waits_until_the_files_are_given_up() {
    let (mut world, attempt) = quarantined();
    give(&mut world, Verb { kind: VerbKind::Retry, ..verb("n1", "aaaa") });
    give(&mut world, verb("n1", "aaaa"));
    let mut order = Vec::new();
    let until = world.now.after(Duration::from_mins(1));
    assert!(world.pass_time(until, |_, plan| {
        for action in &plan.actions {
            match action {
                Action::Release { attempt: of, .. } => order.push(format!("release {of}")),
                Action::RecordEnd { node, .. } if *node == *"n1" => order.push("record".to_owned()),
                Action::Run { node, .. } if *node == *"n1" => order.push("run".to_owned()),
                _ => {}
            }
        }
    }));
    // What became of the files is on record before the record is forgotten.
    assert!(order.len() > 2, "{order:?}");
    assert_eq!(order[..3], [format!("release {attempt}"), "record".into(), "run".into()], "{order:?}");
    assert_eq!(order.iter().filter(|what| what.starts_with("release")).count(), 1, "{order:?}");
}
