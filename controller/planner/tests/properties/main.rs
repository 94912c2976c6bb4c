//! Properties of the planner over random fleets and random events: agents progress, die and block; nodes
//! vanish and come; people pause, hold, abort, retry, skip, edit and delete; actions fail; the controller is
//! killed and plans from what is durable alone.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod checks;
#[path = "../common/mod.rs"]
mod common;
mod events;

use events::{Event, Scenario, play};
use liveupdate_planner::simulation::Machine;
use liveupdate_planner::{NodeClass, Reason, Time};
use proptest::prelude::*;

use std::time::Duration;

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariants 1, 4, 5, 9 and 10 hold for every plan that is made on the way, whatever fails.
    #[test]
    fn invariants_1_4_5_9_10_hold_in_every_pass(scenario in events::scenario()) {
        let world = play(&scenario);
        prop_assert!(world.violations.is_empty(), "{:?}", world.violations);
    }

    /// Invariant 6: whatever happened before, once everything is mended every run comes to an end and
    /// leaves nothing behind, and a completed run has every node on its target.
    #[test]
    fn invariant_6_every_run_comes_to_its_end_once_all_is_mended(scenario in events::scenario()) {
        let mut world = play(&scenario);
        events::mend(&mut world);
        let until = world.now.after(Duration::from_hours(6));
        let rests = world.pass_time(until, checks::check);
        prop_assert!(rests, "the plan does not come to rest");
        let report = world.plan().report;
        for update in &world.snapshot.updates {
            let said = &report.updates[&update.name];
            let over = update.record.finished.is_some();
            // A count of nodes that are not there is the one thing that mending does not mend.
            let explicit = matches!(said.progress, Some(Reason::CanaryTooSmall | Reason::NoNodes));
            prop_assert!(over || explicit, "{}: {said:?}\n{:?}", update.name, report.nodes);
            prop_assert!(update.record.in_flight.is_empty(), "{}: {:?}", update.name, update.record);
            prop_assert!(!update.has_finalizer, "{} keeps its finalizer", update.name);
        }
        for node in &world.snapshot.nodes {
            prop_assert!(node.mark.is_none(), "{} keeps the mark {:?}", node.name, node.mark);
        }
        for machine in &world.machines {
            prop_assert!(machine.attempt().is_none(), "an agent is left with {:?}", machine.attempt());
        }
        prop_assert!(world.violations.is_empty(), "{:?}", world.violations);
    }

    /// The same snapshot gives the same plan, and nothing but time and the world changes it.
    #[test]
    fn planning_is_a_function(scenario in events::scenario()) {
        let mut world = play(&scenario);
        let (first, second) = (world.plan(), world.plan());
        prop_assert_eq!(first.actions, second.actions);
        prop_assert_eq!(first.report, second.report);
        prop_assert_eq!(first.wake, second.wake);
    }

    /// Invariant 6 in small: a controller that is killed every few passes gets as far as one that is not.
    /// Three passes it needs at a stretch: verdicts are volatile, and the finalizer comes before admission.
    #[test]
    fn invariant_6_killed_every_few_passes_a_run_completes_all_the_same(
        every in 3_u64..6,
        nodes in 1_u32..6,
        strategy in events::strategy(),
    ) {
        let scenario = Scenario { nodes, first: strategy, second: None, events: vec![] };
        let mut world = play(&scenario);
        for _ in 0..5_000 {
            let plan = world.plan();
            checks::check(&world, &plan);
            world.carry_out(&plan);
            if !world.passes.is_multiple_of(every) {
                continue;
            }
            world.crash();
            // It is started again at once: time goes to the next thing that happens on a node.
            let next = world.machines.iter().filter_map(Machine::due).min();
            world.now = next.map_or(world.now, |next| next.max(world.now));
            world.now = Time(world.now.0 + 1_000);
            world.go_on();
            if world.snapshot.updates[0].record.finished.is_some() {
                break;
            }
        }
        let said = world.plan().report;
        let explicit = said.updates["first"].progress == Some(Reason::CanaryTooSmall);
        let updated = said.nodes.values().filter(|node| node.class == NodeClass::Updated).count();
        prop_assert!(explicit || updated == nodes as usize, "{said:?}");
        prop_assert!(world.violations.is_empty(), "{:?}", world.violations);
    }
}

#[test]
fn the_events_reach_what_they_are_for() {
    let events = vec![Event::Tick(60), Event::Crash, Event::Tick(600)];
    let scenario = Scenario { nodes: 3, first: events::Strategies::default(), second: None, events };
    let world = play(&scenario);
    let finished = world.snapshot.updates[0].record.finished.expect("the run is over");
    assert_eq!(finished.reason, Reason::Completed);
}
