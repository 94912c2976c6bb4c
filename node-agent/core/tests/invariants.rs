//! Invariants over random histories, and over a kill at every point of an undisturbed one.
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]
mod common;

use std::collections::BTreeSet;

use common::{BOOT, GPU, NEXT_BOOT, NIC, arrived, at, attempt, best, go, still_here};
use liveupdate_node_core::node::{
    BlockReason, Effect, End, Event, Evidence, Node, Nonce, Phase, Stage, StateName,
};
use liveupdate_node_core::outcome::{Facts, Outcome};
use proptest::prelude::*;

/// Every kind of event with a small choice of contents.
fn event(now: u64) -> impl Strategy<Value = Event> {
    let holder = prop_oneof![Just("vm-a"), Just("vm-b"), Just("stranger")];
    let address = prop_oneof![Just(GPU), Just(NIC), Just("0000:03:00.0"), Just("nowhere")];
    let facts = prop_oneof![Just(best()), Just(Facts::default())];
    let evidence = prop_oneof![
        3 => Just(arrived()),
        3 => Just(still_here()),
        1 => Just(Evidence { release: "6.1".into(), ..arrived() }),
        1 => Just(Evidence { nonce: Some(Nonce(1)), ..arrived() }),
        1 => Just(Evidence { boot_id: "boot-c".into(), ..arrived() }),
    ];
    prop_oneof![
        1 => Just(Event::Begin(Box::new(attempt()))),
        2 => Just(Event::Take(Box::new(attempt()))),
        1 => Just(Event::Clear),
        1 => Just(Event::Blocked(BlockReason::GateNotPassed, "because".into())),
        1 => Just(Event::Stage),
        1 => Just(Event::Staged),
        2 => Just(Event::Preserved),
        2 => Just(Event::Settled),
        3 => (0..=now).prop_map(|t| Event::Go(go(&attempt(), at(t)))),
        3 => Just(Event::Quiesced),
        3 => Just(Event::ShortListPassed),
        3 => Just(Event::IntentWritten),
        1 => Just(Event::Abort("a test".into())),
        1 => Just(Event::KernelRefused("EBUSY".into())),
        1 => Just(Event::Undone),
        1 => prop_oneof![Just(vec![]), Just(vec!["0000:03:00.0".to_owned()]), Just(vec![GPU.to_owned()])]
            .prop_map(|held| Event::StillHeld(held.into_iter().collect())),
        4 => holder.prop_map(|h| Event::HolderResumed(h.into())),
        4 => (address, facts).prop_map(|(a, facts)| Event::Device { address: a.into(), facts }),
        4 => evidence.prop_map(Event::Started),
        3 => Just(Event::Retrieved),
        1 => Just(Event::Confirm),
        1 => Just(Event::Persisted("a test".into())),
        1 => Just(Event::Release),
        2 => Just(Event::Tick),
    ]
}

/// What comes next when nothing goes wrong, so that random histories get far.
fn natural(node: &Node, now: u64) -> Event {
    match node {
        Node::Idle | Node::Ended(_) => Event::Take(Box::new(attempt())),
        Node::Thawing(thawing) if thawing.looks() => Event::StillHeld(BTreeSet::new()),
        Node::Thawing(thawing) => match thawing.waiting().first() {
            Some(holder) => Event::HolderResumed(holder.clone()),
            None => Event::Undone,
        },
        Node::Before(before) => match before.phase() {
            Phase::Preflight => Event::Clear,
            Phase::Queued => Event::Stage,
            Phase::Staging => Event::Staged,
            Phase::Preserving => Event::Preserved,
            Phase::Settling { settled: false } => Event::Settled,
            Phase::Settling { settled: true } => Event::Go(go(&attempt(), at(now))),
            Phase::Quiescing { .. } => Event::Quiesced,
            Phase::Committing { intent: false, .. } => Event::ShortListPassed,
            Phase::Committing { intent: true, .. } => Event::IntentWritten,
        },
        Node::After(after) => match after.stage() {
            Stage::Jumping => Event::Started(arrived()),
            Stage::Returned { .. } => Event::Retrieved,
            Stage::Reclaiming { waiting, .. } | Stage::Quarantined { waiting, .. } => {
                waiting.first().map_or(Event::Release, |holder| Event::HolderResumed(holder.clone()))
            }
            Stage::Verifying { .. } => Event::Confirm,
            Stage::Persisting { .. } => Event::Persisted("a test".into()),
        },
    }
}

/// What the journal loses on purpose.
fn without_leave(node: &Node) -> Node {
    Node::decode(&node.encode()).unwrap()
}

/// What must hold between any state and the next.
fn check(before: &Node, event: &Event, t: &liveupdate_node_core::node::Transition) {
    let after = &t.state;
    if t.refused.is_some() {
        assert_eq!((after, t.effects.as_slice()), (before, [].as_slice()), "a refusal changes nothing");
    }
    let jumps = t.effects.iter().any(|effect| matches!(effect, Effect::Jump { .. }));
    if jumps {
        let Node::Before(from) = before else { panic!("invariant 2: jump from {}", before.name()) };
        assert!(
            matches!(from.phase(), Phase::Committing { go: Some(_), intent: true }),
            "invariant 2: jump without receipt, permission and intent"
        );
    }
    if after.name() == StateName::Jumping && before.name() != StateName::Jumping {
        assert!(jumps);
    }
    if t.effects.contains(&Effect::FinishSessions) {
        let all_resumed = match before {
            Node::After(b) => match b.stage() {
                Stage::Reclaiming { waiting, .. } | Stage::Quarantined { waiting, .. } => {
                    waiting.len() == 1 && matches!(event, Event::HolderResumed(h) if waiting.contains(h))
                }
                Stage::Verifying { .. } => true,
                Stage::Returned { .. } => b.attempt().handed_over().is_empty(),
                _ => false,
            },
            _ => false,
        };
        assert!(all_resumed, "invariant 8: FINISH before every holder resumed, in {}", before.name());
    }
    if t.effects.contains(&Effect::ReleaseCustody) {
        assert!(before.name() == StateName::Quarantined && *event == Event::Release, "invariant 8");
    }
    if t.effects.contains(&Effect::Unpreserve) {
        let undoing = after.name() == StateName::Thawing;
        assert!(undoing, "invariant 8: custody is undone only while holders have their own files");
    }
    if let Node::Ended(ended) = after {
        let scope: BTreeSet<_> = ended.attempt.devices.iter().map(|d| d.address.clone()).collect();
        let got: BTreeSet<_> = ended.outcomes.devices().keys().cloned().collect();
        assert_eq!(scope, got, "invariant 3");
        for settled in ended.outcomes.devices().values() {
            match settled.facts {
                Some(facts) => assert_eq!(settled.outcome, facts.outcome(), "invariant 3"),
                None => assert!(matches!(settled.outcome, Outcome::Stopped | Outcome::Untouched)),
            }
        }
        if ended.end == End::Updated {
            let proof = ended.proof.as_ref().expect("updated only with proof");
            assert!(proof.boot_id() != BOOT && proof.release() == "7.3.5" && proof.nonce_returned());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Invariants 2, 3, 5 (one jump per attempt) and 8, with a journal that is read back now and then.
    #[test]
    fn invariants_2_3_5_8_hold_over_any_history(
        history in prop::collection::vec((0u64..40_000, 0u8..4, prop::option::weighted(0.4, event(40_000))), 0..60)
    ) {
        let (mut node, mut now, mut jumps) = (Node::Idle, 0, 0);
        for (pause, killed, event) in history {
            let event = event.unwrap_or_else(|| natural(&node, now));
            now += if killed == 1 { pause } else { 10 };
            if killed == 0 {
                node = without_leave(&node);
            }
            if matches!(event, Event::Begin(_) | Event::Take(_)) && node.is_free() {
                jumps = 0;
            }
            let before = node.clone();
            let t = node.step(event.clone(), at(now));
            check(&before, &event, &t);
            jumps += t.effects.iter().filter(|e| matches!(e, Effect::Jump { .. })).count();
            prop_assert!(jumps <= 1, "invariant 5: an attempt jumps at most once");
            node = t.state;
            let read = without_leave(&node);
            prop_assert_eq!(read.encode(), node.encode(), "the journal holds the state");
            if !matches!(&node, Node::Before(b)
                if matches!(b.phase(), Phase::Quiescing { .. } | Phase::Committing { .. })) {
                prop_assert_eq!(&read, &node);
            }
        }
    }
}

/// A world that carries out effects faithfully: which events answer an effect, and whether the kernel is
/// another one afterwards.
#[derive(Default)]
struct World {
    jumped: bool,
    disk: String,
}

impl World {
    fn evidence(&self) -> Evidence {
        if self.jumped { arrived() } else { still_here() }
    }

    fn carry_out(&mut self, effect: Effect) -> Vec<Event> {
        match effect {
            Effect::ReadGates => vec![Event::Clear, Event::Stage],
            Effect::LoadImage => vec![Event::Staged],
            Effect::Preserve => vec![Event::Preserved],
            Effect::Settle => vec![Event::Settled],
            Effect::MakeReceipt => vec![Event::Go(go(&attempt(), at(0)))],
            Effect::QuiesceHolders => vec![Event::Quiesced],
            Effect::ReadShortList => vec![Event::ShortListPassed],
            Effect::WriteIntent => vec![Event::IntentWritten],
            Effect::Jump { .. } => {
                self.jumped = true;
                vec![Event::Started(arrived())]
            }
            Effect::ResumeHolders | Effect::GrantHolders => ["vm-a", "vm-b"]
                .into_iter()
                .zip([GPU, NIC])
                .flat_map(|(holder, device)| {
                    [
                        Event::Device { address: device.into(), facts: best() },
                        Event::HolderResumed(holder.into()),
                    ]
                })
                .collect(),
            Effect::SeeStopped => vec![Event::StillHeld(BTreeSet::new())],
            Effect::ReportUndone => vec![Event::Undone],
            Effect::RetrieveSessions => vec![Event::Retrieved],
            Effect::FinishSessions => vec![Event::Confirm],
            Effect::Persist => vec![Event::Persisted("a test".into())],
            _ => vec![],
        }
    }
}

/// Runs to the end; the `kill`-th chance to be killed is taken: after a state is on disk and before its
/// effects, or after an effect and before its answer is heard. `sick`: what needs no record comes onto no disk. Returns the
/// end, whether the kernel was replaced, and the chances there were.
fn life(kill: usize, sick: bool) -> (Node, bool, usize) {
    let mut world = World::default();
    let mut chances = 0;
    let mut queue: std::collections::VecDeque<Event> = [Event::Begin(Box::new(attempt()))].into();
    let mut node = Node::Idle;
    world.disk = node.encode();
    while let Some(event) = queue.pop_front() {
        let before = node.clone();
        let t = node.clone().step(event.clone(), at(0));
        check(&before, &event, &t);
        node = t.state;
        // The last state that is on disk when the kernel is replaced is the intent: filesystems are frozen.
        if node.name() != StateName::Jumping && (node.needs_record() || event.is_order() || !sick) {
            world.disk = node.encode();
        }
        let mut killed = false;
        for effect in [None].into_iter().chain(t.effects.into_iter().map(Some)) {
            let answers = effect.map(|effect| world.carry_out(effect)).unwrap_or_default();
            chances += 1;
            if chances == kill {
                killed = true;
                break;
            }
            queue.extend(answers);
        }
        if killed {
            node = Node::decode(&world.disk).unwrap();
            // Nobody but a dead process had heard of an attempt that is not on disk.
            queue = [Event::Started(world.evidence())].into();
        }
        // An end that is not on record is asked for again by the controller; a waiting state is stirred.
        if queue.is_empty() && matches!(node.name(), StateName::Queued) {
            queue.push_back(Event::Stage);
        }
    }
    (node, world.jumped, chances)
}

#[test]
fn invariant_6_killed_anywhere_the_end_is_the_same_or_explicit() {
    for sick in [false, true] {
        killed_anywhere(sick);
    }
}

fn killed_anywhere(sick: bool) {
    let (undisturbed, _, chances) = life(usize::MAX, sick);
    assert_eq!(undisturbed.name(), StateName::Updated);
    assert_eq!(undisturbed.proof().unwrap().boot_id(), NEXT_BOOT);
    let (mut same, mut explicit) = (0, 0);
    for kill in 1..=chances {
        let (node, jumped, _) = life(kill, sick);
        match &node {
            Node::Ended(ended) if ended.end == End::Updated => same += 1,
            Node::Ended(ended) => {
                assert!(!ended.message.is_empty() && ended.end == End::Aborted, "kill {kill}: {ended:?}");
                assert!(!jumped, "kill {kill}: a node that runs the target says that nothing happened");
                explicit += 1;
            }
            node => panic!("kill {kill} leaves the node {}", node.name()),
        }
    }
    assert!(same > explicit && explicit > 0, "{same} the same, {explicit} aborted, of {chances}");
}
