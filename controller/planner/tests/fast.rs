//! The model world's short cuts change nothing but the time that it takes.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liveupdate_planner::simulation::{Behaviour, Fault, Machine, World};
use liveupdate_planner::{Amount, Node, OnBlocked, Policy, Reason, Step, Time};

/// Forty nodes of all kinds, some with faults.
fn world(on_blocked: OnBlocked) -> World {
    let mut world = World::new(Time(0), Policy::default());
    let faults = [Fault::Aborts, Fault::WrongKernel, Fault::Silent, Fault::Fails(Reason::KernelRefused)];
    for number in 0..40_u32 {
        let behaviour = Behaviour {
            models: BTreeSet::from([format!("10de:{:04x}", number % 3)]),
            prepare: Duration::from_secs(u64::from(20 + number % 4)),
            blocked: (number == 9).then(|| (Reason::GateNotPassed, "no keeper".into())),
            fault: if number > 30 { faults.get(number as usize - 31).copied() } else { None },
            ..Behaviour::default()
        };
        let release = if number == 5 { "9.1" } else { "9.0" };
        world.join(&format!("n{number:02}"), release, BTreeMap::new(), behaviour);
    }
    let mut spec = common::spec("aaaa1111");
    spec.strategy.max_unavailable = Amount::Percent(20);
    spec.strategy.max_failures = Amount::Count(9);
    spec.strategy.on_blocked = on_blocked;
    let canary = Step {
        cover_device_model: true,
        bake: Duration::from_secs(60),
        ..common::step("canary", Amount::Count(1))
    };
    spec.strategy.steps = vec![canary, common::step("rest", Amount::Percent(100))];
    world.apply_update(common::update("up", Time(0), spec));
    world
}

#[test]
fn a_world_that_settles_fast_goes_the_same_way() {
    for on_blocked in [OnBlocked::Wait, OnBlocked::Skip, OnBlocked::Fail] {
        let (mut slow, mut fast) = (world(on_blocked), world(on_blocked));
        for _ in 0..200 {
            let mut wake = None;
            assert!(slow.settle(|_, plan| wake = plan.wake));
            assert!(fast.settle_fast(|_, _| {}));
            assert_eq!(slow.now, fast.now);
            for (slow, fast) in slow.snapshot.nodes.iter().zip(&fast.snapshot.nodes) {
                let of = |node: &Node| (node.record.clone(), node.mark.clone(), node.agent.clone());
                assert_eq!(of(slow), of(fast), "{on_blocked:?}: {}", slow.name);
            }
            assert_eq!(slow.snapshot.updates[0].record, fast.snapshot.updates[0].record);
            assert_eq!(slow.writes, fast.writes);
            let due = slow.machines.iter().filter_map(Machine::due).min();
            let Some(next) = [wake, due].into_iter().flatten().min() else { break };
            for world in [&mut slow, &mut fast] {
                world.now = next;
                world.go_on();
            }
        }
        assert!(fast.passes < slow.passes);
        assert!(slow.snapshot.nodes.iter().filter(|node| node.release == "9.1").count() > 30);
    }
}
