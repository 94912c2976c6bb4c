//! What has to be there before guests stop and before the commit (invariant 2).

use std::time::Duration;

use liveupdate_node_core::GateResult;
use liveupdate_node_core::gate::GateId;
use liveupdate_node_core::node::{
    Attempt, Effect, Event, NoPermission, NoReceipt, Node, Permission, Receipt, StateName,
};

use crate::common::{BOOT, GPU, at, attempt, gates, go};
use crate::{BEFORE, common, jumps, run, up_to};

#[test]
fn invariant_2_no_receipt_without_every_required_gate() {
    let all = gates();
    assert!(Receipt::check(&attempt(), BOOT, &all).is_ok());
    for (i, gate) in all.iter().enumerate() {
        let required = match gate.subject.as_str() {
            "" | GPU | "vm-a" | "vm-b" => gate.id.required(Some(liveupdate_node_core::Continuity::Paused)),
            _ => gate.id.required(Some(liveupdate_node_core::Continuity::Reinitialised)),
        };
        for result in [None, Some(GateResult::Fail), Some(GateResult::Unknown)] {
            let mut gates = all.clone();
            match result {
                None => drop(gates.remove(i)),
                Some(result) => gates[i].result = result,
            }
            let receipt = Receipt::check(&attempt(), BOOT, &gates);
            assert_eq!(receipt.is_err(), required, "{} {} {result:?}", gate.id, gate.subject);
            if let Err(error) = receipt {
                assert!(error.to_string().contains(gate.id.as_str()), "{error}");
            }
        }
    }
    // A second reading that says otherwise counts.
    let mut gates = all.clone();
    gates.push(common::gate(GateId::KexecAllowed, "", GateResult::Fail));
    assert!(Receipt::check(&attempt(), BOOT, &gates).is_err());
    assert!(matches!(Receipt::check(&attempt(), "boot-z", &all), Err(NoReceipt::OtherBoot { .. })));
}

#[test]
fn a_risk_that_is_acknowledged_needs_no_gate() {
    let mut gates = gates();
    gates.retain(|gate| gate.id != GateId::CrashDump);
    assert!(Receipt::check(&attempt(), BOOT, &gates).is_err());
    let mut brave = attempt();
    brave.acknowledged.insert("NoKdump".into());
    assert!(Receipt::check(&brave, BOOT, &gates).is_ok());
}

#[test]
fn invariant_2_a_permission_is_for_one_attempt_one_receipt_one_boot_and_ends() {
    let receipt = Receipt::check(&attempt(), BOOT, &gates()).unwrap();
    let id = receipt.id().to_owned();
    let second = Duration::from_secs(1);
    let grant = |attempt: &str, receipt_id: &str, boot: &str, d| {
        Permission::grant(&receipt, attempt, receipt_id, boot, at(100), d)
    };
    let ours = attempt().id;
    assert!(matches!(grant("x", &id, BOOT, second), Err(NoPermission::OtherAttempt(_))));
    assert!(matches!(grant(&ours, "x", BOOT, second), Err(NoPermission::OtherReceipt(_))));
    assert!(matches!(grant(&ours, &id, "x", second), Err(NoPermission::OtherBoot(_))));
    let long = Duration::from_millis(30_001);
    assert!(matches!(grant(&ours, &id, BOOT, long), Err(NoPermission::TooLong(_))));
    let permission = grant(&ours, &id, BOOT, second).unwrap();
    assert_eq!(permission.check(at(1_099), BOOT), Ok(()));
    assert_eq!(permission.check(at(1_100), BOOT), Err(NoPermission::RanOut));
    assert!(matches!(permission.check(at(100), "x"), Err(NoPermission::OtherBoot(_))));
}

#[test]
fn invariant_2_a_jump_is_permitted_no_longer_than_its_permission_and_its_state() {
    // Permitted at 0 for 30 s; the state Jumping lasts as long as the attempt says.
    for (jump, committed, until) in [(30, 4, 30), (10, 4, 14), (10, 29, 30)] {
        let mut attempt = attempt();
        attempt.deadlines.jump = Duration::from_secs(jump);
        attempt.deadlines.commit = Duration::from_secs(60);
        let go = go(&attempt, at(0));
        let events = vec![
            Event::Take(Box::new(attempt)),
            Event::Preserved,
            Event::Settled,
            Event::Go(go),
            Event::Quiesced,
            Event::ShortListPassed,
        ];
        let t = run(Node::Idle, events, at(0)).step(Event::IntentWritten, at(committed * 1000));
        assert_eq!(t.state.name(), StateName::Jumping);
        assert_eq!(t.effects, [Effect::Jump { until: at(until * 1000) }]);
    }
}

#[test]
fn invariant_2_a_permission_that_runs_out_before_the_commit_aborts() {
    let node = up_to(StateName::Committing, at(0));
    let t = node.step(Event::IntentWritten, at(30_000));
    assert!(!jumps(&t.effects) && t.effects.contains(&Effect::ResumeHolders));
    assert_eq!(t.state.name(), StateName::Thawing);
}

#[test]
fn invariant_2_leave_alone_does_not_commit_before_the_intent_is_on_disk() {
    for state in BEFORE {
        let node = match up_to(state, at(0)) {
            Node::Before(before) => before.commit(go(&attempt(), at(0)), at(0)).state,
            other => other,
        };
        let jumps = state == StateName::Committing;
        assert_eq!(node.name() == StateName::Jumping, jumps, "{state}");
    }
}

#[test]
fn invariant_2_leave_for_another_attempt_stops_no_guest() {
    let node = up_to(StateName::Settling, at(0));
    let other = Attempt { id: "other".into(), ..attempt() };
    for go in [go(&other, at(0)), go(&attempt(), at(0))] {
        let fits = go == common::go(&attempt(), at(0));
        let now = if fits { at(30_000) } else { at(0) };
        let t = node.clone().step(Event::Go(go), now);
        assert!(t.refused.is_some());
        assert_eq!(t.state, node);
    }
}
