//! The model world's short cuts change nothing but the time that it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use liveupdate_planner::simulation::{Behaviour, Fault, Machine, World};
use liveupdate_planner::{
    Amount, Node, OnBlocked, OnFailure, Policy, Reason, Selector, Spec, Step, Strategy, Time, Update,
    UpdateRecord,
};

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
    let step = |name: &str, nodes, bake, cover_device_model| Step {
        name: name.into(),
        nodes,
        cover_device_model,
        bake: Duration::from_secs(bake),
        approval: false,
    };
    let spec = Spec {
        selector: Selector::default(),
        include_joining: false,
        release: "9.1".into(),
        digest: "sha256:9.1".into(),
        revision: "aaaa1111".into(),
        acknowledge: BTreeSet::new(),
        strategy: Strategy {
            max_unavailable: Amount::Percent(20),
            order: vec![],
            max_failures: Amount::Count(9),
            on_failure: OnFailure::Pause,
            on_blocked,
            dry_run: false,
            steps: vec![
                step("canary", Amount::Count(1), 60, true),
                step("rest", Amount::Percent(100), 0, false),
            ],
        },
        return_deadline: Duration::from_mins(5),
        verify_deadline: Duration::from_mins(5),
        prepare_deadline: Duration::from_mins(10),
        blackout_budget: None,
        paused: false,
    };
    world.apply_update(Update {
        name: "up".into(),
        uid: "uid-of-up".into(),
        created: Time(0),
        deleting: false,
        has_finalizer: false,
        spec: Ok(spec),
        verbs: vec![],
        record: UpdateRecord::default(),
    });
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
