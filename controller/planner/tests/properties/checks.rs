//! What must hold for every plan, found out without the planner's help.

use std::collections::BTreeSet;

use liveupdate_planner::simulation::World;
use liveupdate_planner::{
    Action, Agent, Amount, Node, NodeClass, NodeEnd, OnBlocked, Plan, Reason, Spec, Update, Verb, VerbKind,
};

/// Everything that must hold.
pub(crate) fn check(world: &World, plan: &Plan) {
    for update in &world.snapshot.updates {
        limits(world, plan, update);
        stops(world, plan, update);
    }
    for action in &plan.actions {
        order(world, action);
    }
    reports(world, plan);
}

fn wants(update: &Update, spec: &Spec, node: &Node) -> bool {
    spec.include_joining || node.created <= update.created
}

fn node<'w>(world: &'w World, name: &str) -> Option<&'w Node> {
    world.snapshot.nodes.iter().find(|node| node.name == name)
}

/// Attempts that the plan starts although their agents do not know them.
fn starts<'p>(world: &World, plan: &'p Plan, update: &Update) -> Vec<&'p str> {
    let known = |name: &str, attempt: &str| match node(world, name).map(|node| &node.agent) {
        Some(Agent::Answered(facts)) => facts.attempt.as_ref().is_some_and(|a| a.attempt == attempt),
        _ => false,
    };
    let mut starts = Vec::new();
    for action in &plan.actions {
        if let Action::Run { node, update: name, attempt } = action
            && *name == update.name
            && !known(node, attempt)
        {
            starts.push(attempt.as_str());
        }
    }
    starts
}

/// Attempts that the plan admits.
fn admissions<'p>(plan: &'p Plan, update: &Update) -> Vec<&'p str> {
    let before: BTreeSet<&str> = update.record.in_flight.iter().map(|f| f.attempt.as_str()).collect();
    let after = &plan.report.updates[&update.name].record.in_flight;
    after.iter().map(|f| f.attempt.as_str()).filter(|attempt| !before.contains(attempt)).collect()
}

/// Invariant 1.
fn limits(world: &World, plan: &Plan, update: &Update) {
    let starts = starts(world, plan, update);
    let admissions = admissions(plan, update);
    if starts.is_empty() && admissions.is_empty() {
        return;
    }
    let spec = update.spec.as_ref().expect("only what can be read is started");
    let flying: BTreeSet<&str> = plan
        .report
        .updates
        .values()
        .flat_map(|report| &report.record.in_flight)
        .map(|flight| flight.node.as_str())
        .collect();
    let failed = |node: &Node| {
        let failed = node.record.as_ref().is_some_and(|record| {
            let own = plan.report.updates.values().any(|said| said.record.revision == record.revision);
            own && matches!(record.end, Some(NodeEnd::Failed { .. }))
                && node.mark.as_ref().is_some_and(|mark| mark.attempt == record.attempt)
        });
        // A failure that was accepted or forgiven in this pass is unmarked in it.
        let unmarked = plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::Unmark { node: name, .. } if *name == node.name));
        failed && !unmarked
    };
    let down = |node: &&Node| !node.ready || flying.contains(node.name.as_str()) || failed(node);
    let own: BTreeSet<&str> =
        plan.report.updates[&update.name].record.in_flight.iter().map(|f| f.node.as_str()).collect();
    let selected = |node: &&Node| wants(update, spec, node) || own.contains(node.name.as_str());
    let unavailable = world.snapshot.nodes.iter().filter(selected).filter(down).count();
    let limit = match spec.strategy.max_unavailable {
        Amount::Count(count) => count as usize,
        Amount::Percent(percent) => (world.snapshot.nodes.len() * percent as usize / 100).max(1),
    };
    assert!(
        unavailable <= limit,
        "invariant 1: {unavailable} unavailable of {limit} while {starts:?} start and {admissions:?} are \
         admitted to {}",
        update.name
    );
    if let Some(Amount::Count(count)) = world.snapshot.policy.max_unavailable {
        let active = |other: &&Update| !other.deleting && !plan.report.updates[&other.name].frozen;
        let by_any = |node: &&Node| {
            let wanted = |other: &Update| other.spec.as_ref().is_ok_and(|spec| wants(other, spec, node));
            let any = world.snapshot.updates.iter().filter(active).any(wanted);
            flying.contains(node.name.as_str()) || any || failed(node)
        };
        let all = world.snapshot.nodes.iter().filter(by_any).filter(down).count();
        assert!(all <= count as usize, "invariant 1: {all} unavailable of the policy's {count}");
    }
    let free = plan.report.updates[&update.name].record.in_flight.len();
    assert!(free <= liveupdate_planner::MAX_IN_FLIGHT);
}

/// Invariant 4, and the permissions of invariant 2.
fn stops(world: &World, plan: &Plan, update: &Update) {
    let said = &plan.report.updates[&update.name];
    let given = |kind| said.record.verbs.iter().any(|verb| verb.kind == kind);
    let spec = update.spec.as_ref().ok();
    // An end is of its revision.
    let finished =
        update.record.finished.is_some() && spec.is_none_or(|spec| spec.revision == update.record.revision);
    let hard =
        update.deleting || world.snapshot.policy.hold || given(VerbKind::Abort) || finished || spec.is_none();
    let blocked = match spec.map(|spec| spec.strategy.on_blocked) {
        Some(OnBlocked::Fail) => said.blocked,
        _ => 0,
    };
    // Ends that this plan finds, and that are in no record yet.
    let found = update.record.in_flight.iter().filter(|flight| {
        let current = spec.is_some_and(|spec| flight.attempt.starts_with(spec.revision.as_str()));
        let recorded = node(world, &flight.node)
            .and_then(|node| node.record.as_ref())
            .is_some_and(|record| record.attempt == flight.attempt && record.end.is_some());
        let report = plan.report.nodes.get(&flight.node);
        let failed = report.is_some_and(|report| {
            report.class == NodeClass::Failed && report.attempt.as_ref() == Some(&flight.attempt)
        });
        current && !recorded && failed
    });
    let found = u32::try_from(found.count()).expect("few");
    let accepted = said.record.accepted_failures;
    let accepted = if found > 0 { accepted.min(said.record.failures) } else { accepted };
    let spent =
        (said.record.failures + found + blocked).saturating_sub(accepted) > said.max_failures && !finished;
    let held = given(VerbKind::Hold) && !given(VerbKind::Resume);
    let soft = spec.is_some_and(|spec| spec.paused || spec.strategy.dry_run) || held || spent;
    if hard || soft {
        let starts = starts(world, plan, update);
        assert!(starts.is_empty(), "invariant 4: {starts:?} start in {}: {said:?}", update.name);
        let admissions = admissions(plan, update);
        assert!(admissions.is_empty(), "invariant 4: {admissions:?} are admitted in {}", update.name);
    }
    if hard {
        let own: BTreeSet<&str> = update.record.in_flight.iter().map(|f| f.attempt.as_str()).collect();
        for action in &plan.actions {
            if let Action::Permit { attempt, .. } = action {
                assert!(
                    !own.contains(attempt.as_str()),
                    "invariant 2: {attempt} may jump in {}",
                    update.name
                );
            }
        }
    }
}

/// Nothing builds on what was not observed.
fn order(world: &World, action: &Action) {
    let flying = |attempt: &str| {
        world.snapshot.updates.iter().flat_map(|u| &u.record.in_flight).any(|f| f.attempt == attempt)
    };
    let marked = |name: &str, attempt: &str| {
        node(world, name).and_then(|node| node.mark.as_ref()).is_some_and(|mark| mark.attempt == attempt)
    };
    match action {
        Action::Mark { mark, .. } => assert!(flying(&mark.attempt), "{action:?} before its admission"),
        Action::Claim { attempt, .. } => assert!(flying(attempt), "{action:?} before its admission"),
        Action::Run { node: name, attempt, .. } => {
            let malformed = node(world, name).is_none_or(|node| node.malformed.is_some());
            assert!(flying(attempt), "{action:?} before its admission");
            let known = matches!(
                node(world, name).map(|node| &node.agent),
                Some(Agent::Answered(facts)) if facts.attempt.as_ref().is_some_and(|a| a.attempt == *attempt)
            );
            assert!(known || marked(name, attempt), "{action:?} before its mark was seen");
            assert!(known || !malformed, "invariant 9: {action:?} on a node that is none");
        }
        Action::Permit { node: name, attempt, boot_id, .. } => {
            assert!(flying(attempt) && marked(name, attempt), "{action:?} without admission or mark");
            let boot = node(world, name).map(|node| node.boot_id.as_str());
            assert_eq!(boot, Some(boot_id.as_str()), "{action:?} for another boot than the kubelet's");
        }
        Action::Release { node: name, update, attempt } => {
            let noted = |update: &Update| {
                let of_it = |verb: &Verb| verb.argument == format!("{name}/{attempt}");
                update.record.verbs.iter().any(|verb| verb.kind == VerbKind::Release && of_it(verb))
            };
            let by = world.snapshot.updates.iter().find(|other| other.name == *update);
            assert!(by.is_some_and(noted), "invariant 8: {action:?} before anybody's word was on record");
            assert!(!flying(attempt), "invariant 8: {action:?} under way");
        }
        Action::Unmark { node: name, mark } => {
            assert_eq!(node(world, name).and_then(|node| node.mark.as_ref()), Some(mark));
        }
        _ => {}
    }
}

/// Invariants 9 and 10.
fn reports(world: &World, plan: &Plan) {
    for update in &world.snapshot.updates {
        let said = plan.report.updates.get(&update.name).expect("every update has a report");
        let Ok(spec) = &update.spec else { continue };
        if update.deleting || said.frozen || said.record.finished.is_some() {
            continue;
        }
        let mut counted = 0;
        for node in world.snapshot.nodes.iter().filter(|node| wants(update, spec, node)) {
            counted += 1;
            let report = plan.report.nodes.get(&node.name);
            let report = report.unwrap_or_else(|| panic!("invariant 10: {} has no report", node.name));
            assert!(report.class != NodeClass::Idle, "invariant 10: {} is wanted, not idle", node.name);
            let says_why = match report.class {
                NodeClass::Waiting => matches!(
                    report.reason,
                    Reason::Preflight
                        | Reason::WaitingForTurn
                        | Reason::AttemptAborted
                        | Reason::PolicyHold
                        | Reason::Aborted
                        | Reason::BadTarget
                        | Reason::Conflicted
                ),
                _ => report.reason != Reason::Idle,
            };
            assert!(says_why, "invariant 10: {} {report:?}", node.name);
            assert!(!report.message.is_empty(), "invariant 10: {} says nothing: {report:?}", node.name);
            if report.class == NodeClass::Updated && report.update.as_deref() == Some(&update.name) {
                assert!(report.end.is_some(), "{} is updated without an end", node.name);
            }
        }
        assert_eq!(said.total, counted, "invariant 9: all of {} are counted", update.name);
    }
    for node in &world.snapshot.nodes {
        let answers = matches!(node.agent, Agent::Answered(_));
        assert!(!answers || plan.report.nodes.get(&node.name).is_some(), "invariant 10: {}", node.name);
    }
}
