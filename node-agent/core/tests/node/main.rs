//! The node's way, step by step, and what leads off it.
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]
#[path = "../common/mod.rs"]
mod common;
mod permission;

use std::time::Duration;

use common::{BOOT, GPU, NIC, arrived, at, attempt, best, gates, go, still_here};
use liveupdate_node_core::Monotonic;
use liveupdate_node_core::gate::GateId;
use liveupdate_node_core::node::{
    Attempt, BlockReason, Effect, End, Ended, Event, Evidence, FailReason, NoReceipt, Node, Nonce,
    Permission, Receipt, StateName,
};
use liveupdate_node_core::outcome::Outcome;

/// Its holder is to be stopped.
const STOPPED: &str = "0000:03:00.0";

fn run(node: Node, events: Vec<Event>, now: Monotonic) -> Node {
    events.into_iter().fold(node, |node, event| {
        let name = event.name();
        let t = node.step(event, now);
        assert_eq!(t.refused, None, "{name}");
        t.state
    })
}

/// The events of an undisturbed attempt up to (and without) the one that enters the next state.
fn up_to(state: StateName, now: Monotonic) -> Node {
    let events = [
        (StateName::Preflight, Event::Begin(Box::new(attempt()))),
        (StateName::Queued, Event::Clear),
        (StateName::Staging, Event::Stage),
        (StateName::Preserving, Event::Staged),
        (StateName::Settling, Event::Preserved),
        (StateName::Settling, Event::Settled),
        (StateName::Quiescing, Event::Go(go(&attempt(), now))),
        (StateName::Committing, Event::Quiesced),
        (StateName::Committing, Event::ShortListPassed),
        (StateName::Jumping, Event::IntentWritten),
        (StateName::Returned, Event::Started(arrived())),
        (StateName::Reclaiming, Event::Retrieved),
        (StateName::Reclaiming, Event::Device { address: GPU.into(), facts: best() }),
        (StateName::Reclaiming, Event::Device { address: NIC.into(), facts: best() }),
        (StateName::Reclaiming, Event::HolderResumed("vm-a".into())),
        (StateName::Verifying, Event::HolderResumed("vm-b".into())),
        (StateName::Updated, Event::Confirm),
    ];
    let events: Vec<_> = events.into_iter().filter(|(s, _)| *s <= state).map(|(_, e)| e).collect();
    let node = run(Node::Idle, events, now);
    assert_eq!(node.name(), state);
    node
}

fn jumps(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Jump { .. }))
}

fn ended(node: &Node) -> &Ended {
    let Node::Ended(ended) = node else { panic!("not over: {}", node.name()) };
    ended
}

fn words(node: &Node) -> Vec<Outcome> {
    ended(node).outcomes.devices().values().map(|settled| settled.outcome).collect()
}

const BEFORE: [StateName; 7] = [
    StateName::Preflight,
    StateName::Queued,
    StateName::Staging,
    StateName::Preserving,
    StateName::Settling,
    StateName::Quiescing,
    StateName::Committing,
];

#[test]
fn an_undisturbed_attempt_ends_updated() {
    let node = up_to(StateName::Updated, at(0));
    assert_eq!(ended(&node).end, End::Updated);
    assert_eq!(
        words(&node),
        [Outcome::Uninterrupted, Outcome::Uninterrupted, Outcome::Stopped, Outcome::Untouched]
    );
    assert!(node.proof().unwrap().nonce_returned());
}

#[test]
fn the_target_is_made_permanent_only_when_asked_for() {
    let mut asked = attempt();
    asked.persist = true;
    let Node::After(_) = up_to(StateName::Verifying, at(0)) else { panic!() };
    let events = vec![
        Event::Take(Box::new(asked.clone())),
        Event::Preserved,
        Event::Settled,
        Event::Go(go(&asked, at(0))),
        Event::Quiesced,
        Event::ShortListPassed,
        Event::IntentWritten,
        Event::Started(arrived()),
        Event::Retrieved,
        Event::HolderResumed("vm-a".into()),
        Event::HolderResumed("vm-b".into()),
    ];
    let node = run(Node::Idle, events, at(0));
    let t = node.step(Event::Confirm, at(0));
    assert_eq!((t.state.name(), t.effects), (StateName::Persisting, vec![Effect::Persist]));
    let said = Event::Persisted("a power cut starts it".into());
    let Node::Ended(ended) = run(t.state, vec![Event::Confirm, said], at(0)) else { panic!() };
    assert_eq!((ended.end, ended.confirmed), (End::Updated, true));
    assert!(ended.message.ends_with("; a power cut starts it"), "{}", ended.message);
}

#[test]
fn an_abort_undoes_exactly_what_was_done_in_reverse() {
    use Effect::{ReportUndone, RestartBystanders, ResumeHolders, ThawFilesystems, UnloadImage, Unpreserve};
    let all = [ThawFilesystems, ResumeHolders, RestartBystanders, Unpreserve, UnloadImage, ReportUndone];
    let skipped = [6, 6, 4, 3, 2, 1, 0];
    for (state, skip) in BEFORE.into_iter().zip(skipped) {
        let t = up_to(state, at(0)).step(Event::Abort("asked to".into()), at(0));
        assert_eq!(t.effects, all[skip..], "{state}");
        let events = match (&t.state, skip) {
            (Node::Ended(_), _) => vec![],
            (_, 0 | 1) => vec![
                Event::Undone,
                Event::Device { address: GPU.into(), facts: best() },
                Event::HolderResumed("vm-a".into()),
                Event::HolderResumed("vm-b".into()),
            ],
            _ => vec![Event::Undone],
        };
        let node = run(t.state, events, at(0));
        assert_eq!((ended(&node).end, ended(&node).message.as_str()), (End::Aborted, "asked to"), "{state}");
        let first = words(&node)[0];
        assert_eq!(first, if skip < 2 { Outcome::Uninterrupted } else { Outcome::Untouched }, "{state}");
    }
}

#[test]
fn invariant_3_who_was_not_stopped_is_not_said_to_be() {
    let settling = || run(Node::Idle, vec![Event::Take(Box::new(attempt())), Event::Preserved], at(0));
    for (held, word) in [(vec![], Outcome::Stopped), (vec![STOPPED.to_owned()], Outcome::Untouched)] {
        let t = settling().step(Event::Abort("asked to".into()), at(0));
        // Who is started again would look like one who was never stopped.
        assert_eq!(t.effects, [Effect::SeeStopped]);
        assert!(t.state.clone().step(Event::Undone, at(0)).refused.is_some(), "nothing is undone yet");
        let t = Node::decode(&t.state.encode()).unwrap().step(Event::Started(still_here()), at(0));
        assert_eq!(t.effects, [Effect::SeeStopped], "also after a restart");
        // A device that nobody was to lose stays what it is.
        let held = held.into_iter().chain([GPU.to_owned()]).collect();
        let t = t.state.step(Event::StillHeld(held), at(0));
        assert_eq!(t.effects[0], Effect::RestartBystanders);
        let t = Node::decode(&t.state.encode()).unwrap().step(Event::Started(still_here()), at(0));
        assert_eq!(t.effects[0], Effect::RestartBystanders, "it is not looked at twice");
        let node = run(t.state, vec![Event::Undone], at(0));
        assert_eq!(words(&node), [Outcome::Untouched, Outcome::Untouched, word, Outcome::Untouched]);
    }
    // Settled means that it was seen; and where nobody was to be stopped there is nothing to see.
    let settled = run(settling(), vec![Event::Settled], at(0));
    let t = settled.step(Event::Abort("asked to".into()), at(0));
    assert_eq!(t.effects[0], Effect::RestartBystanders);
    assert_eq!(words(&run(t.state, vec![Event::Undone], at(0)))[2], Outcome::Stopped);
    let mut none = attempt();
    none.devices.remove(2);
    let node = run(Node::Idle, vec![Event::Take(Box::new(none)), Event::Preserved], at(0));
    assert_eq!(node.step(Event::Abort(String::new()), at(0)).effects[0], Effect::RestartBystanders);
}

#[test]
fn what_was_stopped_is_started_again_also_in_quarantine_by_a_keeper_that_starts_later() {
    let node = up_to(StateName::Settling, at(0)).step(Event::Abort("asked to".into()), at(0)).state;
    let t = node.step(Event::Tick, at(60_000));
    assert_eq!(t.state.name(), StateName::Quarantined);
    assert_eq!(t.effects[0], Effect::RestartBystanders);
    let t = Node::decode(&t.state.encode()).unwrap().step(Event::Started(still_here()), at(0));
    assert_eq!(t.effects[0], Effect::RestartBystanders);
    // After a jump there is another boot, which started all of its own.
    let node = up_to(StateName::Returned, at(0)).step(Event::Tick, at(60_000)).state;
    let t = node.step(Event::Started(arrived()), at(0));
    assert_eq!(t.state.name(), StateName::Quarantined);
    assert!(!t.effects.contains(&Effect::RestartBystanders));
}

#[test]
fn after_the_commit_nothing_aborts() {
    for state in [StateName::Jumping, StateName::Returned, StateName::Reclaiming, StateName::Verifying] {
        let node = up_to(state, at(0));
        let t = node.clone().step(Event::Abort("too late".into()), at(0));
        assert_eq!(t.state, node);
        assert_eq!(
            t.refused.unwrap().to_string(),
            format!("Abort is not possible while the node is {state}: nothing was changed")
        );
    }
}

#[test]
fn a_holder_that_does_not_go_on_after_an_abort_is_a_failure() {
    let node = up_to(StateName::Quiescing, at(0)).step(Event::Abort("asked to".into()), at(0)).state;
    let node = run(node, vec![Event::Undone, Event::HolderResumed("vm-a".into())], at(0));
    assert_eq!(node.name(), StateName::Thawing);
    let node = run(node, vec![Event::Tick], at(60_000));
    assert_eq!(ended(&node).end, End::Failed(FailReason::HolderNotResumed));
    assert!(ended(&node).message.contains("vm-b") && !ended(&node).message.contains("vm-a"));
}

#[test]
fn custody_that_cannot_be_given_up_is_quarantined_and_kept() {
    let node = up_to(StateName::Preserving, at(0)).step(Event::Abort("asked to".into()), at(0)).state;
    let node = run(node, vec![Event::Tick], at(60_000));
    assert_eq!((node.name(), node.reason()), (StateName::Quarantined, Some("Quarantined")));
    let t = node.step(Event::Release, at(60_000));
    assert!(t.effects.contains(&Effect::ReleaseCustody));
    assert_eq!(ended(&t.state).end, End::Failed(FailReason::Quarantined));
}

#[test]
fn a_refused_jump_is_undone_and_fails() {
    let t = up_to(StateName::Jumping, at(0)).step(Event::KernelRefused("EBUSY".into()), at(0));
    assert_eq!(t.state.name(), StateName::Thawing);
    assert!(t.effects.contains(&Effect::ResumeHolders) && !jumps(&t.effects));
    let events =
        vec![Event::Undone, Event::HolderResumed("vm-a".into()), Event::HolderResumed("vm-b".into())];
    let node = run(t.state, events, at(0));
    assert_eq!(ended(&node).end, End::Failed(FailReason::KernelRefused));
    assert_eq!(ended(&node).message, "EBUSY");
}

#[test]
fn the_jump_is_proven_or_failed() {
    let cases = [
        (Evidence { release: "7.3.4".into(), ..arrived() }, "kernel \"7.3.4\" came up instead of \"7.3.5\""),
        (Evidence { nonce: Some(Nonce(7)), ..arrived() }, "nonce did not come back"),
        (Evidence { nonce: None, ..arrived() }, "nonce did not come back"),
    ];
    for (evidence, message) in cases {
        let node = up_to(StateName::Jumping, at(0)).step(Event::Started(evidence), at(0)).state;
        assert_eq!(ended(&node).end, End::Failed(FailReason::WrongKernel));
        assert!(ended(&node).message.contains(message), "{}", ended(&node).message);
        assert_eq!(words(&node)[..2], [Outcome::Lost, Outcome::Lost]);
        assert_eq!(node.proof(), None);
    }
}

#[test]
fn a_node_that_holds_nothing_jumps_without_luo_gates_and_without_nonce() {
    let adopted = Attempt { devices: vec![], ..attempt() };
    let jump_only: Vec<_> = gates().into_iter().filter(|g| g.id.required(None)).collect();
    assert!(!jump_only.iter().any(|g| g.id == GateId::LiveUpdateKernel));
    let receipt = Receipt::check(&adopted, BOOT, &jump_only).unwrap();
    assert!(matches!(Receipt::check(&attempt(), BOOT, &jump_only), Err(NoReceipt::Gates(_))));
    let id = receipt.id().to_owned();
    let permission =
        Permission::grant(&receipt, &adopted.id, &id, BOOT, at(0), Duration::from_secs(1)).unwrap();
    let events = vec![
        Event::Take(Box::new(adopted)),
        Event::Preserved,
        Event::Settled,
        Event::Go(liveupdate_node_core::node::Go { receipt, permission }),
        Event::Quiesced,
        Event::ShortListPassed,
        Event::IntentWritten,
    ];
    let jumping = run(Node::Idle, events, at(0));
    let came_up = |from: Option<&str>| {
        let evidence = Evidence { nonce: None, from: from.map(Into::into), ..arrived() };
        jumping.clone().step(Event::Started(evidence), at(0)).state
    };
    let node = run(came_up(Some(BOOT)), vec![Event::Retrieved], at(0));
    assert_eq!(node.name(), StateName::Verifying);
    assert!(!node.proof().unwrap().nonce_returned());
    // The kernel that was jumped to died, and firmware started an older one of the same release; or somebody else jumped.
    for (from, word) in [(None, "nothing jumped into it"), (Some("boot-x"), "jumped into by boot \"boot-x\"")]
    {
        let node = came_up(from);
        assert_eq!(ended(&node).end, End::Failed(FailReason::WrongKernel), "{from:?}");
        assert!(ended(&node).message.contains(word), "{}", ended(&node).message);
        assert_eq!(node.proof(), None);
    }
}

#[test]
fn overdue_reclaim_is_quarantined_and_a_late_return_corrects_the_outcome() {
    let node = up_to(StateName::Returned, at(0)).step(Event::Retrieved, at(0)).state;
    let events =
        vec![Event::Device { address: GPU.into(), facts: best() }, Event::HolderResumed("vm-a".into())];
    let node = run(node, events, at(0));
    let t = node.step(Event::Tick, at(5 * 60_000));
    assert_eq!(t.state.name(), StateName::Quarantined);
    assert!(!t.effects.contains(&Effect::FinishSessions) && !t.effects.contains(&Effect::ReleaseCustody));
    let node = run(t.state, vec![Event::Confirm], at(0));
    let t = node.step(Event::Device { address: NIC.into(), facts: best() }, at(0));
    let t = t.state.step(Event::HolderResumed("vm-b".into()), at(0));
    assert_eq!(t.effects, [Effect::FinishSessions, Effect::Knock]);
    assert_eq!(ended(&t.state).end, End::Failed(FailReason::Quarantined));
    assert_eq!(words(&t.state)[1], Outcome::Uninterrupted);
}

#[test]
fn every_state_under_way_has_a_deadline_with_an_exit() {
    for state in StateName::ALL {
        let node = match state {
            StateName::Idle
            | StateName::Updated
            | StateName::Blocked
            | StateName::Aborted
            | StateName::Failed => {
                continue;
            }
            StateName::Thawing => {
                up_to(StateName::Staging, at(0)).step(Event::Abort(String::new()), at(0)).state
            }
            StateName::Persisting => {
                let mut asked = attempt();
                asked.persist = true;
                let text = up_to(StateName::Verifying, at(0)).encode();
                let body: Vec<_> = text.lines().filter(|l| !l.starts_with("end ")).collect();
                let body = format!("{}\npersist\n", body.join("\n"));
                let sum = liveupdate_node_core::codec::checksum(body.as_bytes());
                let node = Node::decode(&format!("{body}end {sum:016x}\n")).unwrap();
                node.step(Event::Confirm, at(0)).state
            }
            StateName::Quarantined => {
                up_to(StateName::Returned, at(0)).step(Event::Tick, at(9_000_000)).state
            }
            state => up_to(state, at(0)),
        };
        assert_eq!(node.name(), state);
        let deadline = node.deadline().unwrap();
        let before = Monotonic(deadline.at.0 - Duration::from_millis(1));
        let early = node.clone().step(Event::Tick, before);
        assert_eq!((early.state, early.effects), (node.clone(), vec![]), "{state}");
        let t = node.clone().step(Event::Tick, deadline.at);
        assert!(t.state.name() != state || t.effects == [Effect::Knock], "{state}");
    }
}

#[test]
fn a_blocked_node_says_why_and_nothing_was_done() {
    let node = up_to(StateName::Preflight, at(0));
    let event = Event::Blocked(BlockReason::GateNotPassed, "gate CustodySafe fails".into());
    let node = run(node, vec![event], at(0));
    assert_eq!((node.name(), node.reason()), (StateName::Blocked, Some("GateNotPassed")));
    assert_eq!(words(&node), [Outcome::Untouched; 4]);
}

#[test]
fn invariant_5_a_running_attempt_cannot_be_begun_again() {
    for state in BEFORE {
        let node = up_to(state, at(0));
        for event in [Event::Begin(Box::new(attempt())), Event::Take(Box::new(attempt()))] {
            assert!(node.clone().step(event, at(0)).refused.is_some(), "{state}");
        }
    }
}

#[test]
fn a_keeper_that_restarts_with_holders_standing_still_lets_them_go_on() {
    for state in [StateName::Quiescing, StateName::Committing] {
        let node = Node::decode(&up_to(state, at(0)).encode()).unwrap();
        let t = node.step(Event::Started(still_here()), at(0));
        assert!(t.effects.contains(&Effect::ResumeHolders), "{state}");
    }
}

#[test]
fn a_second_boot_before_verification_is_a_failure() {
    let again = Evidence { boot_id: "boot-c".into(), ..arrived() };
    for state in [StateName::Returned, StateName::Verifying] {
        let node = up_to(state, at(0)).step(Event::Started(again.clone()), at(0)).state;
        assert_eq!(ended(&node).end, End::Failed(FailReason::VerifyFailed));
    }
}

#[test]
fn records_that_cannot_be_read_say_what_is_wrong() {
    let text = up_to(StateName::Reclaiming, at(0)).encode();
    let error = |text: &str| Node::decode(text).unwrap_err().to_string();
    assert!(error("").contains("not a record of kind liveupdate-node"));
    assert!(error("liveupdate-node 9\n").contains("version \"9\""));
    assert!(error(&text.replace("vm-a", "vm-x")).contains("torn or was changed"));
    for cut in 0..text.len() {
        assert!(Node::decode(&text[..cut]).is_err(), "cut at {cut}");
    }
}
