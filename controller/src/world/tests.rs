use super::*;
use liveupdate_planner::{AttemptState, Time};
use liveupdate_proto::common::v1::{AttemptReport, Gate, GateResult, NodeState};
use liveupdate_proto::node::v1::{InspectReply, OutcomeReply};

use crate::agents::AgentError;

fn node(name: &str, uid: &str, version: &str) -> NodeObject {
    NodeObject {
        name: name.into(),
        uid: uid.into(),
        version: version.into(),
        created: Time(0),
        labels: BTreeMap::new(),
        ready: true,
        release: "6.12".into(),
        boot_id: "b0".into(),
        internal_ip: Some("127.0.0.9".into()),
        agent_address: None,
        mark: None,
        has_mark: false,
        taints: Vec::new(),
        has_annotations: false,
        foreign: None,
        malformed: None,
    }
}

fn world() -> World {
    World::new(Epoch { cluster: "c".into(), counter: 1 }, 9443)
}

fn applied(object: NodeObject) -> Observed {
    Observed::Node(Change::Applied(object))
}

/// An update with these attempts in flight.
fn update(in_flight: Vec<liveupdate_crds::update::InFlight>) -> Observed {
    Observed::Update(Change::Applied(UpdateObject {
        name: "roll".into(),
        uid: "lu".into(),
        version: "1".into(),
        generation: 1,
        created: Time(0),
        deleting: false,
        finalizers: Vec::new(),
        annotations: BTreeMap::new(),
        spec: Err("of no matter here".into()),
        status: Ok(liveupdate_crds::LiveUpdateStatus { in_flight, ..Default::default() }),
    }))
}

fn gate(id: &str, result: GateResult) -> Gate {
    Gate { id: id.into(), result: result.into(), ..Gate::default() }
}

fn inspected(world: &mut World, attempt: Option<AttemptReport>) {
    let reply =
        InspectReply { boot_id: "b0".into(), release: "6.12".into(), attempt, ..InspectReply::default() };
    world.inspected("a", 0, &reply, Time(5));
}

#[test]
fn what_a_new_list_does_not_hold_is_gone() {
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    world.observe(applied(node("b", "u2", "2")));
    world.observe(applied(node("c", "u3", "3")));
    for change in [Change::Restarted, Change::Listed(node("c", "u3", "4")), Change::Complete] {
        world.observe(Observed::Node(change));
    }
    let names: Vec<&str> = world.nodes().map(|(node, _)| node.name.as_str()).collect();
    assert_eq!(names, ["c"]);
    assert_eq!(world.node("c").unwrap().1.version, "4");
    assert!(!world.complete(), "the other kinds were not listed yet");
}

#[test]
fn a_node_made_again_is_another_one() {
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    inspected(&mut world, None);
    assert!(world.node("a").unwrap().1.answered);
    world.observe(applied(node("a", "u2", "2")));
    let (found, side) = world.node("a").unwrap();
    assert!(matches!(found.agent, Agent::Unasked) && !side.answered);
}

#[test]
fn a_node_without_any_address_says_so() {
    let mut world = world();
    world.observe(applied(NodeObject { internal_ip: None, ..node("a", "u1", "1") }));
    assert!(world.node("a").unwrap().0.malformed.as_ref().unwrap().contains("InternalIP"));
    let v6 = NodeObject { internal_ip: Some("fd00::1".into()), ..node("a", "u1", "2") };
    world.observe(applied(v6));
    assert_eq!(world.node("a").unwrap().1.address.as_deref(), Some("[fd00::1]:9443"));
}

#[test]
fn an_answer_to_our_own_write_never_puts_an_older_object_back() {
    let mut world = world();
    let object = |version: &str, attempt: &str| NodeUpdateObject {
        name: "a".into(),
        uid: "nlu".into(),
        version: version.into(),
        owner_uid: "u1".into(),
        claimed_attempt: attempt.into(),
        ..NodeUpdateObject::default()
    };
    world.observe(applied(node("a", "u1", "1")));
    world.put_node_update(object("9", "new"));
    world.put_node_update(object("8", "old"));
    let record = world.node("a").unwrap().0.record.clone().unwrap();
    assert_eq!(record.claimed_attempt, "new");
}

#[test]
fn a_record_of_an_earlier_node_is_no_record() {
    let mut world = world();
    world.observe(applied(node("a", "u2", "1")));
    let left = NodeUpdateObject {
        name: "a".into(),
        owner_uid: "u1".into(),
        version: "3".into(),
        ..NodeUpdateObject::default()
    };
    world.put_node_update(left);
    assert_eq!(world.node("a").unwrap().0.record, None);
}

#[test]
fn silence_after_the_jump_is_no_unreachable_agent() {
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    inspected(&mut world, None);
    world.jumping("a", "r-u-1", Time(10));
    world.call_failed("a", &AgentError::Unreachable("refused".into()), Time(20));
    let Agent::Answered(facts) = &world.node("a").unwrap().0.agent else { panic!("it jumps") };
    assert_eq!(facts.attempt.as_ref().unwrap().state, AttemptState::Jumping { since: Time(10) });
}

/// The address is whatever the node's annotation says, and a refusal whatever the agent does.
#[test]
fn what_is_said_of_an_agent_that_cannot_be_heard_is_short_and_plain() {
    let long = format!("\u{1b}[2J{}: connection refused", "\u{1}x".repeat(100_000));
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    let said = |world: &World| match &world.node("a").unwrap().0.agent {
        Agent::Unreachable { why, .. } | Agent::Misbehaves { why } => why.to_string(),
        Agent::Answered(facts) => facts.verdict.as_ref().unwrap().blocked.as_ref().unwrap().1.to_string(),
        Agent::Unasked => String::new(),
    };
    let fits = |said: String| assert!(said.len() <= 512 && !said.contains(char::is_control), "{said:?}");
    for _ in 0..2 {
        world.call_failed("a", &AgentError::Unreachable(long.clone()), Time(1));
        fits(said(&world));
    }
    world.call_failed("a", &AgentError::Misbehaves(long.clone()), Time(2));
    fits(said(&world));
    world.preflight_refused("a", Asked { update_uid: "lu".into(), revision: "r".into() }, &long, Time(3));
    fits(said(&world));
}

#[test]
fn a_run_that_breaks_after_the_permission_is_taken_for_a_jump_and_before_it_is_not() {
    let lost = AgentError::Unreachable("reset".into());
    for (permit, jumps) in [(true, true), (false, false)] {
        let mut world = world();
        world.observe(applied(node("a", "u1", "1")));
        inspected(&mut world, None);
        world.run_began("a", "r-u-1");
        if permit {
            world.permitted("a", "r-u-1");
        }
        world.run_broke("a", "r-u-1", &lost, Time(10));
        let found = matches!(
            &world.node("a").unwrap().0.agent,
            Agent::Answered(facts)
                if matches!(facts.attempt.as_ref().unwrap().state, AttemptState::Jumping { .. })
        );
        assert_eq!(found, jumps);
    }
}

fn attempt_of(world: &World) -> Option<AttemptState> {
    match &world.node("a").unwrap().0.agent {
        Agent::Answered(facts) => facts.attempt.as_ref().map(|attempt| attempt.state.clone()),
        _ => None,
    }
}

/// A run of the attempt, as the loop begins it; its other ends are held by nobody.
fn session(attempt: &str) -> Session {
    Session {
        attempt: attempt.into(),
        serial: 1,
        permits: tokio::sync::mpsc::unbounded_channel().0,
        hang_up: tokio::sync::oneshot::channel().0,
    }
}

#[test]
fn invariant_5_what_was_asked_before_a_run_began_does_not_unmake_its_attempt() {
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    inspected(&mut world, None);
    let asked = world.node("a").unwrap().1.turns;
    world.side_mut("a").unwrap().begin(session("r-u-1"));
    world.run_began("a", "r-u-1");
    world.permitted("a", "r-u-1");
    let before = attempt_of(&world);
    assert_eq!(before, Some(AttemptState::Permitted));
    let nothing = InspectReply { boot_id: "b0".into(), release: "6.12".into(), ..InspectReply::default() };
    world.outcome("a", ("r-u-1", asked), None, Time(6));
    world.inspected("a", asked, &nothing, Time(6));
    assert_eq!(attempt_of(&world), before, "while it runs");

    assert!(world.side_mut("a").unwrap().hang_up("r-u-1"));
    world.jumping("a", "r-u-1", Time(7));
    world.outcome("a", ("r-u-1", asked), None, Time(8));
    world.inspected("a", asked, &nothing, Time(8));
    assert_eq!(attempt_of(&world), Some(AttemptState::Jumping { since: Time(7) }), "after its run");

    let now = world.node("a").unwrap().1.turns;
    world.outcome("a", ("r-u-1", now), None, Time(9));
    assert_eq!(attempt_of(&world), None, "what is asked now counts");
}

/// What agents say that could not ask their keepers: one of now, and those of before.
fn without_keeper() -> [InspectReply; 4] {
    let reply = |keeper_heard, gates| InspectReply {
        boot_id: "b0".into(),
        release: "6.12".into(),
        keeper_heard,
        gates,
        ..InspectReply::default()
    };
    [
        reply(Some(false), vec![gate("CustodySafe", GateResult::Pass)]),
        reply(None, vec![gate("CustodySafe", GateResult::Fail)]),
        reply(None, vec![gate("CustodySafe", GateResult::Unknown)]),
        reply(None, Vec::new()),
    ]
}

#[test]
fn invariant_6_what_is_told_without_the_keeper_unmakes_no_attempt() {
    for reply in without_keeper() {
        let mut world = world();
        world.observe(applied(node("a", "u1", "1")));
        let mut kept = AttemptReport { attempt: "r-u-1".into(), kept: true, ..AttemptReport::default() };
        kept.set_state(NodeState::Quarantined);
        inspected(&mut world, Some(kept));
        let known = world.node("a").unwrap().0.agent.clone();
        world.inspected("a", 0, &reply, Time(6));
        assert_eq!(world.node("a").unwrap().0.agent, known, "{reply:?}");
        assert_eq!(world.node("a").unwrap().1.facts.gates.len(), reply.gates.len(), "the rest is news");

        for heard in [
            InspectReply { keeper_heard: Some(true), ..reply.clone() },
            InspectReply {
                keeper_heard: None,
                gates: vec![gate("CustodySafe", GateResult::Pass)],
                ..reply.clone()
            },
        ] {
            world.inspected("a", 0, &heard, Time(7));
            let Agent::Answered(facts) = &world.node("a").unwrap().0.agent else { panic!("it answered") };
            assert!(facts.attempt.is_none() && facts.kept.is_none(), "the keeper's word counts: {heard:?}");
        }
    }
}

#[test]
fn invariant_6_an_attempt_in_flight_never_began_only_if_the_keeper_says_so() {
    let in_flight = || liveupdate_crds::update::InFlight {
        node: "a".into(),
        uid: "u1".into(),
        attempt: "r-u-1".into(),
        since: crate::convert::wire_time(Time(0)),
    };
    for reply in without_keeper() {
        let begin = || {
            let mut world = world();
            world.observe(applied(node("a", "u1", "1")));
            world.observe(update(vec![in_flight()]));
            world.inspected("a", 0, &reply, Time(5));
            world.inspected("a", 0, &reply, Time(8));
            world
        };
        let mut world = begin();
        let (found, side) = world.node("a").unwrap();
        let Agent::Unreachable { since: Time(5), never: false, why } = &found.agent else {
            panic!("nothing is known of its attempt: {:?}", found.agent);
        };
        assert!(why.contains("cannot ask the keeper"), "{why}");
        assert!(side.answered, "it has a status of its own");
        let mut failed = AttemptReport { attempt: "r-u-1".into(), ..AttemptReport::default() };
        failed.set_state(NodeState::Failed);
        failed.reason = "WrongKernel".into();
        let told = OutcomeReply { attempt: Some(failed), boot_id: "b1".into(), release: "6.12".into() };
        world.outcome("a", ("r-u-1", 0), Some(&told), Time(9));
        assert!(matches!(attempt_of(&world), Some(AttemptState::Failed { .. })));

        // It never began: then it does not matter what an Inspect does not say.
        let mut world = begin();
        world.outcome("a", ("r-u-1", 0), None, Time(9));
        assert_eq!(world.node("a").unwrap().1.inspect_due, std::time::Duration::ZERO);
        world.inspected("a", 0, &reply, Time(10));
        let Agent::Answered(facts) = &world.node("a").unwrap().0.agent else { panic!("it is told") };
        assert_eq!(facts.attempt, None);

        // Until it is begun.
        world.side_mut("a").unwrap().begin(session("r-u-1"));
        world.run_broke("a", "r-u-1", &AgentError::Unreachable("reset".into()), Time(11));
        world.side_mut("a").unwrap().session = None;
        world.inspected("a", 1, &reply, Time(12));
        assert!(matches!(world.node("a").unwrap().0.agent, Agent::Unreachable { since: Time(11), .. }));
    }
}

#[test]
fn a_report_without_proof_is_nonsense() {
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    let mut report = AttemptReport { attempt: "r-u-1".into(), ..AttemptReport::default() };
    report.set_state(NodeState::Verifying);
    inspected(&mut world, Some(report));
    assert!(matches!(world.node("a").unwrap().0.agent, Agent::Misbehaves { .. }));
}

#[test]
fn another_boot_forgets_the_verdict_of_the_last_one() {
    use liveupdate_proto::node::v1::PreflightReply;
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    let asked = || Asked { update_uid: "lu".into(), revision: "r".into() };
    let reply = PreflightReply {
        clear: true,
        boot_id: "b0".into(),
        release: "6.12".into(),
        ..PreflightReply::default()
    };
    world.preflighted("a", asked(), &reply, Time(1));
    let verdict = |world: &World| match &world.node("a").unwrap().0.agent {
        Agent::Answered(facts) => facts.verdict.clone(),
        _ => None,
    };
    assert!(verdict(&world).is_some_and(|verdict| verdict.blocked.is_none()));
    let other = InspectReply { boot_id: "b1".into(), release: "7.3".into(), ..InspectReply::default() };
    world.inspected("a", 0, &other, Time(2));
    assert!(verdict(&world).is_none());
}

#[test]
fn what_a_verdict_rests_on_stays_until_an_inspect_finds_it_failing() {
    use liveupdate_proto::node::v1::PreflightReply;
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    world.observe(update(Vec::new()));
    let judged = PreflightReply {
        clear: true,
        boot_id: "b0".into(),
        release: "6.12".into(),
        gates: vec![gate("CustodySafe", GateResult::Pass), gate("TargetKernel", GateResult::Pass)],
        ..PreflightReply::default()
    };
    world.preflighted("a", Asked { update_uid: "lu".into(), revision: "r".into() }, &judged, Time(1));
    world.side_mut("a").unwrap().facts_changed = false;

    let mut seen = |result| {
        let found = InspectReply {
            boot_id: "b0".into(),
            release: "6.12".into(),
            gates: vec![gate("CustodySafe", result)],
            ..InspectReply::default()
        };
        world.inspected("a", 0, &found, Time(2));
        let side = world.side_mut("a").unwrap();
        let gates: Vec<_> =
            side.facts.gates.iter().map(|gate| format!("{} {}", gate.id, gate.result)).collect();
        (gates.join(", "), std::mem::take(&mut side.facts_changed))
    };
    let clear = "CustodySafe Pass, TargetKernel Pass".to_owned();
    assert_eq!(seen(GateResult::Pass), (clear.clone(), false), "no write for what is known");
    assert_eq!(seen(GateResult::Fail), ("CustodySafe Fail, TargetKernel Pass".to_owned(), true));
    assert_eq!(seen(GateResult::Pass), (clear, true));

    world.observe(Observed::Update(Change::Deleted("roll".into())));
    let found = InspectReply { boot_id: "b0".into(), release: "6.12".into(), ..InspectReply::default() };
    world.inspected("a", 0, &found, Time(3));
    assert!(world.node("a").unwrap().1.facts.gates.is_empty(), "nobody asks for that target any more");
}

#[test]
fn a_permission_that_was_lost_with_its_run_is_asked_for_again() {
    let mut world = world();
    world.observe(applied(node("a", "u1", "1")));
    inspected(&mut world, None);
    world.run_began("a", "r-u-1");
    world.permitted("a", "r-u-1");
    world.run_broke("a", "r-u-1", &AgentError::Unreachable("reset".into()), Time(10));
    let mut report = AttemptReport { attempt: "r-u-1".into(), ..AttemptReport::default() };
    report.set_state(NodeState::Settling);
    world.attempt_report("a", &report, Time(20));
    let Agent::Answered(facts) = &world.node("a").unwrap().0.agent else { panic!("it answered") };
    assert_eq!(facts.attempt.as_ref().unwrap().state, AttemptState::Preparing);
}
