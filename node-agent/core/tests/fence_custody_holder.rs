//! Fencing (invariant 5), custody (invariant 8) and the handover with a holder.
#![allow(missing_docs, clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};

use liveupdate_node_core::Epoch;
use liveupdate_node_core::custody::{Claim, Custody, Phase, Refusal as Kept};
use liveupdate_node_core::fence::{Accepted, Call, Fence, Refusal};
use liveupdate_node_core::holder::{Cause, Effect, Event, State};
use proptest::prelude::*;

fn epoch(counter: u64) -> Epoch {
    Epoch { cluster: "home".into(), counter }
}

#[test]
fn invariant_5_an_older_epoch_and_another_cluster_are_refused() {
    let mut fence = Fence::default();
    assert_eq!(fence.check(&epoch(3), Call::Look), Ok(Accepted::Look));
    assert_eq!(fence.check(&epoch(2), Call::Look), Err(Refusal::Stale { highest: 3, found: 2 }));
    assert_eq!(fence.check(&epoch(3), Call::Look), Ok(Accepted::Look));
    assert_eq!(fence.check(&epoch(5), Call::Look), Ok(Accepted::Look));
    let foreign = Epoch { cluster: "away".into(), counter: 99 };
    assert!(matches!(fence.check(&foreign, Call::Look), Err(Refusal::ForeignCluster { .. })));
    assert_eq!(fence.highest(), Some(&epoch(5)));
    assert_eq!(fence.check(&epoch(0), Call::Look), Err(Refusal::NoEpoch));
    assert_eq!(fence.check(&epoch(5), Call::Begin("")), Err(Refusal::NoAttempt));
    fence.enrol("home");
    assert_eq!(fence.highest(), Some(&epoch(5)), "enrolling with the same cluster forgets nothing");
    fence.enrol("away");
    assert_eq!(fence.check(&foreign, Call::Look), Ok(Accepted::Look));
    assert!(fence.check(&epoch(100), Call::Look).is_err());
}

#[test]
fn invariant_5_joining_a_running_attempt_is_told_from_repeating_an_ended_one() {
    let mut fence = Fence::default();
    assert_eq!(fence.check(&epoch(1), Call::About("a")), Ok(Accepted::NeverRan));
    assert_eq!(fence.check(&epoch(1), Call::Begin("a")), Ok(Accepted::New));
    assert_eq!(fence.check(&epoch(1), Call::Begin("a")), Ok(Accepted::Running));
    assert!(matches!(fence.check(&epoch(1), Call::Begin("b")), Err(Refusal::OtherAttempt { .. })));
    fence.ended();
    assert_eq!(fence.check(&epoch(1), Call::About("a")), Ok(Accepted::Ended));
    assert_eq!(fence.check(&epoch(1), Call::Begin("a")), Err(Refusal::Repeated("a".into())));
    assert_eq!(fence.check(&epoch(1), Call::Begin("b")), Ok(Accepted::New));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Whatever is said in whatever order, with a restart at any point: no attempt begins twice, and no
    /// lower epoch passes.
    #[test]
    fn invariant_5_an_attempt_runs_at_most_once(
        calls in prop::collection::vec((1u64..5, 0usize..4, 0u8..4, any::<bool>()), 0..60)
    ) {
        let names = ["a", "b", "c d%", "e\n"];
        let (mut fence, mut begun, mut highest) = (Fence::default(), BTreeSet::new(), 0);
        for (counter, name, what, restart) in calls {
            if restart {
                let read = Fence::decode(&fence.encode()).unwrap();
                prop_assert_eq!(&read, &fence);
                fence = read;
            }
            let call = match what {
                0 => Call::Look,
                1 => Call::About(names[name]),
                2 => Call::Begin(names[name]),
                _ => { fence.ended(); continue; }
            };
            let before = fence.clone();
            match fence.check(&epoch(counter), call) {
                Ok(accepted) => {
                    prop_assert!(counter >= highest);
                    highest = counter;
                    if accepted == Accepted::New {
                        prop_assert!(begun.insert(name), "{} began twice", names[name]);
                    }
                }
                Err(_) => prop_assert_eq!(&fence, &before, "a refusal changes nothing"),
            }
        }
    }

    /// Dropped is only what its holder has, or what an operator gave up.
    #[test]
    fn invariant_8_nothing_is_dropped_while_its_holder_may_come(
        calls in prop::collection::vec((0u8..12, 0usize..3, any::<bool>()), 0..80)
    ) {
        let names = ["vm a", "vm-b", ""];
        let mut custody = Custody::default();
        // What only custody has: taken, jumped, and neither resumed nor released.
        let mut only_ours: BTreeMap<&str, bool> = BTreeMap::new();
        for (what, name, restart) in calls {
            if restart {
                let read = Custody::decode(&custody.encode()).unwrap();
                prop_assert_eq!(&read, &custody);
                custody = read;
            }
            let (holder, before) = (names[name], custody.clone());
            let mut dropped: Vec<String> = Vec::new();
            let mut operator = false;
            let ok = match what {
                0 => custody.take(holder, vec![1, 2]).map(|()| { only_ours.insert(holder, false); }),
                1 => custody.unpreserve().map(|drops| dropped.extend(drops.iter().map(|d| d.holder().to_owned()))),
                2 | 3 => custody.commit(),
                4 => custody.refused(),
                5 | 6 => custody.jumped().map(|()| only_ours.values_mut().for_each(|ours| *ours = true)),
                7 => custody.grant(holder).map(|_| ()),
                8 => custody.resumed(holder).map(|()| { only_ours.insert(holder, false); }),
                9 => custody.finish(holder).map(|drop| dropped.push(drop.holder().to_owned())),
                10 => custody.quarantine(),
                _ => custody.release().map(|drops| {
                    operator = true;
                    dropped.extend(drops.iter().map(|d| d.holder().to_owned()));
                }),
            };
            if ok.is_err() {
                prop_assert_eq!(&custody, &before, "a refusal changes nothing");
            }
            prop_assert!(!operator || before.phase() == Phase::Quarantined);
            for holder in &dropped {
                let ours = only_ours.remove(holder.as_str());
                prop_assert!(operator || ours == Some(false), "{holder:?} was dropped in {:?}", before.phase());
            }
            let kept: BTreeSet<_> = custody.kept().keys().map(String::as_str).collect();
            let expected: BTreeSet<_> = only_ours.keys().copied().collect();
            prop_assert_eq!(kept, expected, "nothing is forgotten");
        }
    }

    /// Whatever a holder does: it is told to stop only when preserved, and told to go on whenever it may
    /// stand still; what goes wrong before the jump aborts for all; nothing does after it.
    #[test]
    fn a_holder_that_may_stand_still_is_told_to_go_on(
        events in prop::collection::vec(0u8..14, 0..40), after_jump in any::<bool>()
    ) {
        let mut state = if after_jump { State::Pending } else { State::Connected };
        for event in events {
            let event = match event {
                0 => Event::Declare,
                1 => Event::Preserve,
                2 => Event::Preserved,
                3 => Event::Quiesce,
                4 | 5 => Event::Quiesced { interrupts_off: event == 4 },
                6 => Event::Commit,
                7 => Event::Undo("why".into()),
                8 => Event::Resumed,
                9 => Event::Late,
                10 => Event::Gone,
                11 => Event::Reclaim,
                12 => Event::Attached,
                _ => Event::Declare,
            };
            let t = state.step(event.clone());
            if t.refused {
                prop_assert!(t.state == state && t.effects.is_empty());
            }
            if t.effects.contains(&Effect::SendQuiesce) {
                prop_assert_eq!(state, State::Preserved);
            }
            if matches!(event, Event::Undo(_)) && state.may_stand_still() {
                prop_assert!(t.effects.contains(&Effect::SendResume("why".into())));
            }
            if t.effects.contains(&Effect::Finish) {
                prop_assert!(event == Event::Resumed && state == State::Attached, "invariant 8");
            }
            let aborts = t.effects.iter().any(|e| matches!(e, Effect::AbortAll(_)));
            prop_assert!(!(aborts && after_jump), "nothing is given up after the jump");
            state = t.state;
        }
    }
}

#[test]
fn late_and_gone_answers_abort_for_all() {
    for state in [State::Preserving, State::Quiescing] {
        assert_eq!(state.step(Event::Late).effects, [Effect::AbortAll(Cause::Late(state))]);
    }
    for state in [State::Preserving, State::Preserved, State::Quiescing, State::Quiesced] {
        let t = state.step(Event::Gone);
        assert_eq!((t.state, t.effects), (State::Gone, vec![Effect::AbortAll(Cause::Gone(state))]));
        assert_eq!(state.step(Event::Declare).effects, [Effect::AbortAll(Cause::Changed(state))]);
    }
    let t = State::Quiescing.step(Event::Quiesced { interrupts_off: false });
    assert_eq!(t.effects, [Effect::AbortAll(Cause::InterruptsOn)]);
    // Its guest runs again: not to be jumped with.
    let t = State::Committed.step(Event::Gone);
    assert_eq!(
        (t.state, t.effects.as_slice()),
        (State::Gone, &[Effect::AbortAll(Cause::Gone(State::Committed))][..])
    );
}

#[test]
fn a_holder_goes_the_whole_way_and_may_die_while_it_reclaims() {
    let go = |state: State, events: &[Event]| {
        events.iter().fold(state, |state, event| {
            let t = state.step(event.clone());
            assert!(!t.refused, "{event:?} in {state:?}");
            t.state
        })
    };
    use Event::{Attached, Commit, Declare, Gone, Preserve, Preserved, Quiesce, Quiesced, Reclaim, Resumed};
    let quiesced = Quiesced { interrupts_off: true };
    let before = [Declare, Declare, Preserve, Preserved, Quiesce, quiesced, Commit];
    assert_eq!(go(State::Connected, &before), State::Committed);
    let after = [Reclaim, Gone, Reclaim, Reclaim, Attached, Gone, Reclaim, Attached, Resumed, Resumed];
    assert_eq!(go(State::Pending, &after), State::Done);
    assert!(State::Granted.step(Resumed).refused, "no FINISH for a holder that has not attached");
}

#[test]
fn invariant_8_only_an_operators_word_releases_and_only_from_quarantine() {
    let mut custody = Custody::default();
    custody.take("vm", vec![7]).unwrap();
    assert_eq!(custody.take("vm", vec![8]), Err(Kept::Repeated("vm".into())));
    custody.commit().unwrap();
    assert!(custody.unpreserve().is_err() && custody.release().is_err());
    custody.jumped().unwrap();
    assert!(custody.unpreserve().is_err() && custody.release().is_err());
    assert_eq!(custody.finish("vm"), Err(Kept::NotResumed("vm".into())));
    assert_eq!(custody.resumed("vm"), Err(Kept::NotResumed("vm".into())), "it was never given them");
    assert_eq!(custody.grant("vm").unwrap(), [7]);
    assert_eq!(custody.grant("vm").unwrap(), [7], "repeatable until Resumed");
    assert!(custody.finish("vm").is_err());
    custody.quarantine().unwrap();
    assert_eq!(custody.kept()["vm"].claim, Claim::Granted);
    let mut late = custody.clone();
    late.resumed("vm").unwrap();
    assert_eq!(late.finish("vm").unwrap().tokens(), [7]);
    assert_eq!(custody.release().unwrap().len(), 1);
    assert_eq!(custody.phase(), Phase::Empty);
}
